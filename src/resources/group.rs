//! Groups.

use crate::{
    model::{
        change::Change,
        state::{Difference, GroupState, Resource},
    },
    resources::{Family, Halt},
    target::{Probe, Tools},
};

/// The family of groups.
#[derive(Debug)]
pub struct Groups;

impl Family for Groups {
    type State = GroupState;

    fn observe(_probe: &Probe, _resource: &Resource) -> Result<GroupState, Halt> {
        todo!("group")
    }

    fn differences(_before: &GroupState, _after: &GroupState) -> Vec<Difference> {
        todo!("group")
    }

    fn converge(_tools: &Tools<'_>, _changes: &[Change]) -> Result<(), Halt> {
        todo!("group")
    }
}
