//! `rollbook recover`.

use std::{path::PathBuf, sync::Arc};

use clap::Args;

use crate::{
    base::{Digest, Fault, Faults, Masker, Place},
    cli::{
        Exit, Global, ask, book, provenance,
        run::{self, ConnectArgs},
        secrets,
        signals::{First, Signals},
        told::Told,
    },
    engine::{
        fleet::RunEnd,
        recover::{self, Labels, Recovery},
    },
    model::{
        event::{EVENT_VERSION, Event, HostOutcome, Mode, RunOpened, RunbookLabel},
        ids::RunId,
        inventory::{Become, Host},
        runbook::Placed,
    },
    record::Store,
    syntax,
    wire::message::Settle,
};

/// Settle a run that was cut off: look at each resource that it changed, and put back what is still as it left it.
///
/// Where an agent was killed, or its machine went down, the run's journal stays open on that host, and the host refuses
/// other runs. This has it undone, newest change first. What somebody else has changed since is left alone and named.
/// A recovery that is cut off itself can be begun again. Where three attempts were in vain, it stops and wants to be
/// told how to go on. It is kept in the record as a run of its own.
#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    /// Only this run: its id, or the beginning of an id that is on record; whatever is found open otherwise
    run: Option<String>,
    /// The inventory: a YAML file, with group_vars/ and host_vars/ beside it
    #[arg(short, long, value_name = "FILE", env = "ROLLBOOK_INVENTORY")]
    inventory: PathBuf,
    /// Only these hosts: names, groups, globs, `a:&b`, `a:!b`
    #[arg(short, long, value_name = "PATTERN", default_value = "all")]
    limit: String,
    /// Whom the run had become, where neither the inventory nor the record says: root, or this user
    #[arg(short = 'b', long = "become", value_name = "USER", num_args = 0..=1, default_missing_value = "root")]
    become_user: Option<String>,
    /// Try once more where three attempts were in vain
    #[arg(long)]
    again: bool,
    /// Leave everything as it is: someone has looked, and answers for it. Other runs may begin then
    #[arg(long, conflicts_with = "again", requires_all = ["run", "reason"])]
    as_it_is: bool,
    /// Take the run over from who is at work with it, and put it back; he is told who did, and why
    #[arg(long, conflicts_with_all = ["again", "as_it_is"], requires_all = ["run", "reason"])]
    steal: bool,
    #[command(flatten)]
    connect: ConnectArgs,
    /// Why this is done: kept in the record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// The ticket that allows it: kept in the record
    #[arg(long, value_name = "TICKET")]
    change: Option<String>,
}

pub(crate) fn run(args: &RecoverArgs, global: &Global) -> Exit {
    settle(args, global).map_or_else(|faults| run::refuse(&faults, global), |end| exit(&end))
}

fn settle(args: &RecoverArgs, global: &Global) -> Result<RunEnd, Faults> {
    let (inventory, inventory_files) = syntax::inventory::load(&args.inventory)?;
    let limit = Placed { value: args.limit.clone(), place: Place::file("--limit") };
    let names = syntax::pattern::select(&inventory, &limit)?;
    let hosts: Vec<Arc<Host>> = inventory.hosts.iter().filter(|host| names.contains(&host.name)).cloned().collect();
    let wanted = args.run.as_deref().map(|text| wanted(text, global)).transpose()?;
    let told = wanted.as_ref().map(|run| Told::of(run, global)).unwrap_or_default();
    let becomes = args.become_user.as_deref().or(told.opened.as_ref().and_then(|opened| opened.becomes.as_deref()));
    let masker = Masker::new(secrets::of_hosts(&hosts));
    let opened = RunOpened {
        version: EVENT_VERSION,
        rollbook: env!("CARGO_PKG_VERSION").to_owned(),
        mode: Mode::Apply,
        operator: provenance::operator(),
        reason: args.reason.clone(),
        change: args.change.clone(),
        runbook: label(wanted.as_ref()),
        inventory: inventory_files,
        params: Default::default(),
        set: Default::default(),
        tags: Vec::new(),
        limit: (args.limit != "all").then(|| args.limit.clone()),
        hosts: hosts.iter().map(|host| host.name.clone()).collect(),
        undoes: None,
        becomes: becomes.map(str::to_owned),
    };
    let recovery = Recovery {
        labels: wanted.as_ref().map(|run| labels(run, global)).unwrap_or_default(),
        touched: told.touched,
        run: wanted,
        how: match (args.again, args.as_it_is) {
            (_, true) => Settle::AsItIs,
            (true, _) => Settle::BackAgain,
            _ => Settle::Back,
        },
        steal: args.reason.as_ref().filter(|_| args.steal).map(|why| format!("{}: {why}", provenance::operator())),
        hosts,
        become_user: whom(becomes),
        settings: args.connect.settings(ask::Terminal::new(&masker)),
        forks: crate::cli::descriptors::hosts_at_once(args.connect.forks),
    };
    let book = book::open(global, Mode::Apply, false, &masker)?;
    let signals = Signals { run: run::new_run_id()?, inventory: args.inventory.clone(), first: First::GoOn };
    Ok(run::with_book(book, signals, |events, _| recover::recover(Arc::new(recovery), opened, events))?)
}

/// The run that is meant. The record of another controller may not know it: then its whole id is needed.
pub(crate) fn wanted(text: &str, global: &Global) -> Result<RunId, Fault> {
    match text.parse() {
        Ok(run) => Ok(run),
        Err(_) => Store::open_read_only(&global.store())?.find(text),
    }
}

/// Whom `--become` means.
pub(crate) fn whom(user: Option<&str>) -> Become {
    match user {
        None => Become::No,
        Some("root") => Become::Root,
        Some(user) => Become::User(user.to_owned()),
    }
}

/// What the record knows of the run's steps. Without it, they have only numbers.
pub(crate) fn labels(run: &RunId, global: &Global) -> Labels {
    let mut labels = Labels::new();
    let Ok(store) = Store::open_read_only(&global.store()) else { return labels };
    let _numbers_are_enough = store.each_entry_of(run, |entry| {
        if let Some(Event::DeedDone { host, step, .. } | Event::StepEnded { host, step, .. }) =
            entry.event().map(|stamped| stamped.event)
        {
            labels.insert((host, step.no), step);
        }
        Ok(())
    });
    labels
}

fn label(run: Option<&RunId>) -> RunbookLabel {
    let name = run.map_or_else(|| "recovery of what was cut off".to_owned(), |run| format!("recovery of {run}"));
    RunbookLabel {
        file: "rollbook recover".to_owned(),
        name,
        owner: None,
        risk: None,
        digest: Digest::of(b""),
        commit: None,
        dirty: false,
        untold: None,
    }
}

/// Settled is done, whichever way it went back.
fn exit(end: &RunEnd) -> Exit {
    let settled = |outcome| matches!(outcome, HostOutcome::Succeeded | HostOutcome::RolledBack);
    match end.hosts.values().all(|host| settled(host.outcome)) {
        true => Exit::Done,
        false => run::exit(end),
    }
}
