//! `rollbook plan`: what a runbook would change.

use clap::Args;

use crate::{
    base::Faults,
    cli::{
        Exit, Global,
        run::{self, RunArgs},
    },
    engine::fleet::RunEnd,
    model::event::Mode,
};

/// Show what a runbook would change on each host, and write nothing.
///
/// The agent of each host reads the state of everything that the runbook is about, and tells what an apply would
/// change, with everything that earlier steps would have done taken into account. What only an apply can show is
/// called unknown, and what cannot be undone is called irreversible.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    run: RunArgs,
    /// End with 10 where something would change
    #[arg(long)]
    exit_code: bool,
}

pub(crate) fn run(args: &PlanArgs, global: &Global) -> Exit {
    match plan(&args.run, global) {
        Ok(end) if args.exit_code && run::exit(&end) == Exit::Done && would_change(&end) => Exit::WouldChange,
        Ok(end) => run::exit(&end),
        Err(faults) => run::refuse(&faults, global),
    }
}

fn plan(args: &RunArgs, global: &Global) -> Result<RunEnd, Faults> {
    let loaded = run::load(args)?;
    loaded.check(args)?;
    Ok(loaded.run(args, global, Mode::Plan)?)
}

/// Whether a plan found anything to do.
pub(crate) fn would_change(end: &RunEnd) -> bool {
    end.counts.changed + end.counts.unknown > 0
}
