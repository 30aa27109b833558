//! What `plan` and `apply` share: options, loading, running, and the way out.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use serde_json::Value as Data;
use tokio::{
    runtime::{Builder, Runtime},
    sync::watch,
};

use crate::{
    base::{Digest, Fault, FaultKind, Faults, Masker, Place},
    cli::{
        Exit, Global, ask, book, provenance, secrets,
        signals::{First, Signals},
    },
    engine::{
        self, Book, Job, book::Events, desk::Shelf, drafts::Drafts, fleet::RunEnd, gate::Halted, turnstile::Turnstiles,
    },
    model::{
        event::{EVENT_VERSION, HostOutcome, Mode, RunOpened, RunOutcome},
        ids::RunId,
        inventory::{Host, Inventory},
        node::Node,
        runbook::{Placed, Runbook},
    },
    render::{Renderer, VarLayer},
    report, steps, syntax,
    transport::{Settings, Shared},
};

/// A line on which even keepalives are not answered this long is lost.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);

/// Options of `plan` and `apply`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The runbook
    pub(crate) runbook: PathBuf,
    /// The inventory: a YAML file, with group_vars/ and host_vars/ beside it
    #[arg(short, long, value_name = "FILE", env = "ROLLBOOK_INVENTORY")]
    pub(crate) inventory: PathBuf,
    /// Only these of the runbook's hosts: names, groups, globs, `a:&b`, `a:!b`
    #[arg(short, long, value_name = "PATTERN")]
    pub(crate) limit: Option<String>,
    /// A parameter or variable: `name=value`, or `@file.yml` for many; may be repeated
    #[arg(short = 'e', long = "set", value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
    /// Only steps with one of these tags (comma between them)
    #[arg(short, long, value_delimiter = ',')]
    pub(crate) tags: Vec<String>,
    /// Show the changes of file contents line by line
    #[arg(short, long)]
    pub(crate) diff: bool,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
    /// Why this is done: kept in the record
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// The ticket that allows it: kept in the record
    #[arg(long, value_name = "TICKET")]
    pub(crate) change: Option<String>,
}

/// Options of everything that connects.
#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    /// How many hosts at once
    #[arg(short, long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) forks: u16,
    /// Seconds that connecting and logging in may take
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600))]
    connect_timeout: u64,
    /// An agent program to use instead of the built-in one
    #[arg(long, value_name = "FILE", hide_short_help = true, env = "ROLLBOOK_AGENT_PROGRAM")]
    agent: Option<PathBuf>,
}

impl ConnectArgs {
    /// How to connect.
    pub(crate) fn settings(&self, asker: Arc<ask::Terminal>) -> Settings {
        Settings {
            connect_timeout: Duration::from_secs(self.connect_timeout),
            asker,
            agent_program: self.agent.clone(),
            silence_timeout: SILENCE_TIMEOUT,
            ssh_program: None,
            shared: Shared::default(),
        }
    }
}

/// Everything that was read and found right, before any connection.
pub(crate) struct Loaded {
    pub(crate) runbook: Arc<Runbook>,
    inventory: Arc<Inventory>,
    inventory_files: Vec<(String, Digest)>,
    pub(crate) hosts: Vec<Arc<Host>>,
    params: Arc<BTreeMap<String, Data>>,
    shown_params: BTreeMap<String, Data>,
    set: Arc<BTreeMap<String, Data>>,
    shown_set: BTreeMap<String, Data>,
    /// Hides what was given, and what is typed on the way.
    secrets: Masker,
    /// What was given and must not become an argument.
    given_secrets: Masker,
    asker: Arc<ask::Terminal>,
    checkout: provenance::Checkout,
    renderer: Renderer,
    shelf: Arc<Shelf>,
    drafts: Arc<Drafts>,
    /// What is wrong in steps of the runbook.
    broken: Faults,
}

/// Reads everything. Faults in single steps are kept for [`Loaded::check`], which finds those of the other steps.
pub(crate) fn load(args: &RunArgs) -> Result<Loaded, Faults> {
    read(args).map_err(|faults| secrets::unquoted(faults, &args.set))
}

