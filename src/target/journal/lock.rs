//! One run holds a host: a lock that ends with the process that has it, and a note of who that is.

use std::{
    fs,
    io::{Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, OFlags};
use serde::{Deserialize, Serialize};

use crate::{
    model::ids::RunId,
    target::{journal::fault::JournalFault, probe::open_regular},
};

/// How long to wait for a lock: another agent may be having a short look.
const PATIENCE: Duration = Duration::from_secs(1);

/// The note's longest form.
const NOTE_BYTES_MAX: u64 = 4096;

/// The lock, held until dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: fs::File,
}

#[derive(Serialize, Deserialize)]
struct Note {
    run: RunId,
    operator: String,
}

impl Lock {
    /// Takes the lock, and notes who has it.
    pub(super) fn take(path: &Path, run: &RunId, operator: &str) -> Result<Lock, JournalFault> {
        let doing = || JournalFault::io(format!("locking {}", path.display()));
        let mut file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(i32::try_from(OFlags::NOFOLLOW.bits()).expect("flags fit"))
            .open(path)
            .map_err(doing())?;
        let until = Instant::now() + PATIENCE;
        while let Err(error) = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(doing()(error.into()));
            }
            if Instant::now() >= until {
                return Err(JournalFault::Held { holder: holder(path) });
            }
            thread::sleep(Duration::from_millis(10));
        }
        let operator = operator.chars().take(256).collect();
        let note = serde_json::to_vec(&Note { run: run.clone(), operator }).expect("plain data");
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(&note)).map_err(doing())?;
        Ok(Lock { _file: file })
    }

    /// Whether some process has the lock.
    pub(super) fn is_held(path: &Path) -> bool {
        open_regular(path).is_ok_and(|file| {
            let found = rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared);
            found == Err(rustix::io::Errno::WOULDBLOCK)
        })
    }
}

/// Who has the lock, as far as the note says.
pub(super) fn holder(path: &Path) -> Option<(RunId, String)> {
    let mut bytes = Vec::new();
    open_regular(path).ok()?.take(NOTE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let note: Note = serde_json::from_slice(&bytes).ok()?;
    Some((note.run, note.operator))
}
