//! Packages (apt and dpkg).

mod apt;
mod archive;
mod dpkg;
mod plan;
mod simulation;
mod transaction;
mod version;
mod words;

use crate::{
    model::{
        change::Change,
        facts::Facts,
        state::{Difference, PackageState, Resource},
    },
    resources::{Family, Halt},
    target::{Probe, Tools},
};

pub use plan::{Request, fits, lists_age_s, newest, observe, plain_name, predict, refresh_lists};
pub use simulation::{is_name, is_version};

/// The family of packages.
#[derive(Debug)]
pub struct Packages;

impl Family for Packages {
    type State = PackageState;

    fn observe(probe: &Probe, resource: &Resource) -> Result<PackageState, Halt> {
        supported(probe.facts())?;
        let Resource::Package(name) = resource else { resource.is_misplaced() };
        Ok(dpkg::Database::read(probe)?.state(name))
    }

    fn differences(before: &PackageState, after: &PackageState) -> Vec<Difference> {
        words::differences(before, after)
    }

    fn converge(tools: &Tools<'_>, changes: &[Change]) -> Result<(), Halt> {
        supported(tools.probe().facts())?;
        transaction::carry_out(tools, changes)
    }
}

/// Whether the host's package manager is one that Rollbook knows.
pub fn supported(facts: &Facts) -> Result<(), Halt> {
    match facts.package_manager.as_str() {
        "apt" => Ok(()),
        "unknown" => Err(Halt::Failed("no package manager was found on this host; packages need apt".into())),
        other => Err(Halt::Failed(format!(
            "packages are not supported yet on hosts with {other}; use command with undo, unless and creates"
        ))),
    }
}
