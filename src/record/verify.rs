//! Whether anybody has edited the record.

use std::collections::BTreeSet;

use rusqlite::Connection;

use crate::{
    base::{Digest, Fault},
    model::witness::Witness,
    record::{
        Store,
        chain::{self, Entry, Genesis, Tags},
        query,
    },
};

/// What verifying found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The store's id, where its first entry is whole.
    pub store: Option<String>,
    /// Entries that are as they were written, up to the first that is not.
    pub entries: u64,
    /// Runs among them.
    pub runs: u64,
    /// Runs that were opened and never closed, in the order of their opening.
    pub open_runs: Vec<String>,
    /// The first entry that is not as it was written.
    pub bad: Option<BadEntry>,
    /// What is wrong with the file although every entry is whole: an index that does not lead to its entries.
    pub damage: Option<String>,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.bad.is_none() && self.damage.is_none()
    }
}

/// An entry that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadEntry {
    /// Its number.
    pub seq: u64,
    /// Its run, as far as that can be believed; empty where none can be named.
    pub run: String,
    /// What is wrong with it.
    pub what: String,
}

/// What the store has to say to somebody who has seen it before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WitnessVerdict {
    /// It still has that entry.
    Holds,
    /// Another store was seen: there is nothing to say.
    OtherStore,
    /// That entry is not there, or is another one.
    Broken(BadEntry),
}

const IN_ORDER: &str = "SELECT seq, run, kind, at, body, hash FROM entry ORDER BY seq";

impl Store {
    /// Reads every entry and computes the chain anew. Memory does not grow with the entries, but for the names of runs
    /// that are open. What other programs append meanwhile is not looked at.
    ///
    /// # Errors
    /// Kind `Record`: the store could not be read at all. What is wrong with entries stands in the verdict.
    pub fn verify(&self) -> Result<Verdict, Fault> {
        self.told("reading", |connection| connection.execute_batch("BEGIN"))?;
        let verdict = self.told("reading", |connection| {
            let mut walk = Walk::new(connection);
            walk.entries()?;
            let Walk { mut verdict, .. } = walk;
            if verdict.bad.is_none() {
                verdict.damage = damage(connection)?;
            }
            if verdict.is_whole() {
                verdict.open_runs = open_runs(connection)?;
            }
            Ok(verdict)
        });
        self.told("reading", |connection| connection.execute_batch("ROLLBACK"))?;
        verdict
    }

    /// Whether the store still has what a witness has seen of it.
    ///
    /// # Errors
    /// Kind `Record`: the store cannot be read.
    pub fn check_witness(&self, seen: &Witness) -> Result<WitnessVerdict, Fault> {
        if seen.store != self.head()?.store {
            return Ok(WitnessVerdict::OtherStore);
        }
        let what = match self.hash_of(seen.seq)? {
            Some(hash) if hash == seen.hash => return Ok(WitnessVerdict::Holds),
            Some(_) => "a witness has seen it with another hash: it was written anew",
            None => "a witness has seen it, and it is gone: the end of the record was cut off",
        };
        Ok(WitnessVerdict::Broken(BadEntry { seq: seen.seq, run: String::new(), what: what.to_owned() }))
    }
}

/// A walk along the chain.
struct Walk<'a> {
    connection: &'a Connection,
    verdict: Verdict,
    before: Digest,
    /// Runs that were opened and not closed yet.
    open: BTreeSet<String>,
}

impl<'a> Walk<'a> {
    fn new(connection: &'a Connection) -> Self {
        Walk { connection, verdict: Verdict::default(), before: chain::NOTHING, open: BTreeSet::new() }
    }

