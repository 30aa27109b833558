//! `rollbook log`.

use clap::Args;
use serde_json::json;

use crate::{
    base::{Faults, Timestamp},
    cli::{Exit, Global, run::refuse},
    model::event::RunOutcome,
    record::{OutcomeFilter, RunFilter, RunSummary, Store},
    report::{self, Line, Mark, Table},
};

/// List the runs in the record, newest first.
///
/// `rollbook show RUN` tells one of them whole. With --json each run is one line: its opening and closing events.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// At most so many
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 50)]
    limit: usize,
    /// Only runs on this host
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Only runs of this runbook: its file or its name
    #[arg(long, value_name = "RUNBOOK")]
    runbook: Option<String>,
    /// Only runs that ended so: succeeded, rolled-back, failed, needs-recovery, or open (never closed)
    #[arg(long, value_name = "HOW")]
    outcome: Option<OutcomeFilter>,
    /// Only runs opened at this time or later: 2026-11-23, or 2026-11-23T05:10:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
}

pub(crate) fn run(args: &LogArgs, global: &Global) -> Exit {
    list(args, global).unwrap_or_else(|faults| refuse(&faults, global))
}

fn list(args: &LogArgs, global: &Global) -> Result<Exit, Faults> {
    let filter = RunFilter {
        host: args.host.clone(),
        runbook: args.runbook.clone(),
        outcome: args.outcome,
        since: args.since,
        limit: Some(args.limit),
    };
    let found = Store::open_read_only(&global.store())?.runs(&filter)?;
    if global.json {
        found.runs.iter().for_each(|run| report::write_json(&row(run).to_string()));
    } else if found.runs.is_empty() {
        report::say("no such run is on record");
    } else {
        report::write_lines(&table(&found.runs));
    }
    for run in &found.unreadable {
        report::say(&format!("run {run} has an opening or closing that cannot be read: see rollbook verify"));
    }
    Ok(if found.unreadable.is_empty() { Exit::Done } else { Exit::Record })
}

fn table(runs: &[RunSummary]) -> Vec<Line> {
    let mut table = Table::new(&["RUN", "OPENED (UTC)", "BY", "RUNBOOK", "HOSTS", "OUTCOME", "CHANGE"]);
    table.numbers(4..5);
    for run in runs {
        let outcome = run.closed.as_ref().map(|closed| closed.outcome);
        let (mark, words) = match outcome {
            Some(RunOutcome::Succeeded) => (Mark::Fine, report::run_words(RunOutcome::Succeeded)),
            Some(outcome) => (Mark::Alarm, report::run_words(outcome)),
            None => (Mark::Alarm, "never closed"),
        };
        let hosts = match run.opened.hosts.as_slice() {
            [host] => host.to_string(),
            hosts => hosts.len().to_string(),
        };
        let plain = |text: &str| (Mark::Plain, text.to_owned());
        table.marked_row(vec![
            (Mark::Strong, run.run.to_string()),
            (Mark::Plain, report::time::moment(run.at)),
            (Mark::Plain, report::operator_words(&run.opened.operator)),
            plain(&run.opened.runbook.name),
            (Mark::Plain, hosts),
            (mark, words.to_owned()),
            plain(run.opened.change.as_deref().unwrap_or_default()),
        ]);
    }
    table.lines()
}

fn row(run: &RunSummary) -> serde_json::Value {
    json!({
        "run": run.run,
        "at": run.at,
        "opened": run.opened,
        "closed": run.closed.as_ref().map(|closed| json!({
            "at": closed.at,
            "outcome": closed.outcome,
            "hosts": closed.hosts,
            "counts": closed.counts,
            "took_ms": closed.took_ms,
        })),
    })
}

/// A day, or a moment in UTC.
fn moment(text: &str) -> Result<Timestamp, String> {
    let whole = if text.contains('T') { text.to_owned() } else { format!("{text}T00:00:00Z") };
    whole.parse().map_err(|_| "write a day, 2026-11-23, or a moment in UTC, 2026-11-23T05:10:00Z".to_owned())
}