fn read(args: &RunArgs) -> Result<Loaded, Faults> {
    let checkout = provenance::Checkout::of(&args.runbook);
    let (runbook, mut faults) = syntax::runbook::load(&args.runbook, &steps::words());
    let broken = faults.clone();
    let inventory = faults.keep(syntax::inventory::load(&args.inventory));
    let (Some(runbook), Some((inventory, inventory_files))) = (runbook, inventory) else { return Err(faults) };
    let hosts = faults.keep(select(&inventory, &runbook, args.limit.as_deref())).unwrap_or_default();
    let given = faults.keep(given(&args.set)).unwrap_or_default();
    let (params, set) = split(&runbook, &inventory, given);
    let params = faults.keep(syntax::runbook::bind_params(&runbook, &params)).unwrap_or_default();
    if faults != broken {
        return Err(faults);
    }
    let delegates = runbook.all_steps().any(|step| step.delegate_to.is_some());
    let of_hosts = secrets::of_hosts(if delegates { &inventory.hosts } else { &hosts });
    let given_secrets = [secrets::of_params(&params), of_hosts].concat();
    let secrets = Masker::new(given_secrets.clone());
    Ok(Loaded {
        asker: ask::Terminal::new(&secrets),
        secrets,
        given_secrets: Masker::new(given_secrets),
        shown_params: params.iter().map(|(name, param)| (name.clone(), param.shown())).collect(),
        params: Arc::new(params.into_iter().map(|(name, param)| (name, param.value)).collect()),
        runbook: Arc::new(runbook),
        inventory: Arc::new(inventory),
        inventory_files,
        hosts,
        shown_set: set.iter().map(|(name, node)| (name.clone(), secrets::shown(name, node))).collect(),
        set: Arc::new(set.into_iter().map(|(name, node)| (name, node.to_data())).collect()),
        checkout,
        renderer: Renderer::new(project(&args.runbook)),
        shelf: Arc::default(),
        drafts: Arc::default(),
        broken,
    })
}

/// The hosts that the runbook names, as far as `--limit` lets them.
fn select(inventory: &Inventory, runbook: &Runbook, limit: Option<&str>) -> Result<Vec<Arc<Host>>, Fault> {
    let mut names = syntax::pattern::select(inventory, &runbook.hosts)?;
    if let Some(limit) = limit {
        let pattern = Placed { value: limit.to_owned(), place: Place::file("--limit") };
        let allowed = syntax::pattern::select(inventory, &pattern)?;
        let allowed: HashSet<_> = allowed.into_iter().collect();
        names.retain(|name| allowed.contains(name));
        if names.is_empty() {
            return Err(Fault::input(format!(
                "--limit {limit} leaves none of the hosts that the runbook is for ({})",
                runbook.hosts.value
            )));
        }
    }
    let names: HashSet<_> = names.into_iter().collect();
    Ok(inventory.hosts.iter().filter(|host| names.contains(&host.name)).cloned().collect())
}

/// Values by name.
type Given = Vec<(String, Node)>;

/// `--set` values in order, files opened; later ones win.
fn given(set: &[String]) -> Result<Given, Faults> {
    let mut values = Given::new();
    let mut faults = Faults::default();
    for argument in set {
        let pairs = match (argument.strip_prefix('@'), argument.split_once('=')) {
            (Some(file), _) => faults.keep(from_file(Path::new(file))).unwrap_or_default(),
            (None, Some((name, value))) => vec![(name.to_owned(), Node::text(value, &Place::file("--set")))],
            (None, None) => {
                faults.push(
                    Fault::new(FaultKind::Usage, format!("--set {argument}: a name and a value are needed"))
                        .hint("write --set name=value, or --set @file.yml"),
                );
                Vec::new()
            }
        };
        for (name, value) in pairs {
            values.retain(|(earlier, _)| *earlier != name);
            values.push((name, value));
        }
    }
    faults.or(values)
}

fn from_file(path: &Path) -> Result<Given, Faults> {
    let node = syntax::yaml::read(path)?;
    let entries = node.as_map().ok_or_else(|| {
        Fault::input(format!("a mapping of names to values is needed, and this is {}", node.what())).at(&node.place)
    })?;
    Ok(entries.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect())
}

/// What is given goes to a parameter of that name, else to a variable of that name. What is neither goes with the
/// parameters, where it is refused with the nearest name.
fn split(runbook: &Runbook, inventory: &Inventory, given: Given) -> (Given, Given) {
    let is_variable = |name: &str| {
        let of_runbook = runbook.vars.iter().any(|(known, _)| known == name);
        of_runbook || inventory.hosts.iter().any(|host| host.vars.get(name).is_some())
    };
    given.into_iter().partition(|(name, _)| runbook.params.contains_key(name) || !is_variable(name))
}

/// What waits for many hosts at once.
pub(crate) fn runtime() -> Result<Runtime, Fault> {
    let built = Builder::new_multi_thread().enable_all().build();
    built.map_err(|error| Fault::internal("cannot start").because(&error))
}

