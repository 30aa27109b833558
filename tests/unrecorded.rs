//! A record that takes nothing more: what could not be recorded is not done, and does not become final. And watchers that
//! do not take what they are told: hosts know all the same that their controller is there.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/job.rs"]
mod job;
#[path = "turn/mod.rs"]
mod turn;

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use rollbook::{
    base::{Digest, Fault, FaultKind},
    engine::{
        self, Book, Job,
        book::{Events, Ledger},
        fleet::RunEnd,
        gate::Halted,
        undo::{self, Undoing},
    },
    model::{
        event::{
            EVENT_VERSION, Event, HostOutcome, Mode, Operator, RunOpened, RunbookLabel, Sink, Stamped, StepOutcome,
        },
        ids::RunId,
        inventory::Become,
    },
    wire::message::Witness,
};

/// A record whose disk is full when it comes to an event.
struct Full(fn(&Event) -> bool);

impl Sink for Full {
    fn take(&mut self, event: &Stamped) -> Result<(), Fault> {
        match (self.0)(&event.event) {
            true => Err(Fault::new(FaultKind::Record, "the disk is full")),
            false => Ok(()),
        }
    }
}

impl Ledger for Full {
    fn head(&self) -> Result<Witness, Fault> {
        Ok(Witness { store: "a".to_owned(), seq: 1, hash: Digest::of(b"") })
    }
}

/// Who looks, and dawdles over what a step did.
struct Watcher {
    dawdles: Duration,
    seen: Arc<Mutex<Vec<Event>>>,
}

impl Sink for Watcher {
    fn take(&mut self, event: &Stamped) -> Result<(), Fault> {
        if matches!(event.event, Event::StepEnded { .. }) {
            std::thread::sleep(self.dawdles);
        }
        self.seen.lock().unwrap().push(event.event.clone());
        Ok(())
    }
}

/// This machine, with a file to change.
struct Stage {
    folder: tempfile::TempDir,
    run: RunId,
    _turn: turn::Turn,
}

impl Stage {
    fn new() -> Stage {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        fs::write(folder.path().join("file"), "old").unwrap();
        Stage { folder, run: new_run(), _turn: turn::take() }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("file")
    }

    fn job(&self, strategy: &str) -> Arc<Job> {
        let dest = self.file().display().to_string();
        let text = format!(
            "runbook: Of a test\nhosts: all\nstrategy: {{{strategy}}}\nsteps:\n- copy: {{content: new, dest: {dest}}}\n"
        );
        let job = job::job(self.folder.path(), &text, "all: {hosts: {here: {transport: local}}}");
        let mut job = Arc::into_inner(job).unwrap();
        job.settings.agent_program = Some(PathBuf::from(env!("CARGO_BIN_EXE_rollbook-agent")));
        job.run = self.run.clone();
        Arc::new(job)
    }

    /// Applies it; how it ended, and what was told.
    fn apply(&self, strategy: &str, is_full: fn(&Event) -> bool, dawdles: Duration) -> (RunEnd, Vec<Event>) {
        let job = self.job(strategy);
        with_book(&self.run, is_full, dawdles, |events, halt| engine::run(job, opened(), events, halt))
    }

    fn undo(&self, is_full: fn(&Event) -> bool, dawdles: Duration) -> RunEnd {
        let job = self.job("");
        let run = new_run();
        let undoing = Undoing {
            run: run.clone(),
            mode: Mode::Apply,
            operator: "ann@desk".to_owned(),
            of: self.run.clone(),
            force_drift: false,
            hosts: job.hosts.clone(),
            become_user: Become::No,
            settings: job.settings.clone(),
            forks: 1,
            labels: Default::default(),
            untouched: Default::default(),
        };
        let undo = |events, halt| undo::undo(Arc::new(undoing), opened(), events, halt);
        with_book(&run, is_full, dawdles, undo).0
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }
}

/// Journals stay on this machine, the newest of them: each run has an id of its own, and of now.
fn new_run() -> RunId {
    let now = jiff::Timestamp::now();
    RunId::from_parts(&now.strftime("%Y%m%d-%H%M%S").to_string(), now.subsec_nanosecond().unsigned_abs())
}

