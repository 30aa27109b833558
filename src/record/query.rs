//! Questions to the record.

use std::{collections::BTreeMap, str::FromStr};

use rusqlite::{OptionalExtension, Row, params};

use crate::{
    base::{Digest, Fault, FaultKind, Timestamp, fault::nearest},
    model::{
        event::{Counts, Event, HostOutcome, RunOpened, RunOutcome, Stamped},
        ids::RunId,
    },
    record::{Store, chain::Entry},
};

/// Which runs to list. An empty filter lets all through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Only runs on this host.
    pub host: Option<String>,
    /// Only runs of the runbook with this file or name.
    pub runbook: Option<String>,
    /// Only runs that ended so.
    pub outcome: Option<OutcomeFilter>,
    /// Only runs opened at this time or later.
    pub since: Option<Timestamp>,
    /// At most so many.
    pub limit: Option<usize>,
}

/// How a run ended, or that it did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeFilter {
    /// It was closed with this outcome.
    Ended(RunOutcome),
    /// It was never closed.
    Open,
}

impl OutcomeFilter {
    /// The words that mean one, in the order of their meanings.
    pub const WORDS: [(&str, OutcomeFilter); 5] = [
        ("succeeded", OutcomeFilter::Ended(RunOutcome::Succeeded)),
        ("rolled-back", OutcomeFilter::Ended(RunOutcome::RolledBack)),
        ("failed", OutcomeFilter::Ended(RunOutcome::Failed)),
        ("needs-recovery", OutcomeFilter::Ended(RunOutcome::NeedsRecovery)),
        ("open", OutcomeFilter::Open),
    ];
}

impl FromStr for OutcomeFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let word = text.replace(['_', ' '], "-");
        let found = Self::WORDS.iter().find(|(known, _)| *known == word);
        let words = || Self::WORDS.map(|(known, _)| known).join(", ");
        found.map(|(_, outcome)| *outcome).ok_or_else(|| format!("one of: {}", words()))
    }
}

/// A run as the list has it.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSummary {
    /// Its id.
    pub run: RunId,
    /// When it was opened.
    pub at: Timestamp,
    /// How it was opened.
    pub opened: RunOpened,
    /// How it was closed, if it was.
    pub closed: Option<RunClosing>,
}

/// How a run was closed.
#[derive(Clone, Debug, PartialEq)]
pub struct RunClosing {
    /// When.
    pub at: Timestamp,
    /// How it ended.
    pub outcome: RunOutcome,
    /// Hosts by outcome.
    pub hosts: BTreeMap<HostOutcome, u32>,
    /// All hosts' counts together.
    pub counts: Counts,
    /// Milliseconds from opening to closing.
    pub took_ms: u64,
}

/// The runs that were asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunList {
    /// Newest first.
    pub runs: Vec<RunSummary>,
    /// Runs whose opening or closing entry is not what any Rollbook writes.
    pub unreadable: Vec<String>,
}

const LISTED: &str = "SELECT run, body,
        (SELECT body FROM entry c WHERE c.run = o.run AND c.kind = 'run_closed' ORDER BY c.seq DESC LIMIT 1)
    FROM entry o WHERE kind = 'run_opened' ORDER BY seq DESC";

const COLUMNS: &str = "seq, run, kind, at, body, hash";

impl Store {
    /// The runs that pass a filter, newest first.
    pub fn runs(&self, filter: &RunFilter) -> Result<RunList, Fault> {
        let limit = filter.limit.unwrap_or(usize::MAX);
        self.told("reading", |connection| {
            let mut list = RunList::default();
            let mut statement = connection.prepare(LISTED)?;
            let mut rows = statement.query([])?;
            while list.runs.len() < limit
                && let Some(row) = rows.next()?
            {
                let (run, opened, closed): (String, Vec<u8>, Option<Vec<u8>>) = (row.get(0)?, row.get(1)?, row.get(2)?);
                match summary(&opened, closed.as_deref()) {
                    Some(summary) if filter.passes(&summary) => list.runs.push(summary),
                    Some(_) => {}
                    None => list.unreadable.push(run),
                }
            }
            Ok(list)
        })
    }

    /// The run whose id begins with `prefix`.
    ///
    /// # Errors
    /// Kind `Usage`: there is none, or more than one.
    pub fn find(&self, prefix: &str) -> Result<RunId, Fault> {
        const NAMED: usize = 6;
        let mut found = self.run_ids("WHERE kind = 'run_opened' AND run >= ?1 AND run < ?1 || '~'", prefix, NAMED)?;
        if found.len() > 1 {
            let more = if found.len() == NAMED { ", …" } else { "" };
            let message = format!("several runs begin with {prefix}: {}{more}", found.join(", "));
            return Err(Fault::new(FaultKind::Usage, message).hint("write more of the id"));
        }
        let Some(run) = found.pop() else { return Err(self.unknown(prefix)) };
        run.parse().map_err(|error| {
            let message = format!("the record has a run that is called {run:?}, which is {error}");
            Fault::new(FaultKind::Record, message).hint("see what `rollbook verify` says")
        })
    }

