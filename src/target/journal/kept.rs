//! Runs that are settled and still kept: what it takes to undo them.

use std::{fs, io, path::PathBuf};

use crate::{
    model::{
        change::{Act, Change, CommandSpec, Deed},
        event::HostOutcome,
        ids::{RunId, TaskNo},
        state::{Content, PathState, State},
    },
    target::journal::{
        Entry, Status, Store,
        fault::JournalFault,
        store::{IMAGES, PACKAGES, read_story},
        story::Story,
    },
};

/// A settled run that is still kept.
#[derive(Debug)]
pub struct Kept {
    folder: PathBuf,
    entries: Vec<(Entry, Status)>,
    undoers: Vec<Undoer>,
    commands_run: Vec<(TaskNo, CommandSpec)>,
    unread: Vec<RunId>,
}

/// A settled run that undoes another one.
#[derive(Clone, Debug)]
struct Undoer {
    run: RunId,
    whole: bool,
}

impl Kept {
    /// What it did and how far each deed had come, in the order in which it was armed.
    pub fn entries(&self) -> &[(Entry, Status)] {
        &self.entries
    }

    /// The run that has undone all of it.
    pub fn undone_by(&self) -> Option<&RunId> {
        self.undoers.iter().find(|undoer| undoer.whole).map(|undoer| &undoer.run)
    }

    /// The commands that runs which undo this one have run, one for each time, also where these runs have gone back since:
    /// for which task of this one, and without their input and environment. Those that failed are not among them.
    pub fn commands_run(&self) -> &[(TaskNo, CommandSpec)] {
        &self.commands_run
    }

    /// Later runs whose journals cannot be read, as one of another version may be: whether they have undone this one is not
    /// known.
    pub fn unread(&self) -> &[RunId] {
        &self.unread
    }

    /// The content that an entry's file had before, and where it is kept.
    pub fn image(&self, entry: &Entry) -> Option<(Content, PathBuf)> {
        entry.image?;
        let Deed::Change(Change { before: State::Path(PathState::File { content, .. }), .. }) = &entry.deed else {
            return None;
        };
        Some((*content, self.folder.join(IMAGES).join(entry.no.to_string())))
    }

    /// Where it has kept packages that went.
    pub fn packages(&self) -> PathBuf {
        self.folder.join(IMAGES).join(PACKAGES)
    }
}

impl Store {
    /// A settled run, if it is still kept. One that changed nothing was never kept.
    pub fn kept(&self, run: &RunId) -> Result<Option<Kept>, JournalFault> {
        let folder = self.runs().join(run.as_str());
        let Some(story) = read_story(&folder)? else { return Ok(None) };
        let (undoing, mut unread) = self.undoing()?;
        unread.retain(|other| other > run);
        let undoers = undoers(run, &undoing, UNDOERS_DEEP);
        let mut commands_run = Vec::new();
        for (undoer, _, _) in undoing.iter().filter(|(_, undone, _)| undone == run) {
            let story = read_story(&self.runs().join(undoer.as_str()))?;
            commands_run.extend(story.into_iter().flat_map(|story| story.entries).filter_map(command_run));
        }
        Ok(Some(Kept { folder, entries: story.entries, undoers, commands_run, unread }))
    }

    /// All kept runs that undo another one, oldest first: what they undo, and how that ended. And those that cannot be
    /// read.
    fn undoing(&self) -> Result<(Vec<Undo>, Vec<RunId>), JournalFault> {
        let doing = || JournalFault::io(format!("looking for settled runs in {}", self.runs().display()));
        let (mut found, mut unread) = (Vec::new(), Vec::new());
        let mut runs = self.settled_runs().map_err(doing())?;
        runs.sort_unstable();
        for run in runs {
            match read_story(&self.runs().join(run.as_str())) {
                Ok(Some(Story { undoes: Some(undone), closed: Some(outcome), .. })) => {
                    found.push((run, undone, outcome));
                }
                Ok(_) => {}
                Err(_) => unread.push(run),
            }
        }
        Ok((found, unread))
    }

    /// The settled runs that are kept.
    fn settled_runs(&self) -> io::Result<Vec<RunId>> {
        let mut runs = Vec::new();
        for entry in fs::read_dir(self.runs())? {
            runs.extend(entry?.file_name().to_str().and_then(|name| name.parse::<RunId>().ok()));
        }
        Ok(runs)
    }
}

/// The command that an entry has run, or may have.
fn command_run((entry, status): (Entry, Status)) -> Option<(TaskNo, CommandSpec)> {
    match entry.deed {
        Deed::Act { act: Act::Run(command), .. } if !matches!(status, Status::Missed | Status::Dropped) => {
            Some((entry.task, command))
        }
        _ => None,
    }
}

/// A run, the run that it undoes, and how it ended.
type Undo = (RunId, RunId, HostOutcome);

/// An undo of an undo of an undo is followed so far. Beyond, runs would undo each other in a circle.
const UNDOERS_DEEP: u32 = 64;

/// The runs that have undone `run` and were not undone themselves.
fn undoers(run: &RunId, undoing: &[Undo], deep: u32) -> Vec<Undoer> {
    let of_it = undoing.iter().filter(|(_, undone, _)| undone == run && deep > 0);
    let counts = of_it.filter_map(|(undoer, _, outcome)| match outcome {
        HostOutcome::Succeeded => Some(Undoer { run: undoer.clone(), whole: true }),
        HostOutcome::NeedsRecovery => Some(Undoer { run: undoer.clone(), whole: false }),
        _ => None,
    });
    counts.filter(|undoer| !undoers(&undoer.run, undoing, deep - 1).iter().any(|own| own.whole)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undo_that_was_undone_does_not_count() {
        let run = |letter| RunId::from_parts("20261123-051034", letter);
        let of = |undoing: &[(u32, u32, HostOutcome)]| {
            let undoing: Vec<_> = undoing.iter().map(|(by, of, outcome)| (run(*by), run(*of), *outcome)).collect();
            let found = undoers(&run(1), &undoing, UNDOERS_DEEP);
            found.into_iter().map(|undoer| (undoer.run, undoer.whole)).collect::<Vec<_>>()
        };
        let (done, partly, back) = (HostOutcome::Succeeded, HostOutcome::NeedsRecovery, HostOutcome::RolledBack);
        assert_eq!(of(&[]), []);
        assert_eq!(of(&[(2, 1, back)]), []);
        assert_eq!(of(&[(2, 1, partly), (3, 1, done)]), [(run(2), false), (run(3), true)]);
        assert_eq!(of(&[(2, 1, done), (3, 2, done)]), []);
        assert_eq!(of(&[(2, 1, done), (3, 2, partly)]), [(run(2), true)]);
        assert_eq!(of(&[(2, 1, done), (3, 2, done), (4, 3, done)]), [(run(2), true)]);
        assert!(of(&[(2, 1, done), (1, 2, done)]).len() < 2, "no circle is followed for ever");
    }
}
