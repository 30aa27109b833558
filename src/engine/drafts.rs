//! What was rendered while mistakes were looked for, kept for the run that follows: each step is rendered once for a
//! host, and what runs is what was found right.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{engine::task::Prepared, model::ids::HostName};

/// Items that are kept, for all hosts together. The hosts beyond that are rendered anew, each in its turn, so that memory
/// does not grow with their number.
const DRAFTS_MAX: usize = 10_000;

/// Rendered steps by host.
#[derive(Default)]
pub struct Drafts(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    hosts: HashMap<HostName, HashMap<u32, Vec<Prepared>>>,
    items: usize,
}

impl Drafts {
    /// Keeps a step of a host, if there is room. One whose name waits for what only the host can tell is not kept.
    pub(super) fn keep(&self, host: &HostName, step: u32, items: Vec<Prepared>) {
        let mut kept = self.kept();
        if kept.items + items.len() <= DRAFTS_MAX && items.iter().all(|item| item.is_named) {
            kept.items += items.len();
            kept.hosts.entry(host.clone()).or_default().insert(step, items);
        }
    }

    /// Gives back what was kept, once.
    pub(super) fn take(&self, host: &HostName, step: u32) -> Option<Vec<Prepared>> {
        let mut kept = self.kept();
        let items = kept.hosts.get_mut(host)?.remove(&step)?;
        kept.items -= items.len();
        Some(items)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
