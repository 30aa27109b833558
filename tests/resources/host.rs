//! The machine under test, and what a step does to it.

use std::{
    collections::BTreeMap,
    path::Path,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rollbook::{
    model::{
        change::{Act, Change, Deed, Undo},
        facts::Facts,
        ids::{RunId, TaskNo},
        lease::Bid,
        state::{Difference, Resource, State},
    },
    resources::{
        self, Halt, HostView, View,
        view::{Overlay, Seen},
    },
    steps::{Decision, Spec},
    target::{
        Blobs, Journal, Probe, Tools,
        journal::{Armed, Store},
        process::Running,
    },
};
use tempfile::TempDir;

/// One test at a time: the machine has one package database.
static MACHINE: Mutex<()> = Mutex::new(());

/// The machine, for one test.
pub(crate) struct Host {
    pub(crate) probe: Probe,
    blobs: Blobs,
    journal: Journal,
    _store: TempDir,
    pub(crate) staged: Overlay,
    /// Held while the test runs.
    #[expect(dead_code, reason = "it is held")]
    alone: Option<MutexGuard<'static, ()>>,
}

/// What a step did.
#[derive(Debug)]
#[must_use]
pub(crate) struct Done(pub(crate) Vec<Change>, Vec<u32>);

impl Host {
    /// Takes the machine.
    pub(crate) fn take() -> Self {
        let said = std::env::var("ROLLBOOK_THROW_AWAY_HOST");
        assert_eq!(said.as_deref(), Ok("1"), "this would change the machine; run it on a throw-away host");
        let alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
        Host { alone: Some(alone), ..Host::below("/") }
    }

    /// A folder that stands for a machine.
    pub(crate) fn below(root: impl AsRef<Path>) -> Self {
        let facts = Facts {
            package_manager: "apt".into(),
            init: "systemd".into(),
            is_root: true,
            user: "root".into(),
            ..Facts::default()
        };
        let store = tempfile::tempdir().unwrap();
        let run = RunId::from_parts("20260102-030405", 7);
        Host {
            probe: Probe::new(root.as_ref(), facts, Running::default()),
            blobs: Blobs::default(),
            journal: Store::at(store.path())
                .begin(&Bid { run, operator: "test".into(), reason: None, job: None }, None)
                .unwrap(),
            staged: Overlay::default(),
            _store: store,
            alone: None,
        }
    }

    /// What a step wants.
    pub(crate) fn want(&mut self, kind: &str, json: &str, planning: bool) -> Result<Decision, Halt> {
        let mut reader = serde_json::Deserializer::from_str(json);
        let spec = Spec::decode(kind, &mut reader).unwrap();
        let spec = Spec::unpack(&spec.pack()).unwrap();
        let environment = BTreeMap::new();
        let (mut seen, mut slow) = (Seen::default(), || {});
        let (probe, blobs, staged) = (&self.probe, &mut self.blobs, &self.staged);
        let mut view = HostView::new(probe, blobs, staged, &environment, planning, &mut seen, &mut slow);
        spec.want(&mut view)
    }

    fn changes(&mut self, states: Vec<(Resource, State)>, planning: bool) -> Result<Vec<Change>, Halt> {
        let environment = BTreeMap::new();
        let (mut seen, mut slow) = (Seen::default(), || {});
        let (probe, blobs, staged) = (&self.probe, &mut self.blobs, &self.staged);
        let mut view = HostView::new(probe, blobs, staged, &environment, planning, &mut seen, &mut slow);
        let mut changes = Vec::new();
        for (resource, after) in states {
            let before = view.observe(&resource)?;
            if !resources::differences(&before, &after).is_empty() {
                changes.push(Change { resource, before, after });
            }
        }
        Ok(changes)
    }

    /// What a step would change.
    pub(crate) fn plan(&mut self, kind: &str, json: &str) -> Result<Vec<Change>, Halt> {
        let decision = self.want(kind, json, true)?;
        self.changes(decision.states, true)
    }

    /// Plans a step and lays its result over the host, for the steps after it.
    pub(crate) fn stage(&mut self, kind: &str, json: &str) {
        for change in self.plan(kind, json).unwrap() {
            self.staged.lay(change.resource, change.after);
        }
    }

    /// Does what a step wants. In a failure, what it was about to do comes with the reason.
    pub(crate) fn try_apply(&mut self, kind: &str, json: &str) -> Result<Done, (Done, Halt)> {
        let nothing = |halt| (Done(Vec::new(), Vec::new()), halt);
        let decision = self.want(kind, json, false).map_err(nothing)?;
        let changes = self.changes(decision.states, false).map_err(nothing)?;
        let armed = self.arm(changes.iter().cloned().map(Deed::Change));
        let done = Done(changes, armed.iter().map(Armed::entry).collect());
        match resources::converge(&self.journal.tools(&self.probe, &self.blobs, &armed), &done.0) {
            Ok(()) => Ok(done),
            Err(halt) => Err((done, halt)),
        }
    }

    fn arm(&mut self, deeds: impl Iterator<Item = Deed>) -> Vec<Armed> {
        let deeds: Vec<Deed> = deeds.collect();
        self.journal.arm(&self.probe, TaskNo { step: 0, item: 0 }, false, &deeds).unwrap()
    }

    /// Does what a step wants, and sees that the states are as they were said to be and that it wants nothing more.
    pub(crate) fn apply(&mut self, kind: &str, json: &str) -> Done {
        let planned = self.plan(kind, json).unwrap();
        let done = self.try_apply(kind, json).unwrap_or_else(|(_, halt)| panic!("{json}: {halt}"));
        assert_eq!(words(&done.0), words(&planned), "the plan is true");
        for change in &done.0 {
            let found = resources::observe(&self.probe, &change.resource).unwrap();
            let left = resources::differences(&found, &change.after);
            assert!(left.is_empty(), "{}: {left:?}", change.resource);
        }
        assert_eq!(words(&self.plan(kind, json).unwrap()), [] as [String; 0], "twice is once");
        done
    }

    /// Brings everything back, and sees that it is.
    #[expect(clippy::needless_pass_by_value, reason = "what is undone is over")]
    pub(crate) fn undo(&mut self, done: Done) {
        self.try_undo(&done).unwrap_or_else(|halt| panic!("undo: {halt}"));
        for change in &done.0 {
            let found = resources::observe(&self.probe, &change.resource).unwrap();
            assert_eq!(found, change.before, "{}", change.resource);
        }
    }

    /// Brings everything back.
    pub(crate) fn try_undo(&mut self, done: &Done) -> Result<(), Halt> {
        let back: Vec<Change> = done.0.iter().rev().map(Change::reversed).collect();
        resources::converge(&self.journal.tools_back(&self.probe, &self.blobs, &done.1), &back)
    }

    /// Does an act.
    pub(crate) fn act(&mut self, act: Act, work: impl FnOnce(&Tools<'_>) -> Result<(), Halt>) -> Result<(), Halt> {
        let armed = self.arm([Deed::Act { act, undo: Undo::Repeat }].into_iter());
        work(&self.journal.tools(&self.probe, &self.blobs, &armed))
    }
}

/// Changes in words: `package rbdemo: version 1.0 → 1.1`.
pub(crate) fn words(changes: &[Change]) -> Vec<String> {
    let told = |change: &Change| {
        let differences = resources::differences(&change.before, &change.after);
        let one = |Difference { attribute, before, after }: &Difference| format!("{attribute} {before} → {after}");
        format!("{}: {}", change.resource, differences.iter().map(one).collect::<Vec<_>>().join(", "))
    };
    changes.iter().map(told).collect()
}

/// Runs a command that must succeed; what it printed.
pub(crate) fn sh(script: &str) -> String {
    let output = Command::new("/bin/sh").args(["-ec", script]).env("LC_ALL", "C.UTF-8").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{script}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Two looks at the machine must have shown the same; else the lines that only one of them has.
#[track_caller]
pub(crate) fn assert_same(now: &str, before: &str, doing: &str) {
    let only = |one: &str, other: &str| -> Vec<String> {
        let lines: Vec<&str> = other.lines().collect();
        one.lines().filter(|line| !lines.contains(line)).map(str::to_owned).collect()
    };
    assert!(now == before, "{doing}: new {:#?}, gone {:#?}", only(now, before), only(before, now));
}
