//! The judge: whether a host is as it was, or as the run wants it, or its journal finishes the job; and whether what
//! was told is true.

use std::{collections::BTreeSet, fs, path::Path};

use rollbook::model::event::HostOutcome;

use crate::{
    host::{Host, Said},
    journal::Book,
    scenario::{Ending, Scenario},
    tree::{Thing, Tree},
};

/// How a scenario's host looks at each of its moments, and which points it passes.
pub(crate) struct Reference {
    /// Before the run, after each task, and at its end.
    pub(crate) moments: Vec<Tree>,
    /// The points in their order.
    pub(crate) trace: Vec<String>,
}

impl Reference {
    pub(crate) fn before(&self) -> &Tree {
        &self.moments[0]
    }

    pub(crate) fn last(&self) -> &Tree {
        self.moments.last().unwrap()
    }
}

/// Where a host stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// As it was, and free.
    Before,
    /// As the run leaves it, and free.
    After,
    /// Its journal is open.
    Open,
}

/// What the judge may know of a case.
pub(crate) struct Judge<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) reference: &'a Reference,
    /// The system refuses something in this case: a file, a program, a sync.
    pub(crate) refused: bool,
}

impl Judge<'_> {
    /// Judges what a run has left, and what was told of it.
    pub(crate) fn run(&self, host: &Host<'_>, said: &Said) -> Result<(Standing, Book), String> {
        let book = Book::read(&host.store())?;
        let standing = match book.open.len() {
            0 => self.settled(host)?,
            1 => self.each_is_known(host).map(|()| Standing::Open)?,
            many => return Err(format!("{many} journals are open")),
        };
        self.told(said, standing, &book)?;
        Ok((standing, book))
    }

    /// The host must be whole, before or after.
    pub(crate) fn settled(&self, host: &Host<'_>) -> Result<Standing, String> {
        let tree = host.tree();
        // What is written in place gets its times last of all, and they are no part of its state.
        let with_times = self.scenario.mount.is_none();
        let from_before = differences(self.reference.before(), &tree, with_times);
        let from_last = differences(self.reference.last(), &tree, false);
        match (from_before.is_empty(), from_last.is_empty()) {
            (true, _) => Ok(Standing::Before),
            (_, true) if self.scenario.ending != Ending::GoesBack => Ok(Standing::After),
            // Where the run was to stop at a failure, it did so at another one.
            _ if self.refused && self.scenario.ending == Ending::Stops => {
                self.each_is_known(host).map(|()| Standing::After)
            }
            _ => Err(format!(
                "no journal is open, and the host is neither as it was:\n  {}\nnor as the run wants it:\n  {}",
                from_before.join("\n  "),
                from_last.join("\n  ")
            )),
        }
    }

    /// Each content must be that of some moment of the run; beside them there may be temporary names.
    fn each_is_known(&self, host: &Host<'_>) -> Result<(), String> {
        for (path, thing) in &host.tree().0 {
            let own = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".rollbook-"));
            let is_known = self.reference.moments.iter().any(|tree| match tree.0.get(path) {
                Some(known) => content(path, known) == content(path, thing),
                None => false,
            });
            if !(own || is_known || thing.is_folder() || self.is_written_in_place(path)) {
                return Err(format!("{} is as it never was: {}", path.display(), text(path, thing)));
            }
        }
        for path in self.reference.before().0.keys() {
            let is_there = fs::symlink_metadata(host.root().join(path.strip_prefix("/").unwrap())).is_ok();
            if !is_there && self.reference.moments.iter().all(|tree| tree.0.contains_key(path)) {
                return Err(format!("{} has gone, and no step removes it", path.display()));
            }
        }
        Ok(())
    }

    /// A mounted file cannot be replaced in one step.
    fn is_written_in_place(&self, path: &Path) -> bool {
        self.scenario.mount.is_some_and(|(source, _)| path == Path::new("/").join(source))
    }

    /// What was told must be true.
    fn told(&self, said: &Said, standing: Standing, book: &Book) -> Result<(), String> {
        let Some(closed) = said.closed.first() else { return Ok(()) };
        let outcome = closed.outcome;
        let is_true = match outcome {
            HostOutcome::Succeeded => standing == Standing::After && self.scenario.ending == Ending::Stays,
            HostOutcome::RolledBack => standing == Standing::Before,
            HostOutcome::Failed if self.scenario.ending == Ending::Stops => {
                standing != Standing::Open || said_why(said)
            }
            HostOutcome::Failed => standing == Standing::Before && book.closed.iter().all(|j| !is_ours(&j.run)),
            // A last record that was written and could not be synced is not vouched for: it may stand, and may go.
            HostOutcome::NeedsRecovery => standing == Standing::Open || (self.refused && said_why(said)),
            other => return Err(format!("an agent told {other:?}")),
        };
        if !is_true {
            return Err(format!("told {closed:?}, and the host stands {standing:?}"));
        }
        for journal in book.closed.iter().filter(|journal| is_ours(&journal.run)) {
            let kept = journal.outcome().unwrap();
            if serde_json::to_value(outcome).unwrap() != kept && outcome != HostOutcome::NeedsRecovery {
                return Err(format!("told {outcome:?}, and the journal says {kept}"));
            }
        }
        Ok(())
    }

    /// What the commands say that they have done: none twice, and undone in reverse.
    pub(crate) fn deeds(&self, host: &Host<'_>, standing: Standing, crashes: usize) -> Result<(), String> {
        let lines = host.deeds();
        let numbers = |word: &str| -> Vec<u32> {
            lines.iter().filter_map(|line| line.strip_prefix(word)?.trim().parse().ok()).collect()
        };
        let (done, undone) = (numbers("do "), numbers("undo "));
        let wrong = |what: &str| Err(format!("{what}: {lines:?}"));
        if !done.is_sorted_by(|a, b| a < b) {
            return wrong("a command ran twice, or too early");
        }
        let mut once = undone.clone();
        once.dedup();
        // An undo that was refused does not keep the rest from being undone: the next attempt makes up for it.
        let turns = once.windows(2).filter(|pair| pair[0] < pair[1]).count();
        if turns > usize::from(self.refused) {
            return wrong("not undone in reverse");
        }
        let different: BTreeSet<&u32> = undone.iter().collect();
        if undone.len() > different.len() + crashes {
            return wrong("an undo ran again without a crash");
        }
        match standing {
            Standing::Before if !done.iter().all(|number| undone.contains(number)) => {
                wrong("the host is as it was, and a command is not undone")
            }
            Standing::After if !undone.is_empty() => wrong("the run stays, and a command was undone"),
            _ => Ok(()),
        }
    }

    /// Who reads the file that went back, and may have read the new one, has read it again.
    pub(crate) fn handlers(&self, host: &Host<'_>) -> Result<(), String> {
        let lines = host.deeds();
        match lines.iter().rfind(|line| line.starts_with("read ")).map(String::as_str) {
            Some("read before") => Ok(()),
            last => Err(format!("the file is back, and its handler has not run since: {last:?}")),
        }
    }

    /// Nothing of ours may be left behind.
    pub(crate) fn left_over(&self, host: &Host<'_>) -> Result<(), String> {
        let book = Book::read(&host.store())?;
        if !book.open.is_empty() || !book.untidy.is_empty() {
            return Err(format!("left in the store: {:?} {:?}", book.open, book.untidy));
        }
        let tree = host.tree();
        let ours = tree.0.keys().find(|path| path.to_string_lossy().contains(".rollbook-"));
        if let Some(path) = ours {
            return Err(format!("left behind: {}", path.display()));
        }
        let lock = fs::File::open(host.store().join("lock")).map_err(|error| error.to_string())?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| format!("the lock is still held: {error}"))
    }
}

/// Whether the run is a scenario's, and not one of those that were there before.
pub(crate) fn is_ours(run: &str) -> bool {
    run.starts_with("20261123-051034") && !run.ends_with("b222")
}

fn said_why(said: &Said) -> bool {
    said.closed.iter().all(|closed| closed.message.is_some())
}

/// How a tree differs from what it should be. On the way back, files have their old times again.
pub(crate) fn differences(expected: &Tree, found: &Tree, with_times: bool) -> Vec<String> {
    let counts = |path: &Path, thing: &Thing| with_times && text(path, thing).starts_with('f');
    expected.differences(found, counts)
}

fn text(path: &Path, thing: &Thing) -> String {
    Tree([(path.to_owned(), thing.clone())].into()).text()
}

/// A thing without its mode and attributes.
fn content(path: &Path, thing: &Thing) -> String {
    let text = text(path, thing);
    let line = text.lines().next().unwrap_or_default();
    line.splitn(3, ' ').enumerate().filter(|(nth, _)| *nth != 1).map(|(_, word)| word).collect()
}
