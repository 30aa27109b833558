//! Where the way back of one deed leads, given how its resource is now: the same for the undo of a run that fails, of
//! one that was cut off, and of one that is settled.

use std::collections::HashMap;

use crate::{
    base::ByteText,
    model::{
        change::{Act, Change, Deed},
        event::Undone,
        state::{PathState, Resource, State},
    },
    resources::{self, path, service::Unit},
    target::{
        Probe,
        journal::{Entry, Status},
    },
};

/// Where it leads.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// It is as it was before.
    Before,
    /// It is to be brought back, from this state.
    Back(State),
    /// Someone else has changed it.
    Drifted(String),
}

/// Where the way back of a change leads whose resource is in the state `now`. `earlier` are the states that it had
/// before earlier deeds of the run.
pub(super) fn from<'s>(
    now: State,
    entry: &Entry,
    status: &Status,
    change: &Change,
    mut earlier: impl Iterator<Item = &'s State>,
) -> Step {
    let Change { resource: _, before, after } = change;
    let is_as = |state: &State| resources::differences(&now, state).is_empty();
    let differs = resources::differences(after, &now);
    if is_as(before) || !differs.is_empty() && earlier.any(is_as) {
        return Step::Before;
    }
    if differs.is_empty() || may_be_ours(entry, status, before, after, &now) {
        return Step::Back(now);
    }
    let told: Vec<String> = differs.iter().map(|d| format!("{}: {} → {}", d.attribute, d.before, d.after)).collect();
    Step::Drifted(told.join("; "))
}

impl Step {
    /// The same, unless it would lead away from a directory in which there is something. `list` tells what is in one.
    pub(super) fn unless_it_holds(
        self,
        change: &Change,
        list: impl FnOnce(&ByteText) -> Option<Vec<ByteText>>,
    ) -> Step {
        let is_directory = |state: &State| matches!(state, State::Path(PathState::Directory { .. }));
        match (&self, &change.resource) {
            (Step::Back(now), Resource::Path(path)) if is_directory(now) && !is_directory(&change.before) => {
                match list(path).as_deref() {
                    Some([stranger, ..]) => Step::Drifted(format!("it now holds {stranger}")),
                    _ => self,
                }
            }
            _ => self,
        }
    }
}

/// Whether a state that is neither before nor after may be what a deed of ours, or its way back, has left half done.
/// Programs that change packages, services, users and groups leave states of their own. What was done whole, put back
/// whole, or found changed by someone else is not ours: but for files that were put back, of which the power may have
/// taken a part.
fn may_be_ours(entry: &Entry, status: &Status, before: &State, after: &State, now: &State) -> bool {
    let is_whole = match status {
        Status::Armed | Status::Missed | Status::Undone(Undone::Failed(_)) => false,
        Status::Undone(Undone::Undone | Undone::AlreadyBefore) => !matches!(before, State::Path(_)),
        Status::Sealed | Status::Dropped | Status::Undone(Undone::Drifted(_) | Undone::Irreversible) => true,
    };
    match (before, after, now) {
        _ if is_whole => false,
        (State::Path(before), State::Path(after), State::Path(now)) => {
            path::is_between(before, after, now, entry.in_place)
        }
        _ => true,
    }
}

/// The entries of each resource, in order.
#[derive(Debug, Default)]
pub(super) struct Chains(HashMap<Resource, Vec<u32>>);

impl Chains {
    /// The chains of a journal.
    pub(super) fn of(entries: &[(Entry, Status)]) -> Chains {
        let mut chains = Chains::default();
        for (entry, _) in entries.iter().filter(|(_, status)| *status != Status::Dropped) {
            if let Deed::Change(change) = &entry.deed {
                chains.0.entry(change.resource.clone()).or_default().push(entry.no);
            }
        }
        chains
    }

