//! What was rendered while mistakes were looked for, kept for the run that follows: what runs is what was found right,
//! each step is rendered once for a host, and one that takes the same from several hosts once for all of them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    engine::task::Prepared,
    model::{ids::HostName, inventory::Host},
    render::{Inputs, Reads},
};

/// Items that are kept, for all hosts together. What is beyond that is rendered anew, each in its turn, so that memory
/// does not grow with the number of hosts.
const DRAFTS_MAX: usize = 10_000;

/// Inputs of a step for which it is kept for all hosts that have the same.
const VARIANTS_MAX: usize = 8;

/// Rendered steps.
#[derive(Default)]
pub struct Drafts(Mutex<Kept>);

/// A step as rendered from what several hosts may have.
type Variant = (Inputs, Arc<[Prepared]>);

#[derive(Default)]
struct Kept {
    /// By host and step.
    own: HashMap<HostName, HashMap<u32, Vec<Prepared>>>,
    /// By step.
    common: HashMap<u32, Vec<Variant>>,
    items: usize,
}

impl Kept {
    fn common(&self, host: &Host, step: u32) -> Option<&Arc<[Prepared]>> {
        let variants = self.common.get(&step)?;
        variants.iter().find(|(inputs, _)| inputs.are_those_of(host)).map(|(_, items)| items)
    }
}

impl Drafts {
    /// Keeps a step of a host, if there is room, with what it was rendered from. One whose name waits for what only the
    /// host can tell is not kept, nor what was rendered elsewhere meanwhile for a host that has the same.
    pub(super) fn keep(&self, host: &Host, step: u32, items: Vec<Prepared>, reads: &Reads) {
        let mut kept = self.kept();
        let is_named = items.iter().all(|item| item.is_named);
        if !is_named || kept.items + items.len() > DRAFTS_MAX || kept.common(host, step).is_some() {
            return;
        }
        kept.items += items.len();
        let variants = kept.common.entry(step).or_default();
        match (variants.len() < VARIANTS_MAX).then(|| reads.inputs()).flatten() {
            Some(inputs) => variants.push((inputs, items.into())),
            None => drop(kept.own.entry(host.name.clone()).or_default().insert(step, items)),
        }
    }

    /// Whether a step was rendered from what this host has, too.
    pub(super) fn has_common(&self, host: &Host, step: u32) -> bool {
        self.kept().common(host, step).is_some()
    }

    /// Gives back what was kept for a host, once.
    pub(super) fn take(&self, host: &Host, step: u32) -> Option<Vec<Prepared>> {
        let mut kept = self.kept();
        if let Some(items) = kept.own.get_mut(&host.name).and_then(|steps| steps.remove(&step)) {
            kept.items -= items.len();
            return Some(items);
        }
        let common = kept.common(host, step).cloned();
        drop(kept);
        common.map(|items| items.to_vec())
    }

    /// How many items are kept. Each was rendered once.
    pub fn len(&self) -> usize {
        self.kept().items
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::task::Work,
        model::{
            event::StepLabel,
            ids::TaskNo,
            inventory::{Connection, HostVars},
        },
    };

    fn host(name: &str) -> Host {
        Host { name: name.into(), groups: [].into(), vars: HostVars::default(), connection: Connection::default() }
    }

    fn item() -> Prepared {
        let (no, name, kind) = (TaskNo { step: 0, item: 0 }, "a step".to_owned(), "file".to_owned());
        let label = StepLabel { no, name, kind, place: String::new(), sensitive: false, handler: false };
        Prepared { label: label.into(), is_named: true, item: None, work: Work::Skip(String::new()) }
    }

    #[test]
    fn what_is_rendered_for_two_side_by_side_is_kept_once() {
        let drafts = Drafts::default();
        for name in ["a", "b"] {
            drafts.keep(&host(name), 0, vec![item()], &Reads::default());
        }
        assert_eq!(drafts.len(), 1);
        assert!(drafts.take(&host("c"), 0).is_some(), "it is for everyone");
    }
}
