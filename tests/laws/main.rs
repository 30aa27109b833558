//! Laws over all step kinds. Each case is a folder in `tests/cases`; each law is a loop over all of them, on an agent
//! that runs in this process with a folder as its host.
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]

mod case;
mod host;
mod tree;

use std::path::Path;

use case::{Case, Server};
use host::{Ending, Said};
use rollbook::{
    model::{
        change::{Act, Deed, DeedReport},
        event::{HostOutcome, Mode, StepOutcome, Undone},
    },
    steps::KINDS,
};
use tempfile::TempDir;
use tree::Tree;

/// Kinds that cannot be tried on a folder, and why. They have suites of their own.
const NEED_A_HOST: &[(&str, &str)] = &[
    ("group", "writes the host's group database"),
    ("package", "asks the host's package manager"),
    ("service", "asks the host's service manager"),
    ("user", "writes the host's user database"),
];

#[test]
fn every_kind_has_a_case_or_a_reason() {
    let cases = Case::all();
    for kind in KINDS {
        let has_case = cases.iter().any(|case| case.name.split('/').next() == Some(kind.name));
        let has_reason = NEED_A_HOST.iter().any(|(name, _)| *name == kind.name);
        assert!(has_case != has_reason, "{} needs a folder in tests/cases, or a line in NEED_A_HOST", kind.name);
    }
}

/// A case on a host of its own.
struct Stage<'a> {
    case: &'a Case,
    root: TempDir,
    state: TempDir,
    server: Option<Server>,
}

impl Stage<'_> {
    fn of(case: &Case) -> Stage<'_> {
        let folder = || tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let stage = Stage { case, root: folder(), state: folder(), server: case.server() };
        tree::build(stage.root.path(), &case.before());
        stage
    }

    fn run(&self, mode: Mode, ending: Ending) -> Said {
        let work = self.case.tasks(self.root.path(), self.server.as_ref());
        host::run(self.root.path(), self.state.path(), mode, work, ending)
    }

    fn tree(&self) -> Tree {
        Tree::read(self.root.path())
    }

    /// Holds a tree against what it should be; times count where `times` says so.
    fn compare(&self, what: &str, expected: &Tree, times: impl Fn(&Path, &tree::Thing) -> bool) {
        let found = expected.differences(&self.tree(), times);
        assert!(found.is_empty(), "{}: {what}:\n{}", self.case.name, found.join("\n"));
    }
}

/// The deeds as a case lists them.
fn names<'a>(deeds: impl IntoIterator<Item = &'a DeedReport>) -> Vec<String> {
    let name = |report: &DeedReport| match &report.deed {
        Deed::Change(change) => change.resource.to_string(),
        Deed::Act { act: Act::Run(command), .. } => format!("run {}", command.argv[0]),
        other => panic!("{other:?}"),
    };
    deeds.into_iter().map(name).collect()
}

fn planned(said: &Said) -> Vec<&DeedReport> {
    said.ends.iter().flat_map(|end| &end.deeds).collect()
}

fn done(said: &Said) -> Vec<&DeedReport> {
    said.done.iter().map(|(_, report)| report).collect()
}