    /// The states that a change's resource had before earlier entries: where it is in one of them, the way back has
    /// been there already, and those entries lead on.
    pub(super) fn earlier<'s>(
        &'s self,
        entries: &'s [(Entry, Status)],
        entry: &Entry,
        change: &Change,
    ) -> impl Iterator<Item = &'s State> {
        let numbers = self.0.get(&change.resource).map_or(&[][..], Vec::as_slice);
        let end = numbers.partition_point(|no| *no < entry.no);
        numbers[..end].iter().rev().filter_map(|no| match &entries[*no as usize].0.deed {
            Deed::Change(change) => Some(&change.before),
            Deed::Act { .. } => None,
        })
    }
}

/// Why a resource is not as a change should have left it, if it is not.
pub(super) fn unlike(probe: &Probe, change: &Change) -> Option<String> {
    match resources::observe(probe, &change.resource) {
        Ok(now) => {
            let differs = resources::differences(&now, &change.after);
            let told: Vec<String> =
                differs.iter().map(|d| format!("{} is {}, not {}", d.attribute, d.before, d.after)).collect();
            (!differs.is_empty()).then(|| told.join("; "))
        }
        Err(halt) => Some(halt.to_string()),
    }
}

/// What tells a service, of which `unit` is seen, of the files that are back: the act once more, or a restart where it does
/// not run for a reload. None where it holds nothing of what went back: it is gone, or is not to run (`is_off`).
pub(super) fn again(act: &Act, unit: &Unit, is_off: bool) -> Option<Act> {
    match act {
        Act::Run(_) => Some(act.clone()),
        _ if unit.is_missing() => None,
        Act::Restart(_) | Act::Reload(_) if unit.is_active() => Some(act.clone()),
        Act::Restart(name) | Act::Reload(name) => (!is_off || unit.ends).then(|| Act::Restart(name.clone())),
    }
}

/// Whether the way back of these entries, newest first, leads to where the service does not run.
pub(super) fn leads_to_a_stop(entries: &[(Entry, Status)], act: &Act, unit: &Unit) -> bool {
    let (Act::Restart(name) | Act::Reload(name)) = act else { return false };
    let before = entries.iter().rev().find_map(|(entry, _)| match &entry.deed {
        Deed::Change(Change { resource: Resource::Service(own), before: State::Service(before), .. }) => {
            (own == name || *own == unit.id).then_some(before.active)
        }
        _ => None,
    });
    before == Some(false)
}

/// Whether a deed changes what systemd reads: then it must read it again.
pub(super) fn is_read_by_systemd(deed: &Deed) -> bool {
    let Deed::Change(Change { resource: Resource::Path(path), .. }) = deed else { return false };
    path.as_path().iter().any(|part| part == "systemd")
}

/// Whether two neighbours go back together: the packages of one task.
pub(super) fn goes_with(a: &Entry, b: &Entry) -> bool {
    let is_package = |entry: &Entry| matches!(&entry.deed, Deed::Change(Change { resource: Resource::Package(_), .. }));
    a.task == b.task && is_package(a) && is_package(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_ran_runs_again() {
        let unit = |active: &str| Unit { active: active.into(), load: "loaded".into(), ..Unit::default() };
        let (restart, reload) = (Act::Restart("x.service".into()), Act::Reload("x.service".into()));
        for down in ["failed", "activating", "inactive", "deactivating"] {
            for act in [&restart, &reload] {
                assert_eq!(again(act, &unit(down), false), Some(restart.clone()), "{down}");
                assert_eq!(again(act, &unit(down), true), None, "{down}");
            }
        }
        for act in [restart.clone(), reload] {
            assert_eq!(again(&act, &unit("active"), true), Some(act.clone()));
            assert_eq!(again(&act, &Unit { load: "not-found".into(), ..unit("inactive") }, false), None);
        }
        assert_eq!(again(&restart, &Unit { ends: true, ..unit("inactive") }, true), Some(restart));
    }
}
