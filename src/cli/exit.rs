//! Exit codes (docs/exit-codes.md). Scripts rely on them: none is ever given another meaning.

use crate::base::FaultKind;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Our own error.
    Internal = 1,
    /// The command line is wrong.
    Usage = 2,
    /// A runbook, inventory or value is invalid.
    Input = 3,
    /// A host is unreachable or not who it says.
    Unreachable = 4,
    /// Refused by policy.
    Policy = 5,
    /// The record store is not whole.
    Record = 6,
    /// Failed, and rolled back.
    RolledBack = 7,
    /// A host needs recovery.
    NeedsRecovery = 8,
    /// Partly done, or unknown.
    Partly = 9,
    /// `plan --exit-code`: something would change.
    WouldChange = 10,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<FaultKind> for Exit {
    fn from(kind: FaultKind) -> Self {
        match kind {
            FaultKind::Internal => Exit::Internal,
            FaultKind::Usage => Exit::Usage,
            FaultKind::Input => Exit::Input,
            FaultKind::Unreachable => Exit::Unreachable,
            FaultKind::Policy => Exit::Policy,
            FaultKind::Record => Exit::Record,
            FaultKind::Failed => Exit::Partly,
        }
    }
}
