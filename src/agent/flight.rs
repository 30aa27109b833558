//! Tasks that came together are journalled together: with the first that changes something, the changes of those behind
//! it are foreseen, as in a plan, and armed with the same sync. Each task is still looked at when its turn comes; only
//! what is then exactly as foreseen is believed to be armed.

use std::{
    collections::{HashSet, VecDeque},
    io::Write,
};

use crate::{
    agent::{deeds, life::unjournalled, serve::Run},
    model::{
        change::{Change, Deed},
        ids::TaskNo,
        state::{PathState, Resource, State},
    },
    resources::{
        Halt, HostView,
        view::{Overlay, Seen},
    },
    steps::Spec,
    target::{
        Blobs,
        journal::{Armed, Due, JournalFault},
    },
    wire::{ToAgent, message::Task},
};

/// Messages that are looked at ahead of their turn.
const AHEAD_MAX: usize = 256;

/// Changes that are armed together.
const CHANGES_MAX: usize = 256;

/// A content that an earlier task of the flight makes is kept for the way back up to this many bytes.
const KEPT_BYTES_MAX: u64 = 64 * 1024;

/// Changes that are armed, and not begun.
#[derive(Debug, Default)]
pub(super) struct Flight {
    legs: VecDeque<Leg>,
}

impl Flight {
    /// Whether the next that is foreseen to change something is this task.
    pub(super) fn expects(&self, task: TaskNo) -> bool {
        self.legs.front().is_some_and(|leg| leg.task == task)
    }
}

/// One task's part.
#[derive(Debug)]
struct Leg {
    task: TaskNo,
    changes: Vec<Change>,
    armed: Vec<Armed>,
}

/// What a task is foreseen to change.
struct Foreseen {
    task: TaskNo,
    sensitive: bool,
    deeds: Vec<Deed>,
}

