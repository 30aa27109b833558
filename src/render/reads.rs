//! What a rendering takes from its host: hosts for which that is the same get the same.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::model::{inventory::Host, node::Node};

/// Notes what renderings take from their host. Clones note in one place.
#[derive(Clone, Default)]
pub struct Reads(Arc<Mutex<Noted>>);

#[derive(Default)]
struct Noted {
    is_its_own: bool,
    vars: BTreeMap<String, Option<Arc<Node>>>,
}

impl Reads {
    /// Something was taken that no other host has: its name, a fact, a result.
    pub(super) fn note_own(&self) {
        self.noted().is_its_own = true;
    }

    /// A variable was looked for in the inventory; `None` where the host has none of this name.
    pub(super) fn note_variable(&self, name: &str, value: Option<&Arc<Node>>) {
        let mut noted = self.noted();
        if !noted.vars.contains_key(name) {
            noted.vars.insert(name.to_owned(), value.cloned());
        }
    }

    /// All that was taken; `None` if it can be no other host's.
    pub fn inputs(&self) -> Option<Inputs> {
        let noted = self.noted();
        (!noted.is_its_own).then(|| Inputs(noted.vars.clone()))
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All that renderings took from their host: variables of the inventory.
pub struct Inputs(BTreeMap<String, Option<Arc<Node>>>);

impl Inputs {
    /// Whether the same renderings give the same for this host.
    pub fn are_those_of(&self, host: &Host) -> bool {
        self.0.iter().all(|(name, value)| match (value, host.vars.get(name)) {
            (Some(value), Some(other)) => Arc::ptr_eq(value, other) || value == other,
            (None, None) => true,
            _ => false,
        })
    }
}
