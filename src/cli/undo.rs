//! `rollbook undo`.

use std::{collections::HashSet, path::PathBuf, sync::Arc};

use clap::Args;

use crate::{
    base::{Digest, Fault, FaultKind, Faults, Masker, Place},
    cli::{
        Exit, Global, ask, book, plan, provenance, recover,
        run::{self, ConnectArgs},
        secrets,
        signals::{First, Signals},
        told::Told,
    },
    engine::{
        fleet::RunEnd,
        recover::Labels,
        undo::{self, Undoing},
    },
    model::{
        event::{EVENT_VERSION, Mode, RunOpened, RunbookLabel},
        ids::{HostName, RunId},
        inventory::{Host, Inventory},
        runbook::Placed,
    },
    report, syntax,
};

/// Undo a finished run: put back what it changed, newest change first.
///
/// The plan comes first: what would go back, what somebody else has changed since (it has drifted), and what nothing
/// undoes. Before you answer yes nothing is changed. What has drifted is left alone and named, unless --force-drift
/// says otherwise. Commands go back by their `undo:`; services are restarted or reloaded once more when all else is
/// back.
///
/// The undo is a run of its own, in the record and on the hosts: what fails in it is put back, what is cut off is
/// settled by `rollbook recover`, and it can be undone itself. Hosts keep the before-images of their newest 20 runs, unless
/// their own file `keep_runs` says otherwise.
///
/// Ends with 0 when all is back, 8 where something has drifted or cannot be undone, 7 where it failed and was put back.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UndoArgs {
    /// The run: its id, or the beginning of an id that is on record (`rollbook log`)
    run: String,
    /// The inventory: a YAML file, with group_vars/ and host_vars/ beside it
    #[arg(short, long, value_name = "FILE", env = "ROLLBOOK_INVENTORY")]
    inventory: PathBuf,
    /// Only these of the run's hosts: names, groups, globs, `a:&b`, `a:!b`
    #[arg(short, long, value_name = "PATTERN")]
    limit: Option<String>,
    /// Do not show the plan first, do not ask
    #[arg(short, long)]
    yes: bool,
    /// Only show the plan
    #[arg(long, conflicts_with = "yes")]
    plan: bool,
    /// Show the changes of file contents line by line
    #[arg(short, long)]
    diff: bool,
    /// Overwrite what somebody else has changed since, too. It needs a --reason, and is kept in the record
    #[arg(long, requires = "reason")]
    force_drift: bool,
    /// Whom the run had become, where neither the inventory nor the record says: root, or this user
    #[arg(short = 'b', long = "become", value_name = "USER", num_args = 0..=1, default_missing_value = "root")]
    become_user: Option<String>,
    #[command(flatten)]
    connect: ConnectArgs,
    /// Why this is done: kept in the record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// The ticket that allows it: kept in the record
    #[arg(long, value_name = "TICKET")]
    change: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  rollbook undo 20261123-0510 -i inventories/prod.yml --plan      what would go back; writes nothing
  rollbook undo 20261123-0510 -i inventories/prod.yml -l web1     the same, then asks, then does it, on one host
  rollbook undo 20261123-0510 -i inventories/prod.yml --force-drift --reason 'the hand edit was a mistake'";

pub(crate) fn run(args: &UndoArgs, global: &Global) -> Exit {
    undo(args, global).unwrap_or_else(|faults| run::refuse(&faults, global))
}

fn undo(args: &UndoArgs, global: &Global) -> Result<Exit, Faults> {
    if !args.yes && !args.plan && !ask::is_interactive() {
        return Err(Fault::new(FaultKind::Usage, "there is no terminal to ask on")
            .hint("pass --yes to undo without a question, or --plan to look first")
            .into());
    }
    let meant = Meant::load(args, global)?;
    if !args.yes {
        let planned = meant.run(args, global, Mode::Plan)?;
        if args.plan || !goes_on(&meant, &planned)? {
            return Ok(after_plan(args, &planned));
        }
    }
    Ok(run::exit(&meant.run(args, global, Mode::Apply)?))
}

/// Whether there is something to do, and the operator says yes to it.
fn goes_on(meant: &Meant, planned: &RunEnd) -> Result<bool, Faults> {
    if !matches!(run::exit(planned), Exit::Done | Exit::NeedsRecovery) {
        report::say("the plan failed; nothing was changed");
        return Ok(false);
    }
    if !plan::would_change(planned) {
        report::say("there is nothing to undo; nothing was changed");
        return Ok(false);
    }
    let hosts = meant.hosts.len();
    let question = format!("Undo this on {hosts} host{}?", if hosts == 1 { "" } else { "s" });
    let yes = ask::confirm(&question).map_err(|error| Fault::internal("cannot ask").because(&error))?;
    if !yes {
        report::say("not undone; nothing was changed");
    }
    Ok(yes)
}