    /// Goes on until the end or the first bad entry.
    fn entries(&mut self) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare(IN_ORDER)?;
        let mut rows = statement.query([])?;
        loop {
            let due = self.verdict.entries;
            let entry = match rows.next() {
                Ok(Some(row)) => query::entry(row),
                Ok(None) if due == 0 => {
                    self.verdict.bad = Some(bad(0, "", "it is missing, and with it everything"));
                    return Ok(());
                }
                Ok(None) => return Ok(()),
                Err(error) => Err(error),
            };
            let wrong = match entry {
                Ok(entry) => self.entry(&entry)?,
                Err(error) => Some(bad(due, "", &format!("it cannot be read: {error}"))),
            };
            if wrong.is_some() {
                self.verdict.bad = wrong;
                return Ok(());
            }
        }
    }

    /// Looks at the next entry; what is wrong with it, if anything is.
    fn entry(&mut self, entry: &Entry) -> rusqlite::Result<Option<BadEntry>> {
        let due = self.verdict.entries;
        if entry.seq != due {
            return Ok(Some(bad(due, "", "it is missing")));
        }
        if let Some(what) = wrong(entry, &self.before) {
            return Ok(Some(bad(due, &entry.run, &what)));
        }
        if entry.seq == 0 {
            let genesis: Option<Genesis> = serde_json::from_slice(&entry.body).ok();
            self.verdict.store = genesis.map(|genesis| genesis.store);
        } else if !self.belongs(entry)? {
            return Ok(Some(bad(due, &entry.run, "it stands before the opening of its run")));
        }
        self.verdict.entries += 1;
        self.before = entry.hash;
        Ok(None)
    }

    /// Whether an entry's run was opened before it. Keeps count of runs.
    fn belongs(&mut self, entry: &Entry) -> rusqlite::Result<bool> {
        if entry.kind == "run_opened" {
            self.verdict.runs += 1;
            return Ok(self.open.insert(entry.run.clone()));
        }
        let is_open = self.open.contains(&entry.run);
        if entry.kind == "run_closed" {
            self.open.remove(&entry.run);
        }
        Ok(is_open || self.was_opened(entry)?)
    }

    /// Whether an entry of a run that was closed already, or never opened, has its opening before it.
    fn was_opened(&self, entry: &Entry) -> rusqlite::Result<bool> {
        let opening = "SELECT seq FROM entry WHERE kind = 'run_opened' AND run = ?1";
        let mut statement = self.connection.prepare_cached(opening)?;
        let mut rows = statement.query([&entry.run])?;
        let Some(row) = rows.next()? else { return Ok(false) };
        Ok(u64::try_from(row.get::<_, i64>(0)?).is_ok_and(|seq| seq < entry.seq))
    }
}

/// What is wrong with an entry by itself, or with its place behind the one before.
fn wrong(entry: &Entry, before: &Digest) -> Option<String> {
    if chain::hash(before, entry.seq, &entry.body) != entry.hash {
        return Some("its content, its hash or its place was changed".to_owned());
    }
    let tags = match Tags::read(&entry.body) {
        Ok(tags) => tags,
        Err(error) => return Some(format!("its content is no event: {error}")),
    };
    let genesis = (entry.seq == 0) == (tags.event == "genesis" && tags.run.is_none());
    let columns = [("run", tags.run() == entry.run), ("kind", tags.event == entry.kind), ("at", tags.at == entry.at)];
    match columns.into_iter().find(|(_, agrees)| !agrees) {
        Some((column, _)) => Some(format!("its column `{column}` says something else than its content")),
        None => (!genesis).then(|| "only the first entry is one without a run".to_owned()),
    }
}

fn bad(seq: u64, run: &str, what: &str) -> BadEntry {
    BadEntry { seq, run: run.to_owned(), what: what.to_owned() }
}

/// What SQLite itself finds wrong with the file: pages, types, and whether the indexes lead to the entries.
fn damage(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    Ok((found != "ok").then_some(found))
}

fn open_runs(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let open = "SELECT run FROM entry o WHERE kind = 'run_opened'
        AND NOT EXISTS (SELECT 1 FROM entry c WHERE c.run = o.run AND c.kind = 'run_closed') ORDER BY seq";
    connection.prepare(open)?.query_map([], |row| row.get(0))?.collect()
}
