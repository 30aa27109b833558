//! `rollbook apply`: plan, ask, change, verify, record; undo everything on failure.

use clap::Args;

use crate::{
    base::{Fault, FaultKind, Faults},
    cli::{
        Exit, Global, ask, plan,
        run::{self, Loaded, RunArgs},
    },
    model::event::Mode,
    report,
};

/// Apply a runbook to its hosts.
///
/// Without --yes the plan is shown first, and nothing is changed before you answer yes. Before each change its undo
/// is put on the target's disk; after each step the target is looked at again; the first failure on a host undoes
/// everything that was done there, newest first. Everything is kept in the record: see `rollbook log`.
///
/// Ctrl-C lets each host finish what it is at, then asks: undo what was done, or keep it. Once more leaves the hosts to
/// themselves: they undo by themselves what they did. SIGTERM undoes without a question.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Do not show the plan first, do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(crate) fn run(args: &ApplyArgs, global: &Global) -> Exit {
    apply(args, global).unwrap_or_else(|faults| run::refuse(&faults, global))
}

fn apply(args: &ApplyArgs, global: &Global) -> Result<Exit, Faults> {
    let loaded = run::load(&args.run)?;
    loaded.check(&args.run)?;
    if !args.yes
        && let Some(exit) = ask_first(&loaded, args, global)?
    {
        return Ok(exit);
    }
    Ok(run::exit(&loaded.run(&args.run, global, Mode::Apply)?))
}

/// Shows the plan and asks. An exit where there is nothing to do, the plan failed, or the answer is no.
fn ask_first(loaded: &Loaded, args: &ApplyArgs, global: &Global) -> Result<Option<Exit>, Faults> {
    if !ask::is_interactive() {
        return Err(Fault::new(FaultKind::Usage, "there is no terminal to ask on")
            .hint("pass --yes to apply without a question, or use `rollbook plan` to look first")
            .into());
    }
    let end = loaded.run(&args.run, global, Mode::Plan)?;
    let planned = run::exit(&end);
    if planned != Exit::Done {
        report::say("the plan failed; nothing was changed");
        return Ok(Some(planned));
    }
    if !plan::would_change(&end) {
        report::say("there is nothing to do; nothing was changed");
        return Ok(Some(Exit::Done));
    }
    let hosts = loaded.hosts.len();
    let question = format!("Apply this to {hosts} host{}?", if hosts == 1 { "" } else { "s" });
    let yes = ask::confirm(&question).map_err(|error| Fault::internal("cannot ask").because(&error))?;
    if !yes {
        report::say("not applied; nothing was changed");
        return Ok(Some(Exit::Policy));
    }
    Ok(None)
}
