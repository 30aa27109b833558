//! The tables of a store, and whether a file is one (docs/record-format.md).

use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior, limits::Limit, params};
use serde_json::json;

use crate::{
    base::{Digest, Timestamp},
    model::witness::Witness,
    record::chain::{self, Entry, Genesis},
};

/// "RBOK": says that a file is ours.
const APPLICATION_ID: i32 = 0x52_42_4f_4b;

/// The version of the tables.
const VERSION: i32 = 1;

/// How long to wait for another process that writes.
const BUSY: Duration = Duration::from_secs(30);

/// How long one entry may be. Nothing longer is written, and nothing longer is taken into memory when it is read.
/// An agent's events are shorter than a frame (1 MiB); the opening of a run on 100,000 hosts takes some 2 MiB.
pub(super) const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Each object of the database: its name, and the text that makes it.
const OBJECTS: [(&str, &str); 4] = [
    (
        "entry",
        "CREATE TABLE entry (
    seq  INTEGER PRIMARY KEY,
    run  TEXT NOT NULL,
    kind TEXT NOT NULL,
    at   INTEGER NOT NULL,
    body BLOB NOT NULL,
    hash BLOB NOT NULL
) STRICT",
    ),
    ("entry_closing", "CREATE INDEX entry_closing ON entry (run) WHERE kind = 'run_closed'"),
    ("entry_of_run", "CREATE INDEX entry_of_run ON entry (run)"),
    ("entry_opening", "CREATE UNIQUE INDEX entry_opening ON entry (run) WHERE kind = 'run_opened'"),
];

/// What a file is to us.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kinship {
    /// A store.
    Ours,
    /// Nothing yet.
    Empty,
    /// Something else; why.
    Foreign(String),
}

/// Looks at a database without writing.
pub(super) fn kinship(connection: &Connection) -> rusqlite::Result<Kinship> {
    let id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let objects = objects(connection)?;
    Ok(match (id, version) {
        (0, 0) if objects.is_empty() => Kinship::Empty,
        (APPLICATION_ID, VERSION) if is_as_made(&objects) => Kinship::Ours,
        (APPLICATION_ID, VERSION) => Kinship::Foreign("its tables are not the ones that Rollbook makes".to_owned()),
        (APPLICATION_ID, other) => {
            Kinship::Foreign(format!("it has version {other}; this Rollbook reads version {VERSION}"))
        }
        _ => Kinship::Foreign("it is another program's database".to_owned()),
    })
}

fn objects(connection: &Connection) -> rusqlite::Result<Vec<(String, Option<String>)>> {
    let mut statement = connection.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

fn is_as_made(objects: &[(String, Option<String>)]) -> bool {
    let found = objects.iter().map(|(name, sql)| (name.as_str(), sql.as_deref()));
    found.eq(OBJECTS.iter().map(|(name, sql)| (*name, Some(*sql))))
}

/// Settings of every connection.
pub(super) fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    let limit = i32::try_from(BODY_BYTES_MAX + 4096).expect("16 MiB fit");
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, limit)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)
}

/// Settings of a connection that writes: a commit has returned only when it is on disk.
pub(super) fn set_up_for_writing(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)
}

/// Makes the tables and the genesis entry, unless another process was faster.
pub(super) fn make(connection: &mut Connection) -> rusqlite::Result<()> {
    // Most entries that hold a difference fit into one page, and fewer pages are fewer writes.
    connection.pragma_update(None, "page_size", 8192)?;
    into_wal(connection)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if kinship(&transaction)? == Kinship::Empty {
        for (_, sql) in OBJECTS {
            transaction.execute(sql, [])?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        insert(&transaction, &genesis())?;
    }
    transaction.commit()
}

/// Turns write-ahead logging on. SQLite does not wait for others here, so this does.
fn into_wal(connection: &Connection) -> rusqlite::Result<()> {
    const PAUSE: Duration = Duration::from_millis(20);
    let mut tries = BUSY.as_millis() / PAUSE.as_millis();
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && tries > 0 => {
                tries -= 1;
                std::thread::sleep(PAUSE);
            }
            other => return other,
        }
    }
}

fn genesis() -> Entry {
    let mut random = [0u8; 16];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).expect("the kernel has randomness");
    let store: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let at = Timestamp::now();
    let body = json!({"event": "genesis", "store": store, "version": VERSION, "at": at}).to_string().into_bytes();
    let hash = chain::hash(&chain::NOTHING, 0, &body);
    Entry { seq: 0, run: String::new(), kind: "genesis".to_owned(), at, body, hash }
}

/// Writes an entry.
pub(super) fn insert(connection: &Connection, entry: &Entry) -> rusqlite::Result<()> {
    let Entry { seq, run, kind, at, body, hash } = entry;
    let seq = i64::try_from(*seq).expect("nobody writes 2^63 entries");
    connection
        .prepare_cached("INSERT INTO entry (seq, run, kind, at, body, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![seq, run, kind, at.0, body, hash.0])
        .map(|_| ())
}

/// The last entry, and the store's id; nothing where the genesis entry is missing or unreadable.
pub(super) fn head(connection: &Connection) -> rusqlite::Result<Option<Witness>> {
    let last = connection
        .prepare_cached("SELECT seq, hash FROM entry ORDER BY seq DESC LIMIT 1")?
        .query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 32]>(1)?)))
        .optional()?;
    let genesis: Option<Vec<u8>> = connection
        .prepare_cached("SELECT body FROM entry WHERE seq = 0")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let head = |(seq, hash)| {
        let genesis: Genesis = serde_json::from_slice(&genesis?).ok()?;
        Some(Witness { store: genesis.store, seq: u64::try_from(seq).ok()?, hash: Digest(hash) })
    };
    Ok(last.and_then(head))
}
