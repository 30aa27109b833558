//! The store on disk.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};
use serde_json::json;

use crate::{
    base::{Digest, Fault, FaultKind, Timestamp},
    model::event::{Sink, Stamped},
    record::chain::{self, Entry, Head},
};

/// "RBOK": says that a file is ours.
const APPLICATION_ID: i32 = 0x52_42_4f_4b;

/// The version of the tables.
const VERSION: i32 = 1;

/// How long to wait for another process that writes.
const BUSY: Duration = Duration::from_secs(30);

const TABLES: &str = "
    CREATE TABLE entry (
        seq  INTEGER PRIMARY KEY,
        run  TEXT NOT NULL,
        kind TEXT NOT NULL,
        at   INTEGER NOT NULL,
        body BLOB NOT NULL,
        hash BLOB NOT NULL
    ) STRICT;
    CREATE INDEX entry_run ON entry (run, seq);
    CREATE INDEX entry_kind ON entry (kind, seq);
";

/// The record.
pub struct Store {
    connection: Connection,
    head: Head,
}

/// A run, in one line.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSummary {
    /// Its id.
    pub run: String,
    /// Its opening event.
    pub opened: serde_json::Value,
    /// Its closing event, if it was closed.
    pub closed: Option<serde_json::Value>,
}

impl Store {
    /// Opens the store at `path`, or makes it. Its folder and the file are for their owner alone.
    pub fn open(path: &Path) -> Result<Self, Fault> {
        let fault = |why: &str| record_fault(format!("the record store {} {why}", path.display()));
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            make_folder(folder).map_err(|error| fault("has no folder").because(&error))?;
        }
        let mut connection = Connection::open(path).map_err(|error| fault("cannot be opened").because(&error))?;
        let opened = prepare(&mut connection).map_err(|error| fault("cannot be opened").because(&error))?;
        opened.map_err(|why| fault(&why))?;
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(path, private).map_err(|error| fault("cannot be made private").because(&error))?;
        let head = read_head(&connection).map_err(|error| fault("cannot be read").because(&error))?;
        let head = head.ok_or_else(|| fault("has no genesis entry"))?;
        Ok(Store { connection, head })
    }

    /// The chain's head after this store's last append.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Appends events, all or none; when it returns they are on disk.
    pub fn append(&mut self, events: &[Stamped]) -> Result<&Head, Fault> {
        let head = self.append_all(events);
        self.head = head.map_err(|error| record_fault("the record cannot be written").because(&error))?;
        Ok(&self.head)
    }

    fn append_all(&mut self, events: &[Stamped]) -> rusqlite::Result<Head> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut head = read_head(&transaction)?.unwrap_or_else(|| self.head.clone());
        for stamped in events {
            let body = serde_json::to_value(stamped).expect("an event is plain data");
            let kind = body["event"].as_str().unwrap_or_default().to_owned();
            let body = body.to_string().into_bytes();
            let seq = head.seq + 1;
            let hash = chain::hash(&head.hash, seq, &body);
            let entry = Entry { seq, run: stamped.run.to_string(), kind, at: stamped.at.0, body, hash };
            insert(&transaction, &entry)?;
            head = Head { seq, hash, ..head };
        }
        transaction.commit()?;
        Ok(head)
    }

    /// Calls `each` with every entry in order.
    pub(super) fn each_entry(&self, mut each: impl FnMut(Entry) -> bool) -> Result<(), Fault> {
        let unreadable = |error: rusqlite::Error| record_fault("the record cannot be read").because(&error);
        let mut statement = self
            .connection
            .prepare("SELECT seq, run, kind, at, body, hash FROM entry ORDER BY seq")
            .map_err(unreadable)?;
        let mut rows = statement.query([]).map_err(unreadable)?;
        while let Some(row) = rows.next().map_err(unreadable)? {
            let entry = read_entry(row).map_err(unreadable)?;
            if !each(entry) {
                break;
            }
        }
        Ok(())
    }

    /// The hash of an entry, if there is one of that number.
    pub fn hash_of(&self, seq: u64) -> Result<Option<Digest>, Fault> {
        let found = self
            .connection
            .query_row("SELECT hash FROM entry WHERE seq = ?1", params![seq as i64], |row| row.get::<_, [u8; 32]>(0))
            .optional();
        found.map(|hash| hash.map(Digest)).map_err(|error| record_fault("the record cannot be read").because(&error))
    }

    /// The newest runs, newest first.
    pub fn runs(&self, limit: usize) -> Result<Vec<RunSummary>, Fault> {
        let read = || -> rusqlite::Result<Vec<RunSummary>> {
            let mut statement = self.connection.prepare(
                "SELECT o.run, o.body, (SELECT c.body FROM entry c WHERE c.run = o.run AND c.kind = 'run_closed')
                 FROM entry o WHERE o.kind = 'run_opened' ORDER BY o.seq DESC LIMIT ?1",
            )?;
            let json = |bytes: Vec<u8>| serde_json::from_slice(&bytes).unwrap_or_default();
            let rows = statement.query_map(params![limit as i64], |row| {
                Ok(RunSummary {
                    run: row.get(0)?,
                    opened: json(row.get(1)?),
                    closed: row.get::<_, Option<Vec<u8>>>(2)?.map(json),
                })
            })?;
            rows.collect()
        };
        read().map_err(|error| record_fault("the record cannot be read").because(&error))
    }

    /// The events of the one run whose id begins with `prefix`.
    pub fn run(&self, prefix: &str) -> Result<Vec<Stamped>, Fault> {
        let read = || -> rusqlite::Result<(Vec<String>, Vec<Vec<u8>>)> {
            let mut statement = self
                .connection
                .prepare("SELECT DISTINCT run FROM entry WHERE substr(run, 1, ?2) = ?1 AND run <> ''")?;
            let length = prefix.chars().count() as i64;
            let runs: Vec<String> =
                statement.query_map(params![prefix, length], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
            let [run] = &runs[..] else { return Ok((runs, Vec::new())) };
            let mut statement = self.connection.prepare("SELECT body FROM entry WHERE run = ?1 ORDER BY seq")?;
            let bodies = statement.query_map(params![run], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
            Ok((runs, bodies))
        };
        let (runs, bodies) = read().map_err(|error| record_fault("the record cannot be read").because(&error))?;
        match &runs[..] {
            [] => Err(Fault::new(FaultKind::Usage, format!("there is no run {prefix} in the record"))
                .hint("`rollbook log` lists the runs")),
            [_] => bodies.iter().map(|body| parse(body)).collect(),
            many => Err(Fault::new(FaultKind::Usage, format!("{prefix} may be any of {} runs", many.len()))
                .hint(format!("write more of it: {}", many.iter().take(5).cloned().collect::<Vec<_>>().join(", ")))),
        }
    }
}

impl Sink for Store {
    fn take(&mut self, event: &Stamped) -> Result<(), Fault> {
        self.append(std::slice::from_ref(event)).map(|_| ())
    }
}

fn parse(body: &[u8]) -> Result<Stamped, Fault> {
    serde_json::from_slice(body).map_err(|error| {
        record_fault("an entry of the record cannot be read").because(&error).hint("see `rollbook verify`")
    })
}

fn record_fault(message: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Record, message)
}

