//! Packages.

use crate::{
    model::{
        change::Change,
        state::{Difference, PackageState, Resource},
    },
    resources::{Family, Halt},
    target::{Probe, Tools},
};

/// The family of packages.
#[derive(Debug)]
pub struct Packages;

impl Family for Packages {
    type State = PackageState;

    fn observe(_probe: &Probe, _resource: &Resource) -> Result<PackageState, Halt> {
        todo!("package")
    }

    fn differences(_before: &PackageState, _after: &PackageState) -> Vec<Difference> {
        todo!("package")
    }

    fn converge(_tools: &Tools<'_>, _changes: &[Change]) -> Result<(), Halt> {
        todo!("package")
    }
}
