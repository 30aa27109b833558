//! Paths.

use crate::{
    model::{
        change::Change,
        state::{Difference, PathState, Resource},
    },
    resources::{Family, Halt},
    target::{Probe, Tools},
};

/// The family of paths.
#[derive(Debug)]
pub struct Paths;

impl Family for Paths {
    type State = PathState;

    fn observe(_probe: &Probe, _resource: &Resource) -> Result<PathState, Halt> {
        todo!("path")
    }

    fn differences(_before: &PathState, _after: &PathState) -> Vec<Difference> {
        todo!("path")
    }

    fn converge(_tools: &Tools<'_>, _changes: &[Change]) -> Result<(), Halt> {
        todo!("path")
    }
}
