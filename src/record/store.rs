//! The store on disk: opening and appending.

use std::{
    borrow::Borrow,
    fs,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::{
    base::{Fault, FaultKind},
    model::{event::Stamped, ids::RunId, witness::Witness},
    record::{
        chain::{self, Entry},
        place,
        tables::{self, BODY_BYTES_MAX, Kinship},
        trouble,
    },
};

/// The record. One connection to one database file; other programs may read and append meanwhile.
#[derive(Debug)]
pub struct Store {
    pub(super) connection: Connection,
    path: PathBuf,
    /// The last entry that was written here.
    written: Option<Witness>,
    /// The run that is being planned: a plan is not recorded.
    pub(super) planning: Option<RunId>,
}

impl Store {
    /// Opens the store at `path` for appending, or makes it. New folders and a new file are for their owner alone.
    ///
    /// # Errors
    /// Kind `Record`: the file is another program's, of a newer version, damaged, or cannot be made or written.
    pub fn open(path: &Path) -> Result<Self, Fault> {
        place::make(path).map_err(|error| {
            let message = format!("making the record store {}", path.display());
            record_fault(message).because(&error).hint("name another place with --store")
        })?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut store = Store::connect(path, flags)?;
        if store.told("looking at", tables::kinship)? == Kinship::Empty {
            let made = tables::make(&mut store.connection);
            made.map_err(|error| trouble::fault("making", path, &error))?;
        }
        store.must_be_ours()?;
        store.told("opening", tables::set_up_for_writing)?;
        store.head()?;
        Ok(store)
    }

    /// Opens an existing store for reading. A store in a folder that cannot be written (an archive, a read-only mount)
    /// can be read too, as long as nobody was writing when it was copied.
    ///
    /// # Errors
    /// Kind `Record`: there is no such file, or it is not a store that this version can read.
    pub fn open_read_only(path: &Path) -> Result<Self, Fault> {
        if let Err(error) = fs::metadata(path) {
            let fault = record_fault(format!("there is no record store {}", path.display())).because(&error);
            return Err(fault.hint("`rollbook apply` makes one; --store names another."));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let store = Store::connect(path, flags)?;
        let store = match tables::kinship(&store.connection) {
            Err(error) if cannot_share(&error) && !has_log(path) => Store::connect_to_archive(path)?,
            _ => store,
        };
        store.must_be_ours()?;
        Ok(store)
    }

    fn connect(path: &Path, flags: OpenFlags) -> Result<Self, Fault> {
        let connection = Connection::open_with_flags(path, flags).and_then(|connection| {
            tables::set_up(&connection)?;
            Ok(connection)
        });
        let connection = connection.map_err(|error| trouble::fault("opening", path, &error))?;
        Ok(Store { connection, path: path.to_owned(), written: None, planning: None })
    }

    /// Reads a file that nobody can be writing to. Only for stores without a write-ahead log beside them.
    fn connect_to_archive(path: &Path) -> Result<Self, Fault> {
        use std::os::unix::ffi::OsStrExt;
        let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let escaped: String = whole.as_os_str().as_bytes().iter().map(|byte| format!("%{byte:02x}")).collect();
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let mut store = Store::connect(Path::new(&format!("file:{escaped}?immutable=1")), flags)?;
        store.path = path.to_owned();
        Ok(store)
    }

    fn must_be_ours(&self) -> Result<(), Fault> {
        let refused = |why: &str| {
            let message = format!("{} is not a record store that this Rollbook can use: {why}", self.path.display());
            record_fault(message).hint("name another file with --store")
        };
        match self.told("looking at", tables::kinship)? {
            Kinship::Ours => Ok(()),
            Kinship::Empty => Err(refused("it is empty")),
            Kinship::Foreign(why) => Err(refused(&why)),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Does something with the connection. `doing` completes "… the record store PATH".
    pub(super) fn told<T>(
        &self,
        doing: &str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Fault> {
        work(&self.connection).map_err(|error| trouble::fault(doing, &self.path, &error))
    }

    /// The chain's head as it is on disk: other programs may have appended since this one did.
    pub fn head(&self) -> Result<Witness, Fault> {
        let head = self.told("reading", tables::head)?;
        head.ok_or_else(|| {
            record_fault(format!("the first entry of the record store {} cannot be read", self.path.display()))
                .hint("see what `rollbook verify` says")
        })
    }

    /// Appends an event. When this returns, the event is on disk.
    ///
    /// # Errors
    /// Kind `Record`: nothing was appended.
    pub fn append(&mut self, event: &Stamped) -> Result<Witness, Fault> {
        self.append_all(&[event])
    }

    /// Appends events in their order, all or none, with one wait for the disk. The head after the last of them.
    ///
    /// # Errors
    /// Kind `Record`: nothing was appended.
    pub fn append_all(&mut self, events: &[impl Borrow<Stamped>]) -> Result<Witness, Fault> {
        let bodies = events.iter().map(|event| body_of(event.borrow())).collect::<Result<Vec<_>, Fault>>()?;
        let work = |connection: &mut Connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let Some(mut head) = tables::head(&transaction)? else { return Ok(None) };
            for (event, body) in events.iter().zip(bodies) {
                head = put(&transaction, &head, event.borrow(), body)?;
            }
            transaction.commit()?;
            Ok(Some(head))
        };
        let head = work(&mut self.connection).map_err(|error: rusqlite::Error| match error.sqlite_error_code() {
            Some(ErrorCode::ConstraintViolation) => already_there(&events[0].borrow().run, &self.path).because(&error),
            _ => trouble::fault("writing", &self.path, &error),
        })?;
        // Without a head: why there is none.
        let head = head.map_or_else(|| self.head(), Ok)?;
        self.written = Some(head.clone());
        Ok(head)
    }

    /// A head of the chain that covers all that was written here. Others may have appended since.
    pub fn witness(&self) -> Result<Witness, Fault> {
        self.written.clone().map_or_else(|| self.head(), Ok)
    }
}

fn put(connection: &Connection, head: &Witness, event: &Stamped, body: Vec<u8>) -> rusqlite::Result<Witness> {
    let seq = head.seq + 1;
    let hash = chain::hash(&head.hash, seq, &body);
    let kind = event.event.word().to_owned();
    tables::insert(connection, &Entry { seq, run: event.run.to_string(), kind, at: event.at, body, hash })?;
    Ok(Witness { store: head.store.clone(), seq, hash })
}

/// An event's bytes.
fn body_of(event: &Stamped) -> Result<Vec<u8>, Fault> {
    // Most are shorter, and need not be moved while they grow.
    let mut body = Vec::with_capacity(1024);
    serde_json::to_writer(&mut body, event).expect("an event is plain data");
    if body.len() > BODY_BYTES_MAX {
        let message = format!("an event of {} bytes is too long for the record; at most {BODY_BYTES_MAX}", body.len());
        return Err(record_fault(message));
    }
    Ok(body)
}

fn already_there(run: &RunId, path: &Path) -> Fault {
    record_fault(format!("run {run} was opened already in the record store {}", path.display()))
        .hint("start the run again: it gets another id")
}

pub(super) fn record_fault(message: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Record, message)
}

/// Whether a database could not be read because the files through which its readers and writers find each other
/// cannot be made.
fn cannot_share(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
}

/// Whether a write-ahead log with something in it stands beside the store.
fn has_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    fs::metadata(log).is_ok_and(|log| log.len() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::Timestamp, model::event::Event};

    fn note(bytes: usize) -> Stamped {
        let event = Event::Note { host: None, message: "x".repeat(bytes) };
        Stamped { at: Timestamp(7), run: RunId::from_parts("20261123-051034", 7), event }
    }

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("record.db")).unwrap();
        (folder, store)
    }

    #[test]
    fn a_commit_waits_for_the_disk() {
        let (_folder, store) = store();
        let pragma = |name| store.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!((pragma("synchronous"), pragma("foreign_keys"), pragma("trusted_schema")), (2, 1, 0));
        let mode: String = store.connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
    }

    #[test]
    fn a_full_store_says_so_and_keeps_what_it_has() {
        let (_folder, mut store) = store();
        // SQLite's own limit stands for a full disk: the same error at the same place.
        store.connection.pragma_update(None, "max_page_count", 12).unwrap();
        let mut kept = store.head().unwrap();
        let fault = loop {
            match store.append(&note(3000)) {
                Ok(head) => kept = head,
                Err(fault) => break fault,
            }
        };
        assert_eq!(fault.kind, FaultKind::Record);
        assert!(fault.message.contains("the disk is full") && !fault.hints.is_empty(), "{fault:?}");
        assert!(kept.seq > 2);
        assert_eq!(store.head().unwrap(), kept);
    }

    #[test]
    fn a_witness_covers_what_was_written_here() {
        let (_folder, mut store) = store();
        assert_eq!(store.witness().unwrap(), store.head().unwrap());
        let own = store.append_all(&[note(1), note(2)]).unwrap();
        assert_eq!((store.witness().unwrap(), store.head().unwrap()), (own.clone(), own.clone()));
        Store::open(store.path()).unwrap().append(&note(3)).unwrap();
        assert_eq!(store.witness().unwrap(), own);
        assert_eq!(store.head().unwrap().seq, own.seq + 1);
        store.append(&note(4)).unwrap();
        assert_eq!(store.witness().unwrap(), store.head().unwrap());
    }

    #[test]
    fn a_locked_store_says_so() {
        let (_folder, mut store) = store();
        let other = Connection::open(store.path()).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        store.connection.busy_timeout(std::time::Duration::from_millis(50)).unwrap();
        let fault = store.append(&note(1)).unwrap_err();
        assert!(fault.kind == FaultKind::Record && fault.message.contains("another program holds it"), "{fault:?}");
        other.execute_batch("ROLLBACK").unwrap();
        store.append(&note(1)).unwrap();
    }

    #[test]
    fn what_is_too_long_is_not_written() {
        let (_folder, mut store) = store();
        let before = store.head().unwrap();
        let fault = store.append_all(&[note(1), note(BODY_BYTES_MAX)]).unwrap_err();
        assert!(fault.message.contains("too long"), "{fault}");
        assert_eq!(store.head().unwrap(), before);
        store.append(&note(BODY_BYTES_MAX - 1000)).unwrap();
        assert_eq!(store.events_of(&note(1).run).unwrap().len(), 1);
    }

    #[test]
    fn an_archive_can_be_read_and_nothing_is_left_there() {
        let (folder, store) = store();
        let head = store.head().unwrap();
        drop(store);
        let archive = folder.path().join("a place? with%signs#&x=1");
        fs::create_dir(&archive).unwrap();
        let path = archive.join("record.db");
        fs::copy(folder.path().join("record.db"), &path).unwrap();
        let store = Store::connect_to_archive(&path).unwrap();
        store.must_be_ours().unwrap();
        assert_eq!(store.head().unwrap(), head);
        assert!(store.verify().unwrap().is_whole());
        assert_eq!(fs::read_dir(&archive).unwrap().count(), 1);
    }
}
