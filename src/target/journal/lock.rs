//! One run holds a host: a lock that ends with the process that has it, and a note of who that is.
//!
//! The lock is `flock` on the file `lock`. The note is the file `holder` beside it, always whole, and true while the
//! lock is held. Its fencing number grows with each holder.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, OFlags};
use serde::{Deserialize, Serialize};

use crate::{
    base::{Timestamp, point::fault},
    model::lease::{Bid, Lease, OpenRun, Stand},
    target::{journal::fault::JournalFault, probe::open_regular},
};

/// How long to wait for a lock: another agent may be having a short look.
pub(super) const GLANCE: Duration = Duration::from_secs(1);

/// The note's longest form.
const NOTE_BYTES_MAX: u64 = 64 * 1024;

/// The longest texts of a bid, in characters.
const TEXT_CHARS_MAX: usize = 256;

/// The lock, held until dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: fs::File,
    store: PathBuf,
    note: Note,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    lease: Lease,
    /// When it goes back by itself, if its controller is lost.
    alone_until: Option<Timestamp>,
}

impl Lock {
    /// Takes the lock of the store, within some time, and notes who has it.
    pub(super) fn take(store: &Path, bid: &Bid, patience: Duration) -> Result<Lock, JournalFault> {
        let path = path(store);
        let doing = || JournalFault::io(format!("locking {}", path.display()));
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(i32::try_from(OFlags::NOFOLLOW.bits()).expect("flags fit"))
            .open(&path)
            .map_err(doing())?;
        let until = Instant::now() + patience;
        while let Err(error) = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(doing()(error.into()));
            }
            if Instant::now() >= until {
                return Err(JournalFault::Held { holder: noted(store).map(Note::told).map(Box::new) });
            }
            thread::sleep(Duration::from_millis(10));
        }
        fault!("lock.taken", io).map_err(doing())?;
        let fence = noted(store).map_or(0, |last| last.lease.fence) + 1;
        let lease = Lease { bid: shortened(bid), since: Timestamp::now(), fence };
        let lock = Lock { file, store: store.to_owned(), note: Note { lease, alone_until: None } };
        lock.write().map_err(doing())?;
        fault!("lock.noted");
        Ok(lock)
    }

    /// Who holds it.
    pub(super) fn lease(&self) -> &Lease {
        &self.note.lease
    }

    /// Whether nobody else has taken the host over.
    pub(super) fn is_ours(&self) -> bool {
        noted(&self.store).is_some_and(|note| note.lease.fence == self.note.lease.fence)
    }

    /// The note is never seen half written. It need not survive the machine: neither does the lock.
    fn write(&self) -> io::Result<()> {
        self.note.write(&self.store)
    }
}

/// Let go in words: closing the file does not where a command that was just started has a copy of it still.
impl Drop for Lock {
    fn drop(&mut self) {
        let _closing_does_it_too = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

/// Notes that the holder with this fencing number has lost its controller, and when its run goes back by itself.
pub(super) fn note_alone(store: &Path, fence: u64, until: Timestamp) -> io::Result<()> {
    match noted(store) {
        Some(note) if note.lease.fence == fence => Note { alone_until: Some(until), ..note }.write(store),
        _ => Ok(()),
    }
}

/// Who holds the store's lock, if somebody does.
pub(super) fn holder(store: &Path) -> Option<OpenRun> {
    let is_held = open_regular(&path(store)).is_ok_and(|file| {
        let found = rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared);
        found == Err(rustix::io::Errno::WOULDBLOCK)
    });
    is_held.then(|| noted(store).map(Note::told)).flatten()
}

fn path(store: &Path) -> PathBuf {
    store.join("lock")
}

fn note_path(store: &Path) -> PathBuf {
    store.join("holder")
}

/// What the note says.
fn noted(store: &Path) -> Option<Note> {
    let mut bytes = Vec::new();
    open_regular(&note_path(store)).ok()?.take(NOTE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

impl Note {
    fn write(&self, store: &Path) -> io::Result<()> {
        let (path, bytes) = (note_path(store), serde_json::to_vec(self).expect("plain data"));
        match replace(&path, &bytes) {
            // A full disk keeps nobody from going back: the old note has a place.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => overwrite(&path, bytes),
            written => written,
        }
    }

    fn told(self) -> OpenRun {
        let stand = self.alone_until.map_or(Stand::Working, |until| {
            let left_us = until.0.saturating_sub(Timestamp::now().0).max(0);
            Stand::Alone { left_s: u32::try_from(left_us / 1_000_000).unwrap_or(u32::MAX) }
        });
        OpenRun { lease: self.lease, stand }
    }
}

/// Gives a small file a new content, in one step for whoever looks.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    fs::rename(&new, path)
}

/// The same, in the place that the file has. It is so short that no reader sees a part of it.
fn overwrite(path: &Path, mut bytes: Vec<u8>) -> io::Result<()> {
    let file = fs::OpenOptions::new().write(true).open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    bytes.resize(length.max(bytes.len()), b' ');
    file.write_all_at(&bytes, 0)
}

/// Puts a file into the store, whole and on the disk, or not at all.
pub(super) fn put(path: &Path, mode: u32, mut from: impl Read) -> io::Result<()> {
    let new = path.with_extension("new");
    let _none_there = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    io::copy(&mut from, &mut file)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

/// A bid whose texts are short: they come over the wire, and are shown to whoever meets it.
fn shortened(bid: &Bid) -> Bid {
    let short = |text: &String| text.chars().take(TEXT_CHARS_MAX).collect();
    Bid { operator: short(&bid.operator), reason: bid.reason.as_ref().map(short), ..bid.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::RunId;

    #[test]
    fn a_lock_that_was_let_go_is_free_though_somebody_has_a_copy_of_its_file() {
        let store = tempfile::tempdir().unwrap();
        let bid = Bid { run: RunId::from_parts("20261123-051034", 1), operator: "ann".into(), reason: None, job: None };
        let lock = Lock::take(store.path(), &bid, Duration::ZERO).unwrap();
        let copy = lock.file.try_clone().unwrap();
        assert_eq!(holder(store.path()).unwrap().run(), &bid.run);
        drop(lock);
        assert_eq!(holder(store.path()), None);
        drop(copy);
    }
}
