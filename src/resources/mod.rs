//! One file per resource family: how its state is read, compared, and reached. The same code goes forward and back.

mod accounts;
pub mod group;
pub mod package;
pub mod path;
mod program;
pub mod service;
pub mod user;
pub mod view;

use std::fmt;

use crate::{
    model::{
        change::Change,
        state::{Difference, Resource, State},
    },
    target::{Probe, Tools},
};

pub use view::{HostView, View};

/// Why a step cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// It failed; one sentence that says what and why.
    Failed(String),
    /// It does not hold yet: another try may find that it does (`http`, `wait_for`).
    NotYet(String),
    /// In a plan: it cannot be known before it is applied; one sentence that says why.
    Unknown(String),
}

impl Halt {
    /// A failure that says what was being done, and the system's error.
    pub fn io(doing: impl fmt::Display, error: &std::io::Error) -> Self {
        Halt::Failed(format!("{doing}: {error}"))
    }

    /// The sentence.
    pub fn message(&self) -> &str {
        match self {
            Halt::Failed(message) | Halt::NotYet(message) | Halt::Unknown(message) => message,
        }
    }
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

/// What every family knows. There is no other way in which Rollbook changes a resource.
pub trait Family {
    /// The family's state.
    type State: PartialEq;

    /// Reads the state. It cannot write: it has a probe, and no tools.
    fn observe(probe: &Probe, resource: &Resource) -> Result<Self::State, Halt>;

    /// What differs, in the words of people. Empty exactly when the states are equal for all that
    /// [`Family::converge`] can do.
    fn differences(before: &Self::State, after: &Self::State) -> Vec<Difference>;

    /// Brings each change's resource from `before` to `after`, in order. To undo, the caller reverses the changes.
    fn converge(tools: &Tools<'_>, changes: &[Change]) -> Result<(), Halt>;
}

/// Reads the state of any resource.
pub fn observe(probe: &Probe, resource: &Resource) -> Result<State, Halt> {
    Ok(match resource {
        Resource::Path(_) => State::Path(path::Paths::observe(probe, resource)?),
        Resource::Package(_) => State::Package(package::Packages::observe(probe, resource)?),
        Resource::Service(_) => State::Service(service::Services::observe(probe, resource)?),
        Resource::User(_) => State::User(user::Users::observe(probe, resource)?),
        Resource::Group(_) => State::Group(group::Groups::observe(probe, resource)?),
    })
}

/// What differs between two states of one resource.
pub fn differences(before: &State, after: &State) -> Vec<Difference> {
    match (before, after) {
        (State::Path(before), State::Path(after)) => path::Paths::differences(before, after),
        (State::Package(before), State::Package(after)) => package::Packages::differences(before, after),
        (State::Service(before), State::Service(after)) => service::Services::differences(before, after),
        (State::User(before), State::User(after)) => user::Users::differences(before, after),
        (State::Group(before), State::Group(after)) => group::Groups::differences(before, after),
        _ => unreachable!("both states are of one resource"),
    }
}

/// Brings resources to their `after` states; runs of one family go together (packages need one transaction).
pub fn converge(tools: &Tools<'_>, changes: &[Change]) -> Result<(), Halt> {
    for same in changes.chunk_by(|a, b| a.resource.family() == b.resource.family()) {
        match same[0].resource {
            Resource::Path(_) => path::Paths::converge(tools, same)?,
            Resource::Package(_) => package::Packages::converge(tools, same)?,
            Resource::Service(_) => service::Services::converge(tools, same)?,
            Resource::User(_) => user::Users::converge(tools, same)?,
            Resource::Group(_) => group::Groups::converge(tools, same)?,
        }
    }
    Ok(())
}