impl Loaded {
    /// A job for a new run.
    fn job(&self, args: &RunArgs, mode: Mode) -> Result<Job, Fault> {
        let operator = provenance::operator();
        Ok(Job {
            run: new_run_id()?,
            mode,
            runbook: Arc::clone(&self.runbook),
            inventory: Arc::clone(&self.inventory),
            hosts: self.hosts.clone(),
            params: Arc::clone(&self.params),
            set: Arc::clone(&self.set),
            vars: VarLayer::from(&self.runbook.vars[..]),
            step_vars: self.runbook.all_steps().map(|step| VarLayer::from(&step.vars[..])).collect(),
            tags: args.tags.clone(),
            forks: crate::cli::descriptors::hosts_at_once(args.connect.forks),
            operator: operator.to_string(),
            reason: args.reason.clone(),
            masker: self.given_secrets.clone(),
            renderer: self.renderer.clone(),
            shelf: Arc::clone(&self.shelf),
            drafts: Arc::clone(&self.drafts),
            turnstiles: Turnstiles::new(self.runbook.all_steps(), self.hosts.first().map(|host| &host.name)),
            settings: args.connect.settings(Arc::clone(&self.asker)),
        })
    }

    fn opened(&self, args: &RunArgs, mode: Mode) -> RunOpened {
        RunOpened {
            version: EVENT_VERSION,
            rollbook: env!("CARGO_PKG_VERSION").to_owned(),
            mode,
            operator: provenance::operator(),
            reason: args.reason.clone(),
            change: args.change.clone(),
            runbook: provenance::label(&self.runbook, &self.checkout),
            inventory: self.inventory_files.clone(),
            params: self.shown_params.clone(),
            set: self.shown_set.clone(),
            tags: args.tags.clone(),
            limit: args.limit.clone(),
            hosts: self.hosts.iter().map(|host| host.name.clone()).collect(),
            undoes: None,
            becomes: self.runbook.become_user.name().map(str::to_owned),
        }
    }

    /// Finds all that can be found wrong without a connection.
    pub(crate) fn check(&self, args: &RunArgs) -> Result<(), Faults> {
        let mut faults = self.broken.clone();
        faults.keep(engine::check(&self.job(args, Mode::Plan)?));
        faults.0.sort_by_key(|fault| fault.place.as_ref().map(|place| (place.file.clone(), place.line)));
        report::hidden(faults, &self.secrets).or(())
    }

    /// Plans or applies, to the end.
    pub(crate) fn run(&self, args: &RunArgs, global: &Global, mode: Mode) -> Result<RunEnd, Fault> {
        let job = self.job(args, mode)?;
        let book = book::open(global, mode, args.diff, &self.secrets)?;
        let opened = self.opened(args, mode);
        let first = if mode == Mode::Apply { First::Ask } else { First::Undo };
        let signals = Signals { run: job.run.clone(), inventory: args.inventory.clone(), first };
        with_book(book, signals, |events, halted| engine::run(Arc::new(job), opened, events, halted))
    }
}

/// Does the work of a run, with its events kept and signals heard.
pub(crate) fn with_book<W: Future<Output = RunEnd>>(
    book: Book,
    signals: Signals,
    work: impl FnOnce(Events, Halted) -> W,
) -> Result<RunEnd, Fault> {
    let runtime = runtime()?;
    let (halt, halted) = watch::channel(None);
    let (events, keeper) = book.open(signals.run.clone(), halt.clone());
    let end = runtime.block_on(async move {
        let signals = tokio::spawn(signals.watch(halt));
        let end = work(events, halted).await;
        signals.abort();
        end
    });
    drop(runtime);
    keeper.join().expect("the book does not panic");
    Ok(end)
}

pub(crate) fn new_run_id() -> Result<RunId, Fault> {
    let mut random = [0u8; 4];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Fault::internal("cannot get randomness").because(&error))?;
    let now = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    Ok(RunId::from_parts(&now, u32::from_le_bytes(random)))
}

/// The folder in which the runbook's files and templates are found: its own.
fn project(runbook: &Path) -> PathBuf {
    match runbook.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The exit code of a run.
pub(crate) fn exit(end: &RunEnd) -> Exit {
    let any = |outcome: HostOutcome| end.hosts.values().any(|host| host.outcome == outcome);
    let all_not_done = |but: HostOutcome| {
        end.hosts.values().all(|host| host.outcome == but || host.outcome == HostOutcome::NotStarted)
    };
    let refused = |kind: FaultKind| end.hosts.values().all(|host| host.fault.as_ref().is_some_and(|f| f.kind == kind));
    if end.outcome == RunOutcome::Succeeded {
        Exit::Done
    } else if any(HostOutcome::NeedsRecovery) {
        Exit::NeedsRecovery
    } else if refused(FaultKind::Policy) {
        Exit::Policy
    } else if refused(FaultKind::Record) {
        Exit::Record
    } else if all_not_done(HostOutcome::Unreachable) {
        Exit::Unreachable
    } else if any(HostOutcome::RolledBack) && all_not_done(HostOutcome::RolledBack) {
        Exit::RolledBack
    } else {
        Exit::Partly
    }
}

/// Says what is wrong, and how the program ends for it.
pub(crate) fn refuse(faults: &Faults, _global: &Global) -> Exit {
    report::fault::print(faults);
    faults.0.first().map_or(Exit::Internal, |fault| fault.kind.into())
}
