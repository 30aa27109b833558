//! Users.

use crate::{
    model::{
        change::Change,
        state::{Difference, Resource, UserState},
    },
    resources::{Family, Halt},
    target::{Probe, Tools},
};

/// The family of users.
#[derive(Debug)]
pub struct Users;

impl Family for Users {
    type State = UserState;

    fn observe(_probe: &Probe, _resource: &Resource) -> Result<UserState, Halt> {
        todo!("user")
    }

    fn differences(_before: &UserState, _after: &UserState) -> Vec<Difference> {
        todo!("user")
    }

    fn converge(_tools: &Tools<'_>, _changes: &[Change]) -> Result<(), Halt> {
        todo!("user")
    }
}
