//! What SQLite says, told to a person: who must act, and how.

use std::path::Path;

use rusqlite::{Error, ErrorCode};

use crate::base::{Fault, FaultKind};

/// A fault of the store at `path`. `doing` completes "… the record store PATH": what was being done.
pub(super) fn fault(doing: &str, path: &Path, error: &Error) -> Fault {
    let fault = Fault::new(FaultKind::Record, format!("{doing} the record store {}: {}", path.display(), words(error)));
    match hint(error) {
        Some(hint) => fault.because(error).hint(hint),
        None => fault.because(error),
    }
}

fn words(error: &Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "another program holds it",
        Some(ErrorCode::DiskFull) => "the disk is full",
        Some(ErrorCode::ReadOnly) => "it cannot be written",
        Some(ErrorCode::NotADatabase) => "it is no database",
        Some(ErrorCode::DatabaseCorrupt) => "it is damaged",
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => "it cannot be opened",
        Some(ErrorCode::SystemIoFailure) => "the disk reports an error",
        Some(ErrorCode::TooBig) => "an entry is larger than any that is written",
        _ => "it cannot be used",
    }
}

fn hint(error: &Error) -> Option<&'static str> {
    Some(match error.sqlite_error_code()? {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
            "Wait for the other program, or see who has the file open with `fuser`."
        }
        ErrorCode::DiskFull => "Make room on the disk: what cannot be recorded is not done.",
        ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied => {
            "Check who owns the file and its folder, or name another store with --store."
        }
        ErrorCode::NotADatabase => "name another file with --store",
        ErrorCode::DatabaseCorrupt | ErrorCode::SystemIoFailure => {
            "Keep a copy of the file as it is, see what `rollbook verify` says, and look at the disk."
        }
        _ => return None,
    })
}
