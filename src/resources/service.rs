//! Services.

use crate::{
    model::{
        change::Change,
        state::{Difference, Resource, ServiceState},
    },
    resources::{Family, Halt},
    target::{Probe, Tools},
};

/// The family of services.
#[derive(Debug)]
pub struct Services;

impl Family for Services {
    type State = ServiceState;

    fn observe(_probe: &Probe, _resource: &Resource) -> Result<ServiceState, Halt> {
        todo!("service")
    }

    fn differences(_before: &ServiceState, _after: &ServiceState) -> Vec<Difference> {
        todo!("service")
    }

    fn converge(_tools: &Tools<'_>, _changes: &[Change]) -> Result<(), Halt> {
        todo!("service")
    }
}
