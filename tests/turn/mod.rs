//! Tests that apply something on this machine take turns: as root, all of them share its one journal.

use std::{fs, thread, time::Duration};

/// The only one that applies something here, until it is dropped.
pub(crate) struct Turn {
    _file: fs::File,
}

/// Waits for a turn, for some minutes at most.
#[track_caller]
pub(crate) fn take() -> Turn {
    // Others' files cannot be opened to write in /tmp.
    let name = format!("rollbook-tests-{}.lock", rustix::process::geteuid().as_raw());
    let file = fs::File::create(std::env::temp_dir().join(name)).expect("a lock can be made");
    for _ in 0..6000 {
        match file.try_lock() {
            Ok(()) => return Turn { _file: file },
            Err(fs::TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(50)),
            Err(fs::TryLockError::Error(error)) => panic!("the lock cannot be taken: {error}"),
        }
    }
    panic!("another test has the turn for five minutes");
}
