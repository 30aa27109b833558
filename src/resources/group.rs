//! Groups.

use crate::{
    model::{
        change::Change,
        state::{Difference, GroupState, Resource, State},
    },
    resources::{
        Family, Halt,
        accounts::{self, Accounts},
    },
    target::{Probe, Tools},
};

/// The family of groups.
#[derive(Debug)]
pub struct Groups;

impl Family for Groups {
    type State = GroupState;

    fn observe(probe: &Probe, resource: &Resource) -> Result<GroupState, Halt> {
        let Resource::Group(name) = resource else { resource.is_misplaced() };
        Accounts::read(probe)?.group(name)
    }

    fn differences(before: &GroupState, after: &GroupState) -> Vec<Difference> {
        let difference = |attribute: &str, before: String, after: String| {
            (before != after).then(|| Difference { attribute: attribute.into(), before, after })
        };
        let found = match (before, after) {
            (
                GroupState::Present { gid: old, members: were, kept: _ },
                GroupState::Present { gid: new, members: are, kept: _ },
            ) => {
                let list = |names: &std::collections::BTreeSet<String>| {
                    if names.is_empty() { "none".into() } else { names.iter().cloned().collect::<Vec<_>>().join(",") }
                };
                [difference("gid", number(*old), number(*new)), difference("members", list(were), list(are))]
            }
            _ => [difference("state", standing(before), standing(after)), None],
        };
        found.into_iter().flatten().collect()
    }

    fn converge(tools: &Tools<'_>, changes: &[Change]) -> Result<(), Halt> {
        accounts::change(tools, |accounts| {
            for change in changes {
                match change {
                    Change { resource: Resource::Group(name), after: State::Group(after), .. } => {
                        accounts.bring_group(name, after)?;
                    }
                    other => other.resource.is_misplaced(),
                }
            }
            Ok(())
        })
    }
}

fn number(gid: Option<u32>) -> String {
    gid.map_or_else(|| "chosen by the host".into(), |gid| gid.to_string())
}

fn standing(state: &GroupState) -> String {
    match state {
        GroupState::Absent => "absent".into(),
        GroupState::Present { gid, .. } => format!("gid {}", number(*gid)),
    }
}