    fn unknown(&self, prefix: &str) -> Fault {
        const LOOKED_AT: usize = 1000;
        let fault = Fault::new(FaultKind::Usage, format!("the record has no run that begins with {prefix}"));
        let ids = self.run_ids("WHERE kind = 'run_opened' AND run <> ?1", prefix, LOOKED_AT).unwrap_or_default();
        let beginning = |id: &String| id.chars().take(prefix.chars().count()).collect::<String>();
        let beginnings: Vec<String> = ids.iter().map(beginning).collect();
        let near = nearest(prefix, beginnings.iter().map(String::as_str));
        match near.and_then(|near| ids.iter().find(|id| id.starts_with(near))) {
            Some(id) => fault.hint(format!("did you mean {id}?")),
            None => fault.hint("`rollbook log` lists the runs"),
        }
    }

    fn run_ids(&self, condition: &str, prefix: &str, limit: usize) -> Result<Vec<String>, Fault> {
        let sql = format!("SELECT run FROM entry {condition} ORDER BY run DESC LIMIT {limit}");
        self.told("reading", |connection| connection.prepare(&sql)?.query_map([prefix], |row| row.get(0))?.collect())
    }

    /// Calls `each` with every entry of a run in order, until it gives an error.
    pub fn each_entry_of(&self, run: &RunId, mut each: impl FnMut(Entry) -> Result<(), Fault>) -> Result<(), Fault> {
        let sql = format!("SELECT {COLUMNS} FROM entry WHERE run = ?1 ORDER BY seq");
        let walked = self.told("reading", |connection| {
            let mut statement = connection.prepare(&sql)?;
            let mut rows = statement.query([run.as_str()])?;
            while let Some(row) = rows.next()? {
                if let Err(fault) = each(entry(row)?) {
                    return Ok(Err(fault));
                }
            }
            Ok(Ok(()))
        });
        walked?
    }

    /// The events of a run that this version knows, in order, all in memory: for runs of moderate size.
    pub fn events_of(&self, run: &RunId) -> Result<Vec<Stamped>, Fault> {
        let mut events = Vec::new();
        self.each_entry_of(run, |entry| {
            events.extend(entry.event());
            Ok(())
        })?;
        Ok(events)
    }

    /// The hash of an entry, if there is one of that number.
    pub fn hash_of(&self, seq: u64) -> Result<Option<Digest>, Fault> {
        let Ok(seq) = i64::try_from(seq) else { return Ok(None) };
        let found = self.told("reading", |connection| {
            let hash = "SELECT hash FROM entry WHERE seq = ?1";
            connection.query_row(hash, params![seq], |row| row.get::<_, [u8; 32]>(0)).optional()
        });
        Ok(found?.map(Digest))
    }
}

impl Entry {
    /// The event, if this version knows it.
    pub fn event(&self) -> Option<Stamped> {
        serde_json::from_slice(&self.body).ok()
    }
}

impl RunFilter {
    fn passes(&self, run: &RunSummary) -> bool {
        let RunFilter { host, runbook, outcome, since, limit: _ } = self;
        let outcome_of_run = run.closed.as_ref().map_or(OutcomeFilter::Open, |end| OutcomeFilter::Ended(end.outcome));
        let label = &run.opened.runbook;
        host.as_ref().is_none_or(|host| run.opened.hosts.iter().any(|of_run| of_run.as_str() == host))
            && runbook.as_ref().is_none_or(|runbook| *runbook == label.file || *runbook == label.name)
            && outcome.is_none_or(|outcome| outcome == outcome_of_run)
            && since.is_none_or(|since| run.at >= since)
    }
}

fn summary(opened: &[u8], closed: Option<&[u8]>) -> Option<RunSummary> {
    let Stamped { at, run, event: Event::RunOpened(opened) } = serde_json::from_slice(opened).ok()? else {
        return None;
    };
    let closed = match closed {
        Some(closed) => Some(closing(closed)?),
        None => None,
    };
    Some(RunSummary { run, at, opened: *opened, closed })
}

fn closing(body: &[u8]) -> Option<RunClosing> {
    let Stamped { at, event, .. } = serde_json::from_slice(body).ok()?;
    let Event::RunClosed { outcome, hosts, counts, took_ms } = event else { return None };
    Some(RunClosing { at, outcome, hosts, counts, took_ms })
}

/// Reads a row of [`COLUMNS`].
pub(super) fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let seq: i64 = row.get(0)?;
    Ok(Entry {
        seq: u64::try_from(seq).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, seq))?,
        run: row.get(1)?,
        kind: row.get(2)?,
        at: Timestamp(row.get(3)?),
        body: row.get(4)?,
        hash: Digest(row.get(5)?),
    })
}
