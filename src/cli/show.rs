//! `rollbook show`.

use clap::Args;

use crate::{
    base::Faults,
    cli::{Exit, Global, run::refuse},
    record::{RunFilter, Store},
    report::{self, Story, Style},
};

/// Show one run of the record: who, when, why, what exactly, and each host's changes, failures and way back.
///
/// The record is shown as it is kept; whether anybody has edited it is what `rollbook verify` says.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The run: the beginning of its id, as long as it is unique, or `last`
    run: String,
    /// Show what changed in files line by line
    #[arg(short, long)]
    diff: bool,
}

pub(crate) fn run(args: &ShowArgs, global: &Global) -> Exit {
    show(args, global).map_or_else(|faults| refuse(&faults, global), |()| Exit::Done)
}

fn show(args: &ShowArgs, global: &Global) -> Result<(), Faults> {
    let store = Store::open_read_only(&global.store())?;
    let last = RunFilter { limit: Some(1), ..RunFilter::default() };
    let run = match args.run.as_str() {
        "last" => store.runs(&last)?.runs.into_iter().next().map(|summary| summary.run),
        _ => None,
    };
    let run = run.map_or_else(|| store.find(&args.run), Ok)?;
    if global.json {
        store.each_entry_of(&run, |entry| {
            report::write_json(&String::from_utf8_lossy(&entry.body));
            Ok(())
        })?;
        return Ok(());
    }
    let mut story = Story::new(run.clone(), Style { diff: args.diff, verbose: global.verbose > 0 });
    let mut unknown = 0;
    store.each_entry_of(&run, |entry| {
        match entry.event() {
            Some(event) => story.take(event),
            None => unknown += 1,
        }
        Ok(())
    })?;
    report::write_lines(&story.lines());
    if unknown > 0 {
        report::say(&format!("{unknown} entries are of a newer version, or damaged: see rollbook verify"));
    }
    Ok(())
}
