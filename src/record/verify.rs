//! Whether anybody has edited the record.

use std::collections::BTreeMap;

use crate::{
    base::{Digest, Fault},
    record::{
        chain::{self, Entry, Head},
        store::Store,
    },
};

/// What verifying found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Entries that were looked at.
    pub entries: u64,
    /// Runs among them.
    pub runs: u64,
    /// Runs that were opened and never closed.
    pub open_runs: Vec<String>,
    /// The first entry that is not as it was written.
    pub bad: Option<BadEntry>,
}

/// An entry that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadEntry {
    /// Its number.
    pub seq: u64,
    /// Its run, as far as that can be believed.
    pub run: String,
    /// What is wrong with it.
    pub what: String,
}

impl Store {
    /// Reads every entry and computes the chain anew. Memory does not grow with the entries.
    pub fn verify(&self) -> Result<Verdict, Fault> {
        let mut verdict = Verdict::default();
        let mut before = chain::NOTHING;
        let mut open: BTreeMap<String, ()> = BTreeMap::new();
        self.each_entry(|entry| {
            if let Some(what) = wrong(&entry, verdict.entries, &before) {
                verdict.bad = Some(BadEntry { seq: entry.seq, run: entry.run, what });
                return false;
            }
            verdict.entries += 1;
            before = entry.hash;
            match entry.kind.as_str() {
                "run_opened" => {
                    verdict.runs += 1;
                    open.insert(entry.run, ());
                }
                "run_closed" => drop(open.remove(&entry.run)),
                _ => {}
            }
            true
        })?;
        if verdict.entries == 0 && verdict.bad.is_none() {
            let what = "the genesis entry is missing".to_owned();
            verdict.bad = Some(BadEntry { seq: 0, run: String::new(), what });
        }
        verdict.open_runs = open.into_keys().collect();
        Ok(verdict)
    }

    /// Whether the store still has what somebody has seen of it. `None` where it has, or where another store was seen.
    pub fn compare(&self, seen: &Head) -> Result<Option<BadEntry>, Fault> {
        if seen.store != self.head().store {
            return Ok(None);
        }
        let what = match self.hash_of(seen.seq)? {
            Some(hash) if hash == seen.hash => return Ok(None),
            Some(_) => "it was seen with another hash",
            None => "it was seen, and is gone: the end of the record was cut off",
        };
        Ok(Some(BadEntry { seq: seen.seq, run: String::new(), what: what.to_owned() }))
    }
}

/// What is wrong with an entry, if anything is.
fn wrong(entry: &Entry, due: u64, before: &Digest) -> Option<String> {
    if entry.seq != due {
        return Some(format!("entry {due} is missing"));
    }
    if chain::hash(before, entry.seq, &entry.body) != entry.hash {
        return Some("its content or its hash was changed, or an entry before it".to_owned());
    }
    let body: serde_json::Value = match serde_json::from_slice(&entry.body) {
        Ok(body) => body,
        Err(_) => return Some("its content is not JSON".to_owned()),
    };
    let columns = [
        ("run", body["run"].as_str().unwrap_or_default() == entry.run),
        ("kind", body["event"].as_str().unwrap_or_default() == entry.kind),
        ("at", body["at"].as_i64() == Some(entry.at)),
    ];
    let lie = columns.into_iter().find(|(_, agrees)| !agrees)?;
    Some(format!("its column `{}` says something else than its content", lie.0))
}