/// The end where nothing was done: as planned, or refused by the operator.
fn after_plan(args: &UndoArgs, planned: &RunEnd) -> Exit {
    match run::exit(planned) {
        Exit::Done | Exit::NeedsRecovery if !args.plan && plan::would_change(planned) => Exit::Policy,
        exit => exit,
    }
}

/// What is to be undone, and where.
struct Meant {
    of: RunId,
    /// How it was opened, if the record knows.
    opened: Option<RunOpened>,
    hosts: Vec<Arc<Host>>,
    inventory_files: Vec<(String, Digest)>,
    labels: Labels,
    untouched: HashSet<HostName>,
    masker: Masker,
    asker: Arc<ask::Terminal>,
}

impl Meant {
    fn load(args: &UndoArgs, global: &Global) -> Result<Meant, Faults> {
        let (inventory, inventory_files) = syntax::inventory::load(&args.inventory)?;
        let of = recover::wanted(&args.run, global)?;
        let told = Told::of(&of, global);
        let hosts = select(&inventory, &of, &told, args.limit.as_deref())?;
        let known = Masker::new(secrets::of_hosts(&hosts));
        let had_secrets = told.had_secrets(global);
        let masker = if had_secrets { known.partial() } else { known };
        if had_secrets && args.diff {
            report::say("no contents are shown: the run had sensitive parameters, or its record is not here");
        }
        let untouched = match told.opened {
            Some(_) => hosts.iter().map(|host| host.name.clone()).filter(|name| !told.touched.contains(name)).collect(),
            None => HashSet::new(),
        };
        Ok(Meant {
            labels: recover::labels(&of, global),
            of,
            opened: told.opened,
            asker: ask::Terminal::new(&masker),
            masker,
            hosts,
            inventory_files,
            untouched,
        })
    }

    fn run(&self, args: &UndoArgs, global: &Global, mode: Mode) -> Result<RunEnd, Fault> {
        let run = run::new_run_id()?;
        let operator = provenance::operator();
        let becomes = args.become_user.as_deref().or(self.opened.as_ref().and_then(|opened| opened.becomes.as_deref()));
        let undoing = Undoing {
            run: run.clone(),
            mode,
            operator: operator.to_string(),
            of: self.of.clone(),
            force_drift: args.force_drift,
            hosts: self.hosts.clone(),
            become_user: recover::whom(becomes),
            settings: args.connect.settings(Arc::clone(&self.asker)),
            forks: crate::cli::descriptors::hosts_at_once(args.connect.forks),
            labels: self.labels.clone(),
            untouched: self.untouched.clone(),
        };
        let opened = RunOpened {
            version: EVENT_VERSION,
            rollbook: env!("CARGO_PKG_VERSION").to_owned(),
            mode,
            operator,
            reason: args.reason.clone(),
            change: args.change.clone(),
            runbook: self.label(),
            inventory: self.inventory_files.clone(),
            params: Default::default(),
            set: Default::default(),
            tags: Vec::new(),
            limit: args.limit.clone(),
            hosts: self.hosts.iter().map(|host| host.name.clone()).collect(),
            undoes: Some(self.of.clone()),
            becomes: becomes.map(str::to_owned),
        };
        let book = book::open(global, mode, args.diff, &self.masker)?;
        let signals = Signals { run, inventory: args.inventory.clone(), first: First::Undo };
        run::with_book(book, signals, |events, halted| undo::undo(Arc::new(undoing), opened, events, halted))
    }

    fn label(&self) -> RunbookLabel {
        let name = self.opened.as_ref().map(|opened| format!(" ({})", opened.runbook.name)).unwrap_or_default();
        RunbookLabel {
            file: "rollbook undo".to_owned(),
            name: format!("undo of {}{name}", self.of),
            owner: None,
            risk: None,
            digest: Digest::of(b""),
            commit: None,
            dirty: false,
            untold: None,
        }
    }
}

/// The hosts of the run, as far as `--limit` lets them; by the inventory alone where the record does not know them.
fn select(inventory: &Inventory, of: &RunId, told: &Told, limit: Option<&str>) -> Result<Vec<Arc<Host>>, Fault> {
    let pattern = Placed { value: limit.unwrap_or("all").to_owned(), place: Place::file("--limit") };
    let mut names = syntax::pattern::select(inventory, &pattern)?;
    if let Some(opened) = &told.opened {
        // Others may have done something for them.
        names.retain(|name| opened.hosts.contains(name) || told.touched.contains(name));
        let gone = opened.hosts.iter().find(|name| inventory.hosts.iter().all(|host| host.name != **name));
        if let (None, Some(gone)) = (limit, gone) {
            let fault = Fault::input(format!("run {of} was on {gone}, which is not in this inventory"));
            return Err(fault.hint("give the inventory of then, or --limit to the hosts that are meant"));
        }
    }
    if names.is_empty() {
        let fault = Fault::input(format!("run {of} was on none of the hosts that are meant"));
        return Err(fault.hint(format!("see where it was: rollbook show {of}")));
    }
    Ok(inventory.hosts.iter().filter(|host| names.contains(&host.name)).cloned().collect())
}