impl<W: Write> Run<'_, W> {
    /// Makes the undo of a task's changes durable, unless it is already.
    pub(super) fn arm(&mut self, task: &Task, changes: &[Change]) -> Result<Vec<Armed>, Halt> {
        let is_as_foreseen = |leg: &Leg| leg.task == task.no && leg.changes == changes;
        if self.flight.legs.front().is_some_and(is_as_foreseen) {
            return Ok(self.flight.legs.pop_front().expect("looked at above").armed);
        }
        self.ground().map_err(|fault| unjournalled(&fault))?;
        let own: Vec<Deed> = changes.iter().cloned().map(Deed::Change).collect();
        let mut all = vec![Foreseen { task: task.no, sensitive: task.sensitive, deeds: own }];
        all.extend(self.foresee_flight(changes));
        let alone = all.len() == 1;
        let armed = match self.arm_together(&all) {
            Err(_) if !alone => {
                // Too long or too large together; a disk that fails says so once more.
                all.truncate(1);
                self.arm_together(&all)
            }
            armed => armed,
        };
        let mut armed = armed.map_err(|fault| unjournalled(&fault))?;
        let mut rest = armed.split_off(changes.len());
        for Foreseen { task, deeds, .. } in all.into_iter().skip(1) {
            let later = rest.split_off(deeds.len());
            let changes = deeds.into_iter().filter_map(|deed| match deed {
                Deed::Change(change) => Some(change),
                Deed::Act { .. } => None,
            });
            self.flight.legs.push_back(Leg { task, changes: changes.collect(), armed: rest });
            rest = later;
        }
        Ok(armed)
    }

    /// What is armed and not begun will not be.
    pub(super) fn ground(&mut self) -> Result<(), JournalFault> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let (probe, blobs) = (&self.machine.probe, &self.blobs);
        self.flight.legs.drain(..).try_for_each(|leg| journal.drop_armed(probe, blobs, &leg.armed))
    }

    /// Makes the new files of these changes beside their places, and with them those of the changes that fly behind: one
    /// wait for the disk serves all of them.
    pub(super) fn stage(&self, changes: &[Change], own: &[Armed]) -> Result<(), Halt> {
        if !changes.iter().any(|change| change.new_content().is_some()) {
            return Ok(());
        }
        let journal = self.journal.as_ref().expect("an apply has a journal");
        let all = own.iter().chain(self.flight.legs.iter().flat_map(|leg| &leg.armed));
        journal
            .stage(&self.machine.probe, &self.blobs, all)
            .map_err(|error| Halt::io("bringing new files onto the disk", &error))
    }

    fn arm_together(&mut self, all: &[Foreseen]) -> Result<Vec<Armed>, JournalFault> {
        let of_task = |one: &'_ Foreseen| (one.task, one.sensitive);
        let due: Vec<Due<'_>> = all
            .iter()
            .flat_map(|one| one.deeds.iter().map(move |deed| (of_task(one), deed)))
            .map(|((task, sensitive), deed)| Due { task, sensitive, deed })
            .collect();
        let journal = self.journal.as_mut().expect("an apply has a journal");
        journal.arm_all(&self.machine.probe, &self.blobs, &due)
    }

    /// What the tasks that have come behind this one will change, as far as that can be foreseen.
    fn foresee_flight(&mut self, changes: &[Change]) -> Vec<Foreseen> {
        let (mut overlay, mut seen, mut made) = (Overlay::default(), Seen::default(), HashSet::new());
        if !lay(changes, &self.blobs, &mut overlay, &mut made) || self.is_leaving_out() {
            return Vec::new();
        }
        self.look_ahead();
        let (mut all, mut count) = (Vec::new(), changes.len());
        for message in &self.pending {
            let ToAgent::Task(task) = message else { break };
            let spec = Spec::unpack(&task.args).ok().filter(Spec::is_foreseeable);
            let Some(spec) = spec.filter(|_| !task.only_if_notified) else { break };
            let (probe, blobs) = (&self.machine.probe, &mut self.blobs);
            let mut slow = || {};
            let mut view = HostView::new(probe, blobs, &overlay, &task.environment, false, &mut seen, &mut slow);
            let Ok(decision) = spec.want(&mut view) else { break };
            let Ok(changes) = deeds::changes(&mut view, &decision) else { break };
            count += changes.len();
            if !decision.acts.is_empty() || count > CHANGES_MAX || !lay(&changes, &self.blobs, &mut overlay, &mut made)
            {
                break;
            }
            if !changes.is_empty() {
                let deeds = changes.into_iter().map(Deed::Change).collect();
                all.push(Foreseen { task: task.no, sensitive: task.sensitive, deeds });
            }
        }
        all
    }

    /// Takes what has come out of the inbox, as far as it may be looked at ahead of its turn.
    fn look_ahead(&mut self) {
        while self.pending.len() < AHEAD_MAX
            && let Some(message) = self.inbox.take_work()
        {
            if let ToAgent::Blob(chunk) = &message
                && self.blobs.take_in(chunk.content, chunk.offset, chunk.piece.bytes()).is_ok()
            {
                continue;
            }
            // A content that is refused is refused once more when its turn comes.
            self.pending.push_back(message);
        }
    }
}

/// Lays changes over the host, if what comes after them can be foreseen and their undo can be kept.
fn lay(changes: &[Change], blobs: &Blobs, overlay: &mut Overlay, made: &mut HashSet<Resource>) -> bool {
    for change in changes {
        if !is_plain(change) || made.contains(&change.resource) && !can_be_kept(change, blobs) {
            return false;
        }
        made.insert(change.resource.clone());
        overlay.lay(change.resource.clone(), change.after.clone());
    }
    true
}

/// Whether a change says all that comes of it: nothing takes another thing's place, below which all is another.
fn is_plain(change: &Change) -> bool {
    let (State::Path(before), State::Path(after)) = (&change.before, &change.after) else { return false };
    match before {
        PathState::Absent => true,
        PathState::File { .. } => matches!(after, PathState::Absent | PathState::File { .. }),
        PathState::Directory { .. } => matches!(after, PathState::Directory { .. }),
        PathState::Link { .. } => matches!(after, PathState::Link { .. }),
        PathState::Other { .. } => false,
    }
}

/// Whether the content that a change replaces is at hand before it is on the disk.
fn can_be_kept(change: &Change, blobs: &Blobs) -> bool {
    match &change.before {
        State::Path(PathState::File { content, .. }) => {
            change.new_content().is_none() && !change.after.is_absent()
                || content.bytes <= KEPT_BYTES_MAX && blobs.has(content)
        }
        _ => true,
    }
}
