//! `rollbook verify`.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use serde_json::json;

use crate::{
    base::{Fault, Faults, Masker, Place},
    cli::{
        Exit, Global, ask,
        run::{self, ConnectArgs},
        secrets,
    },
    engine::witness,
    model::{inventory::Host, runbook::Placed},
    record::{BadEntry, Store, Verdict, WitnessVerdict},
    report, syntax,
};

/// Check that nobody has edited, cut or reordered the record.
///
/// Each entry's hash covers the entry before it, so the first that is not as it was written is found and named. What
/// the file alone cannot show is that its last entries were taken away; but every target keeps the newest heads of the
/// chain that it has seen: with -i they are asked. Exit code 6 where the record is not whole.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Ask the hosts of this inventory what they have seen
    #[arg(short, long, value_name = "FILE")]
    inventory: Option<PathBuf>,
    /// Only these hosts: names, groups, globs, `a:&b`, `a:!b`
    #[arg(short, long, value_name = "PATTERN", default_value = "all", requires = "inventory")]
    limit: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(crate) fn run(args: &VerifyArgs, global: &Global) -> Exit {
    verify(args, global).unwrap_or_else(|faults| run::refuse(&faults, global))
}

fn verify(args: &VerifyArgs, global: &Global) -> Result<Exit, Faults> {
    let store = Store::open_read_only(&global.store())?;
    let verdict = store.verify()?;
    tell(&verdict, &store, global);
    let whole = if verdict.is_whole() { Exit::Done } else { Exit::Record };
    match &args.inventory {
        Some(inventory) => Ok(worse(whole, ask_hosts(args, inventory, &store, global)?)),
        None => Ok(whole),
    }
}

fn tell(verdict: &Verdict, store: &Store, global: &Global) {
    let file = store.path().display().to_string();
    if global.json {
        let bad = verdict.bad.as_ref().map(bad_json);
        let told = json!({
            "record": file, "store": verdict.store, "whole": verdict.is_whole(), "entries": verdict.entries,
            "runs": verdict.runs, "open_runs": verdict.open_runs, "bad": bad, "damage": verdict.damage,
        });
        return report::write_json(&told.to_string());
    }
    for run in &verdict.open_runs {
        report::write_line(&format!("run {run} was never closed: how it ended is not on record"));
    }
    if let Some(bad) = &verdict.bad {
        report::write_line(&bad_words(bad));
    }
    if let Some(damage) = &verdict.damage {
        report::write_line(&format!("the file is damaged: {damage}"));
    }
    let (entries, runs) = (verdict.entries, verdict.runs);
    report::write_line(&match verdict.is_whole() {
        true => format!("the record {file} is whole: {entries} entries of {runs} runs"),
        false => format!("the record {file} is NOT WHOLE: only its first {entries} entries are as they were written"),
    });
}

fn bad_words(bad: &BadEntry) -> String {
    let run = if bad.run.is_empty() { String::new() } else { format!(" (run {})", bad.run) };
    format!("entry {}{run} is not as it was written: {}", bad.seq, bad.what)
}

fn bad_json(bad: &BadEntry) -> serde_json::Value {
    json!({"entry": bad.seq, "run": bad.run, "what": bad.what})
}

/// Asks the hosts which heads they have seen, and compares.
fn ask_hosts(args: &VerifyArgs, inventory: &std::path::Path, store: &Store, global: &Global) -> Result<Exit, Faults> {
    let (inventory, _) = syntax::inventory::load(inventory)?;
    let limit = Placed { value: args.limit.clone(), place: Place::file("--limit") };
    let names = syntax::pattern::select(&inventory, &limit)?;
    let hosts: Vec<Arc<Host>> = inventory.hosts.iter().filter(|host| names.contains(&host.name)).cloned().collect();
    let masker = Masker::new(secrets::of_hosts(&hosts));
    let settings = args.connect.settings(ask::Terminal::new(&masker));
    let runtime = run::runtime()?;
    let testimonies =
        runtime.block_on(witness::ask(&hosts, &settings, crate::cli::descriptors::hosts_at_once(args.connect.forks)));
    let mut exit = Exit::Done;
    for (host, testimony) in testimonies {
        let (found, words) = match testimony {
            Ok(seen) => judge(store, &seen)?,
            Err(fault) => (Exit::Unreachable, format!("could not be asked: {}", masker.hide(&fault.to_string()))),
        };
        exit = worse(exit, found);
        match global.json {
            true => report::write_json(&json!({"host": host, "whole": found == Exit::Done, "says": words}).to_string()),
            false => report::write_line(&format!("{host}: {}", report::clean::line(&words))),
        }
    }
    Ok(exit)
}

/// What a host has seen against what the store has.
fn judge(store: &Store, seen: &[crate::model::witness::Witness]) -> Result<(Exit, String), Fault> {
    let mut agreed = 0;
    for witness in seen {
        match store.check_witness(witness)? {
            WitnessVerdict::Holds => agreed += 1,
            WitnessVerdict::OtherStore => {}
            WitnessVerdict::Broken(bad) => {
                return Ok((Exit::Record, format!("has seen otherwise: {}", bad_words(&bad))));
            }
        }
    }
    Ok((Exit::Done, format!("has seen {agreed} heads of this record, and all are in it")))
}

/// Of two ends the one that must be looked at first.
fn worse(a: Exit, b: Exit) -> Exit {
    if [a, b].contains(&Exit::Record) {
        Exit::Record
    } else if a == Exit::Done {
        b
    } else {
        a
    }
}