fn with_book<W: Future<Output = RunEnd>>(
    run: &RunId,
    is_full: fn(&Event) -> bool,
    dawdles: Duration,
    work: impl FnOnce(Events, Halted) -> W,
) -> (RunEnd, Vec<Event>) {
    let seen = Arc::default();
    let watcher = Watcher { dawdles, seen: Arc::clone(&seen) };
    let book = Book { ledger: Some(Box::new(Full(is_full))), watchers: vec![Box::new(watcher)] };
    let (halt, halted) = tokio::sync::watch::channel(None);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (events, keeper) = book.open(run.clone(), halt);
    let end = runtime.block_on(work(events, halted));
    drop(runtime);
    keeper.join().unwrap();
    (end, seen.lock().unwrap().clone())
}

fn opened() -> RunOpened {
    RunOpened {
        version: EVENT_VERSION,
        rollbook: "0".to_owned(),
        mode: Mode::Apply,
        operator: Operator { user: "ann".to_owned(), sudo_user: None, host: "desk".to_owned(), from: None },
        reason: None,
        change: None,
        runbook: RunbookLabel {
            file: String::new(),
            name: "Of a test".to_owned(),
            owner: None,
            risk: None,
            digest: Digest::of(b""),
            commit: None,
            dirty: false,
            untold: None,
        },
        inventory: Vec::new(),
        params: Default::default(),
        set: Default::default(),
        tags: Vec::new(),
        limit: None,
        hosts: Vec::new(),
        undoes: None,
        becomes: None,
    }
}

/// How the only host ended, and whether the record was why.
fn host(end: &RunEnd) -> (HostOutcome, bool) {
    let host = end.hosts.values().next().unwrap();
    (host.outcome, host.fault.as_ref().is_some_and(|fault| fault.kind == FaultKind::Record))
}

fn never(_event: &Event) -> bool {
    false
}

fn at_the_end_of_a_step(event: &Event) -> bool {
    matches!(event, Event::StepEnded { end, .. } if end.outcome == StepOutcome::Changed)
}

#[test]
fn what_could_not_be_recorded_does_not_become_final() {
    let stage = Stage::new();
    let (end, _) = stage.apply("", at_the_end_of_a_step, Duration::ZERO);
    assert_eq!(host(&end), (HostOutcome::RolledBack, true), "{end:?}");
    assert_eq!(stage.text(), "old");
}

#[test]
fn who_is_not_on_record_is_not_begun() {
    let stage = Stage::new();
    let connected = |event: &Event| matches!(event, Event::HostConnected(_));
    let (end, told) = stage.apply("", connected, Duration::ZERO);
    assert_eq!(host(&end), (HostOutcome::NotStarted, true), "{end:?}");
    assert!(!told.iter().any(|event| matches!(event, Event::StepStarted { .. })), "{told:?}");
    assert_eq!(stage.text(), "old");
}

#[test]
fn an_undo_that_could_not_be_recorded_does_not_become_final() {
    let stage = Stage::new();
    assert_eq!(host(&stage.apply("", never, Duration::ZERO).0), (HostOutcome::Succeeded, false));
    assert_eq!(host(&stage.undo(at_the_end_of_a_step, Duration::ZERO)), (HostOutcome::RolledBack, true));
    assert_eq!(stage.text(), "new");
    assert_eq!(host(&stage.undo(never, Duration::ZERO)), (HostOutcome::Succeeded, false));
    assert_eq!(stage.text(), "old");
}

#[test]
fn a_watcher_that_dawdles_does_not_undo_a_run() {
    let stage = Stage::new();
    // Nothing heard for five seconds, and the host would go back.
    let (end, _) = stage.apply("confirm_within: 10s, grace: 0s", never, Duration::from_secs(8));
    assert_eq!(host(&end), (HostOutcome::Succeeded, false), "{end:?}");
    assert_eq!(stage.text(), "new");
}