fn messages(said: &Said) -> String {
    said.ends.iter().filter_map(|end| end.message.as_deref()).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_plan_writes_nothing() {
    for case in Case::all() {
        let stage = Stage::of(&case);
        let before = stage.tree();
        stage.run(Mode::Plan, Ending::Close);
        stage.compare("a plan has written", &before, |_, _| true);
    }
}

#[test]
fn an_apply_does_what_the_plan_said() {
    for case in Case::all() {
        let stage = Stage::of(&case);
        let plan = stage.run(Mode::Plan, Ending::Close);
        let apply = stage.run(Mode::Apply, Ending::Close);
        let name = &case.name;
        assert_eq!(names(done(&apply)), case.changed, "{name}: {}", messages(&apply));
        let unknown = plan.ends.iter().any(|end| end.outcome == StepOutcome::Unknown);
        assert_eq!(unknown, case.unknown, "{name}: {}", messages(&plan));
        match unknown {
            true => assert!(planned(&plan).iter().all(|deed| done(&apply).contains(deed)), "{name}: {plan:#?}"),
            // A command that fails is planned, and is not among what is done.
            false if case.fails.is_some() => {
                assert!(planned(&plan).starts_with(&done(&apply)), "{name}: {plan:#?}");
                assert!(planned(&plan).len() <= done(&apply).len() + 1, "{name}: {plan:#?}");
            }
            false => assert_eq!(planned(&plan), done(&apply), "{name}"),
        }
        let last = apply.ends.last().unwrap();
        match &case.fails {
            Some(part) => {
                assert_eq!(last.outcome, StepOutcome::Failed, "{name}");
                assert!(last.message.as_ref().unwrap().contains(part), "{name}: {}", messages(&apply));
            }
            None => {
                assert_eq!(apply.closed.unwrap().outcome, HostOutcome::Succeeded, "{name}");
                assert_eq!(apply.ends.len(), plan.ends.len(), "{name}");
            }
        }
    }
}

#[test]
fn the_tree_after_is_exactly_the_expected_one() {
    for case in Case::all().into_iter().filter(|case| case.fails.is_none()) {
        let stage = Stage::of(&case);
        let before = stage.tree();
        stage.run(Mode::Apply, Ending::Close);
        let expected = Stage { root: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(), ..Stage::of(&case) };
        tree::build(expected.root.path(), &case.after());
        stage.compare("the tree after", &expected.tree(), |_, _| false);
        let untouched = |path: &Path, thing: &tree::Thing| {
            !thing.is_folder() && !case.changed.iter().any(|changed| Path::new(changed) == path)
        };
        let times = before.differences(&stage.tree(), untouched);
        let times: Vec<&String> = times.iter().filter(|told| told.contains("its time")).collect();
        assert!(times.is_empty(), "{}: {times:?}", case.name);
    }
}

#[test]
fn a_second_run_rests() {
    for case in Case::all().into_iter().filter(|case| case.fails.is_none()) {
        let stage = Stage::of(&case);
        stage.run(Mode::Apply, Ending::Close);
        let before = stage.tree();
        for mode in [Mode::Plan, Mode::Apply] {
            let again = stage.run(mode, Ending::Close);
            assert!(again.ends.iter().all(|end| end.outcome == StepOutcome::Ok), "{}: {again:#?}", case.name);
            assert_eq!(names(done(&again)), [""; 0], "{}", case.name);
            assert_eq!(again.closed.unwrap().counts.changed, 0, "{}", case.name);
            stage.compare("a second run has written", &before, |_, _| true);
        }
    }
}

#[test]
fn what_is_undone_is_as_it_was() {
    for case in Case::all() {
        let stage = Stage::of(&case);
        let before = stage.tree();
        let said = stage.run(Mode::Apply, Ending::Unwind);
        let untouched = |path: &Path, thing: &tree::Thing| {
            let mut touched = case.changed.iter().chain(&case.remade);
            !thing.is_folder() && !touched.any(|touched| Path::new(touched) == path)
        };
        let irreversible = said.undone.iter().any(|(_, _, how)| *how == Undone::Irreversible);
        stage.compare("undoing has left", &before, untouched);
        let name = &case.name;
        let backwards: Vec<String> = case.changed.iter().rev().cloned().collect();
        assert_eq!(names(said.undone.iter().map(|(_, report, _)| report)), backwards, "{name}");
        let outcome = said.closed.as_ref().unwrap().outcome;
        let expected = if irreversible { HostOutcome::NeedsRecovery } else { HostOutcome::RolledBack };
        assert_eq!(outcome, expected, "{name}: {said:#?}");
    }
}
