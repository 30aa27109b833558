//! The files of `/etc` that hold the entries of users and groups: rewritten whole, under the lock that the host's own
//! tools take.

use std::{
    fs, io,
    io::Write,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, OFlags, fcntl_lock},
    io::Errno,
};

use crate::{
    base::ByteText,
    model::{
        change::Deed,
        state::{Content, Id, Meta, Resource},
    },
    target::{
        attributes, disk,
        folder::{Spot, path_of},
        journal::Entry,
        tools::{Tools, place},
        xattr::{self, Link},
    },
};

/// What glibc's `lckpwdf` locks, and with it `useradd`, `passwd`, `vipw` and the rest.
const LOCK: &str = "/etc/.pwd.lock";

/// How long to wait for the lock: as long as `lckpwdf` does.
const PATIENCE: Duration = Duration::from_secs(15);

/// A file that holds a line for each user or group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccountFile {
    /// `/etc/gshadow`
    Gshadow,
    /// `/etc/group`
    Group,
    /// `/etc/subgid`
    Subgid,
    /// `/etc/subuid`
    Subuid,
    /// `/etc/shadow`
    Shadow,
    /// `/etc/passwd`
    Passwd,
}

impl AccountFile {
    /// All of them, in the order in which they are written: a user is in passwd when all else of it is there.
    pub const ALL: [AccountFile; 6] = [
        AccountFile::Gshadow,
        AccountFile::Group,
        AccountFile::Subgid,
        AccountFile::Subuid,
        AccountFile::Shadow,
        AccountFile::Passwd,
    ];

    /// The file's name in `/etc`.
    pub fn name(self) -> &'static str {
        match self {
            AccountFile::Gshadow => "gshadow",
            AccountFile::Group => "group",
            AccountFile::Subgid => "subgid",
            AccountFile::Subuid => "subuid",
            AccountFile::Shadow => "shadow",
            AccountFile::Passwd => "passwd",
        }
    }

    /// The file's path.
    pub fn path(self) -> ByteText {
        ByteText::from(&*format!("/etc/{}", self.name()))
    }
}

/// The lock on the account files, held until dropped.
#[derive(Debug)]
pub struct AccountLock {
    _file: fs::File,
}

impl Tools<'_> {
    /// Takes the lock on the account files, for entries that are about users or groups.
    pub fn lock_accounts(&self) -> io::Result<AccountLock> {
        self.account_entry()?;
        let root = self.probe.locate(&"/".into());
        // A host without it has none of the tools that take it: there the file itself is locked, as busybox does it.
        let lock = match Spot::find(&root, &LOCK.into())?.open(OFlags::WRONLY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Spot::find(&root, &AccountFile::Passwd.path())?.open(OFlags::RDWR)?
            }
            opened => opened?,
        };
        let until = Instant::now() + PATIENCE;
        loop {
            match fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(AccountLock { _file: lock }),
                Err(Errno::AGAIN | Errno::ACCESS) if Instant::now() < until => {
                    thread::sleep(Duration::from_millis(50));
                }
                Err(Errno::AGAIN | Errno::ACCESS) => {
                    return Err(io::Error::other(
                        "another program is changing users and groups; try again when it is done",
                    ));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Puts new content into an account file that is there, in one step; owner, mode and attributes stay.
    pub fn rewrite_accounts(&self, _lock: &AccountLock, file: AccountFile, bytes: &[u8]) -> io::Result<()> {
        let entry = self.account_entry()?;
        let spot = Spot::find(&self.probe.locate(&"/".into()), &file.path())?;
        let temporary = spot.beside(&self.journal.temporary_name(entry.no))?;
        temporary.clear()?;
        let placed =
            fill(&spot, &temporary, bytes).and_then(|meta| place(&temporary, &spot, &Content::of(bytes), &meta));
        let cleared = temporary.clear();
        placed.and(cleared)?;
        self.journal.owe_sync(&file.path());
        Ok(())
    }

    /// Clears up what a crash has left beside the account files. Its name is this run's alone.
    pub fn clear_accounts(&self) -> io::Result<()> {
        let entry = self.account_entry()?;
        let spot = Spot::find(&self.probe.locate(&"/".into()), &AccountFile::Passwd.path())?;
        spot.beside(&self.journal.temporary_name(entry.no))?.clear()
    }

    fn account_entry(&self) -> io::Result<&Entry> {
        let is_account = |entry: &&&Entry| match &entry.deed {
            Deed::Change(change) => matches!(change.resource, Resource::User(_) | Resource::Group(_)),
            Deed::Act { .. } => false,
        };
        let missing = || io::Error::other("no user or group was armed in the journal");
        self.entries.iter().find(is_account).copied().ok_or_else(missing)
    }
}

/// Makes the new file beside the old one, with the old one's attributes, which it gives.
fn fill(old: &Spot, temporary: &Spot, bytes: &[u8]) -> io::Result<Meta> {
    let found = old.open(OFlags::RDONLY)?;
    let stat = rustix::fs::fstat(&found)?;
    let meta = Meta {
        mode: stat.st_mode & 0o7777,
        uid: Id::Number(stat.st_uid),
        gid: Id::Number(stat.st_gid),
        xattrs: xattr::read(&path_of(&found), Link::Follow)?,
    };
    let mut file = temporary.create()?;
    file.write_all(bytes)?;
    attributes::bring(&file, &meta)?;
    attributes::keep_label(old, &file)?;
    disk::sync(&file)?;
    Ok(meta)
}