fn make_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Sets a connection up, and makes the tables of a new store. The inner error says why a file is not ours.
fn prepare(connection: &mut Connection) -> rusqlite::Result<Result<(), String>> {
    connection.busy_timeout(BUSY)?;
    let id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (id, version, tables) {
        (APPLICATION_ID, VERSION, _) | (0, 0, 0) => {}
        (APPLICATION_ID, newer, _) => {
            return Ok(Err(format!("is of version {newer}, and this program knows {VERSION}")));
        }
        _ => return Ok(Err("is another program's database".to_owned())),
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let made: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if made == 0 {
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        insert(&transaction, &genesis())?;
    }
    transaction.commit()?;
    Ok(Ok(()))
}

fn genesis() -> Entry {
    let mut random = [0u8; 16];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).expect("the kernel has randomness");
    let store: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let at = Timestamp::now().0;
    let body = json!({"event": "genesis", "store": store, "version": VERSION, "at": at}).to_string().into_bytes();
    let hash = chain::hash(&chain::NOTHING, 0, &body);
    Entry { seq: 0, run: String::new(), kind: "genesis".to_owned(), at, body, hash }
}

fn insert(connection: &Connection, entry: &Entry) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO entry (seq, run, kind, at, body, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![entry.seq as i64, entry.run, entry.kind, entry.at, entry.body, entry.hash.0])
        .map(|_| ())
}

fn read_entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        seq: row.get::<_, i64>(0)? as u64,
        run: row.get(1)?,
        kind: row.get(2)?,
        at: row.get(3)?,
        body: row.get(4)?,
        hash: Digest(row.get(5)?),
    })
}

fn read_head(connection: &Connection) -> rusqlite::Result<Option<Head>> {
    let last = connection
        .query_row("SELECT seq, run, kind, at, body, hash FROM entry ORDER BY seq DESC LIMIT 1", [], read_entry)
        .optional()?;
    let genesis: Option<Vec<u8>> =
        connection.query_row("SELECT body FROM entry WHERE seq = 0", [], |row| row.get(0)).optional()?;
    let store = genesis.and_then(|body| serde_json::from_slice::<serde_json::Value>(&body).ok());
    let store = store.and_then(|genesis| genesis["store"].as_str().map(str::to_owned));
    Ok(last.zip(store).map(|(last, store)| Head { store, seq: last.seq, hash: last.hash }))
}
