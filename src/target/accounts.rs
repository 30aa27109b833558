//! The account files of `/etc`, edited as a whole under the lock that `useradd` and its like take.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, OFlags};

/// The files that hold users and groups.
pub const ACCOUNT_FILES: [&str; 6] = ["passwd", "shadow", "group", "gshadow", "subuid", "subgid"];

/// How long to wait for the lock; as long as lckpwdf(3) does.
const PATIENCE: Duration = Duration::from_secs(15);

/// The lock of lckpwdf(3), held until dropped.
pub(super) struct AccountLock {
    _file: fs::File,
}

impl AccountLock {
    /// Takes the lock in `folder`, which is `/etc`.
    pub(super) fn take(folder: &Path) -> io::Result<AccountLock> {
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(i32::try_from(OFlags::NOFOLLOW.bits()).expect("flags fit"))
            .open(folder.join(".pwd.lock"))?;
        let until = Instant::now() + PATIENCE;
        loop {
            match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(AccountLock { _file: file }),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) if Instant::now() < until => {
                    thread::sleep(Duration::from_millis(50));
                }
                Err(error) => {
                    return Err(io::Error::other(format!("waiting for the lock of the account files: {error}")));
                }
            }
        }
    }
}
