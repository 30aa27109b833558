//! What the record tells of an earlier run, for those who undo or settle it.

use std::collections::HashSet;

use crate::{
    base::secret::HIDDEN,
    cli::Global,
    model::{
        event::{Event, RunOpened},
        ids::{HostName, RunId},
    },
    record::Store,
};

/// What the record tells of a run.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) opened: Option<RunOpened>,
    /// The hosts on which it did something.
    pub(crate) touched: HashSet<HostName>,
}

impl Told {
    /// The record of another controller may know nothing.
    pub(crate) fn of(run: &RunId, global: &Global) -> Told {
        let mut told = Told::default();
        let Ok(store) = Store::open_read_only(&global.store()) else { return told };
        let _nothing_is_known_then = store.each_entry_of(run, |entry| {
            match entry.event().map(|stamped| stamped.event) {
                Some(Event::RunOpened(opened)) => told.opened = Some(*opened),
                Some(Event::DeedDone { host, .. }) => drop(told.touched.insert(host)),
                _ => {}
            }
            Ok(())
        });
        told
    }

    /// Whether it may have been given secrets, which nobody knows any more. What an undo undoes, it may have held, too.
    pub(crate) fn had_secrets(&self, global: &Global) -> bool {
        let Some(opened) = &self.opened else { return true };
        let was_given = opened.params.values().any(|value| value == HIDDEN);
        was_given || opened.undoes.as_ref().is_some_and(|of| Told::of(of, global).had_secrets(global))
    }
}
