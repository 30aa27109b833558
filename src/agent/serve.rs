//! The conversation: hello, then one plan or apply after the other.

use std::{
    collections::{BTreeSet, VecDeque},
    io::{Read, Write},
};

use crate::{
    agent::{
        Machine,
        alone::{self, Switch, Waited},
        block::Block,
        flight::Flight,
        inbox::Inbox,
        recover, undo,
        voice::Voice,
        watch::Watch,
    },
    base::point::fault,
    model::{
        event::{Counts, HostOutcome, Mode, StepOutcome},
        lease::{Bid, OpenRun, Stand},
        runbook::Mark,
        strategy::OnFailure,
    },
    resources::view::{Overlay, Seen},
    target::{Blobs, Journal, journal::JournalFault},
    wire::{
        FromAgent, ToAgent,
        message::{Closed, Handlers, Hello, Open, Settle, Task, TaskEnd, WIRE_VERSION, Witness},
    },
};

/// Speaks with a controller until it hangs up. What an apply has done until then is undone before this returns.
pub fn serve(
    reader: impl Read + Send + 'static,
    writer: impl Write + Send + 'static,
    machine: &Machine,
) -> std::io::Result<()> {
    let running = machine.probe.running().clone();
    let mut voice = Voice::begin(writer, running.clone());
    voice.say(FromAgent::Hello(Box::new(hello(machine))));
    let inbox = Inbox::listen(reader, running, voice.pulse());
    while let Ok(message) = hear(&inbox, &mut voice) {
        match message {
            ToAgent::Open(open) => Run::begin(machine, &inbox, &mut voice, open),
            ToAgent::AskWitnesses => tell_witnesses(machine, &mut voice),
            ToAgent::Recover { run, how } => recover::recover(machine, &mut voice, run.as_ref(), how),
            ToAgent::Steal { run, words } => recover::steal(machine, &mut voice, &run, &words),
            ToAgent::Undo(order) => undo::undo(machine, &inbox, &mut voice, *order),
            ToAgent::Confirm { run, token, of_step } => alone::confirm(machine, &mut voice, &run, &token, of_step),
            // Sent ahead for a run that has ended already.
            ToAgent::Blob(_)
            | ToAgent::Handlers(_)
            | ToAgent::Task(_)
            | ToAgent::Mark(_)
            | ToAgent::Close { .. }
            | ToAgent::Unwind
            | ToAgent::UndoTasks(_)
            | ToAgent::Stop
            | ToAgent::Keep
            | ToAgent::Ping
            | ToAgent::Cancel => {}
        }
    }
    voice.finish();
    Ok(())
}

/// The next message. Before it is waited for, all is said.
fn hear<W: Write>(inbox: &Inbox, voice: &mut Voice<W>) -> Result<ToAgent, String> {
    if inbox.is_empty() {
        voice.finish();
    }
    inbox.next()
}

fn hello(machine: &Machine) -> Hello {
    // A store that cannot be read is told when something is to be written.
    Hello {
        wire: WIRE_VERSION,
        digest: machine.digest,
        facts: machine.probe.facts().clone(),
        open_run: machine.store.unsettled().ok().flatten(),
    }
}

fn tell_witnesses<W: Write>(machine: &Machine, voice: &mut Voice<W>) {
    match machine.store.witnesses() {
        Ok(witnesses) => voice.say(FromAgent::Witnesses(witnesses)),
        Err(fault) => {
            voice.say(FromAgent::Note(fault.to_string()));
            voice.say(FromAgent::Witnesses(Vec::new()));
        }
    }
}

/// Takes the host for an apply. A run of the same job that was cut off or has lost its controller is undone before: the
/// same command begins anew.
fn begin<W: Write>(
    machine: &Machine,
    voice: &mut Voice<W>,
    bid: &Bid,
    witness: Option<Witness>,
) -> Result<Journal, JournalFault> {
    let found = machine.store.unsettled()?;
    let is_same = |found: &OpenRun| found.lease.bid.job.is_some() && found.lease.bid.job == bid.job;
    if let Some(found) = found.filter(|found| is_same(found) && found.stand != Stand::Working) {
        let settled = recover::settled(machine, Some(found.run()), Settle::Back);
        let told = settled.message.unwrap_or_default();
        voice.say(FromAgent::Note(format!("run {} had lost its controller here: {told}", found.run())));
    }
    machine.store.begin(bid, witness)
}

/// A plan or an apply.
pub(super) struct Run<'a, W> {
    pub(super) machine: &'a Machine,
    pub(super) inbox: &'a Inbox,
    pub(super) voice: &'a mut Voice<W>,
    /// None in a plan.
    pub(super) journal: Option<Journal>,
    pub(super) blobs: Blobs,
    /// What the steps of a plan would have done so far. Empty in an apply.
    pub(super) overlay: Overlay,
    /// What tasks saw of the host a moment ago.
    pub(super) seen: Seen,
    /// What has come and was looked at ahead of its turn.
    pub(super) pending: VecDeque<ToAgent>,
    /// Changes of tasks to come whose undo is durable already.
    pub(super) flight: Flight,
    /// Handlers that are to be run.
    pub(super) woken: BTreeSet<u32>,
    /// What the journal is to know of handlers.
    pub(super) handlers: Option<Handlers>,
    /// The blocks that the task at hand stands in, the innermost last.
    pub(super) blocks: Vec<Block>,
    pub(super) counts: Counts,
    /// What all of it is to be confirmed with, at its end.
    pub(super) switch: Option<Switch>,
    watch: Option<Watch>,
    on_failure: OnFailure,
    /// Whether it went on after a failure that nothing rescued.
    went_on: bool,
    /// What was to be undone in the middle of it, and could not be.
    left: Option<String>,
}

/// Why a run does not go on.
pub(super) enum End {
    /// It is done.
    Close(Option<crate::model::witness::Witness>),
    /// All of it is to be undone; one sentence that says why.
    Back(String),
    /// A task failed.
    Failed(String),
    /// The operator has stopped it, and keeps what was done.
    Kept,
}

impl<'a, W: Write> Run<'a, W> {
    /// Goes through a plan or an apply to its end.
    fn begin(machine: &'a Machine, inbox: &'a Inbox, voice: &'a mut Voice<W>, open: Open) {
        if let Some(run) = Run::open(machine, inbox, voice, open) {
            run.go();
        }
    }

    /// Opens it. None where it was refused, which is said.
    pub(super) fn open(machine: &'a Machine, inbox: &'a Inbox, voice: &'a mut Voice<W>, open: Open) -> Option<Self> {
        let Open { bid, mode, on_failure, witness, vigil } = open;
        let journal = match mode {
            Mode::Plan => None,
            Mode::Apply => match begin(machine, voice, &bid, witness) {
                Ok(journal) => Some(journal),
                Err(fault) => {
                    let message = Some(fault.to_string());
                    let closed = Closed { outcome: HostOutcome::Failed, counts: Counts::default(), message };
                    voice.say(FromAgent::Closed(closed));
                    return None;
                }
            },
        };
        let watch = journal.as_ref().map(|journal| Watch::begin(machine, inbox, &journal.opened().lease, &vigil));
        let switch = vigil.confirm_ms.filter(|_| journal.is_some()).map(|ms| Run::switch(voice, None, ms));
        let blobs = journal.as_ref().map_or_else(Blobs::default, |journal| Blobs::spilling(journal.blobs_folder()));
        Some(Run {
            machine,
            inbox,
            voice,
            journal,
            blobs,
            overlay: Overlay::default(),
            seen: Seen::default(),
            pending: VecDeque::new(),
            flight: Flight::default(),
            woken: BTreeSet::new(),
            handlers: None,
            blocks: Vec::new(),
            counts: Counts::default(),
            switch,
            watch,
            on_failure,
            went_on: false,
            left: None,
        })
    }

    fn go(mut self) {
        let end = self.work();
        if self.journal.is_none() && !matches!(end, End::Close(_)) {
            return self.say_closed(HostOutcome::Failed, None);
        }
        let stays = match &end {
            End::Close(_) | End::Kept => true,
            End::Failed(_) => self.on_failure == OnFailure::Stop && !self.machine.probe.running().is_alone(),
            End::Back(_) => false,
        };
        let (why, is_told) = match (end, stays.then(|| self.confirmed())) {
            (End::Close(witness), Some(Ok(()))) => return self.close(witness.as_ref()),
            (End::Failed(why), Some(Ok(()))) => return self.stop(why),
            (End::Kept, Some(Ok(()))) => return self.stop("the operator stopped it, and keeps what was done".into()),
            (_, Some(Err(why))) | (End::Back(why), _) => (why, false),
            (End::Failed(why), None) => (why, true),
            (End::Close(_) | End::Kept, None) => unreachable!("these stay"),
        };
        let running = self.machine.probe.running();
        // Who was told to stop does not wait for the one who said so.
        let waits = running.is_alone() && !running.is_cancelled() && !running.is_held();
        match waits && matches!(self.wait_alone(), Waited::TakenOver) {
            true => self.let_go(),
            false => self.unwind(why, is_told),
        }
    }

    /// What is to stay is confirmed first, where that is asked for. The error says why it does not stay.
    fn confirmed(&mut self) -> Result<(), String> {
        let Some(switch) = self.switch.take() else { return Ok(()) };
        if self.journal.as_ref().is_some_and(Journal::is_begun) {
            self.voice.say(FromAgent::Awaits);
        }
        loop {
            match self.await_confirmation(&switch) {
                Err(_) if self.machine.probe.running().is_held() => {
                    if let End::Back(why) = self.hold() {
                        return Err(why);
                    }
                }
                confirmed => return confirmed,
            }
        }
    }

    /// Does what is asked until it is over.
    pub(super) fn work(&mut self) -> End {
        loop {
            if self.machine.probe.running().is_held() {
                return self.hold();
            }
            let message = match self.next() {
                Ok(message) => message,
                Err(why) => return End::Back(why),
            };
            match message {
                ToAgent::Blob(chunk) => {
                    if let Err(fault) = self.blobs.take_in(chunk.content, chunk.offset, chunk.piece.bytes()) {
                        return End::Back(format!("content {} was refused: {fault}", chunk.content.digest.short()));
                    }
                }
                ToAgent::Handlers(handlers) => self.handlers = Some(handlers).filter(|_| self.journal.is_some()),
                ToAgent::Task(task) => {
                    if let Some(end) = self.take(&task) {
                        return end;
                    }
                }
                ToAgent::Mark(mark) => match self.mark(mark) {
                    Err(why) if self.is_over() => return End::Failed(why),
                    _ if mark == Mark::End => self.voice.say(FromAgent::BlockEnded),
                    _ => {}
                },
                ToAgent::UndoTasks(tasks) => {
                    let left = self.back(&|entry| tasks.contains(&entry.task)).left();
                    self.left = left.or(self.left.take());
                    self.voice.say(FromAgent::BlockEnded);
                }
                ToAgent::Close { witness } => return End::Close(witness),
                // It is asked about above.
                ToAgent::Stop => {}
                ToAgent::Keep => return End::Kept,
                ToAgent::Unwind => return End::Back("the controller asked for it".into()),
                ToAgent::Cancel => return End::Back("the run was cancelled".into()),
                ToAgent::AskWitnesses => tell_witnesses(self.machine, self.voice),
                ToAgent::Ping => {}
                ToAgent::Open(_)
                | ToAgent::Recover { .. }
                | ToAgent::Steal { .. }
                | ToAgent::Undo(_)
                | ToAgent::Confirm { .. } => {
                    return End::Back("the controller began another run before this one had ended".into());
                }
            }
        }
    }

    /// Does a task. None where the run goes on behind it.
    fn take(&mut self, task: &Task) -> Option<End> {
        let within_ms = task.confirm_ms.filter(|_| self.journal.is_some());
        let switch = within_ms.map(|ms| Run::switch(self.voice, Some(task.no), ms));
        let end = self.live(task);
        self.count(end.outcome);
        let failed = end.outcome == StepOutcome::Failed;
        // What it has done before it failed goes back with the run, or stays.
        let stays = end.outcome == StepOutcome::Changed || failed && self.on_failure != OnFailure::Rollback;
        let switch = switch.filter(|_| stays);
        let why = failed.then(|| end.message.clone().unwrap_or_default());
        self.tell_end(end);
        fault!("agent.task_ended");
        let end = self.behind(why, switch.as_ref())?;
        // Where it stays nevertheless, it is still to be confirmed.
        self.switch = self.switch.take().or(switch);
        Some(end)
    }

    /// What comes of a task that has ended; why, if it has failed.
    fn behind(&mut self, failure: Option<String>, switch: Option<&Switch>) -> Option<End> {
        if self.machine.probe.running().is_held() {
            return Some(self.hold());
        }
        if let Some(why) = failure
            && let Err(why) = self.fails(why)
            && self.is_over()
        {
            return Some(End::Failed(why));
        }
        match self.await_confirmation(switch?) {
            Err(_) if self.machine.probe.running().is_held() => Some(self.hold()),
            confirmed => confirmed.err().map(End::Back),
        }
    }

    /// The next message, whether it was looked at ahead of its turn or not.
    fn next(&mut self) -> Result<ToAgent, String> {
        self.pending.pop_front().map_or_else(|| hear(self.inbox, self.voice), Ok)
    }

    /// The operator has stopped it: what was queued is dropped, and nothing is done until it is said what becomes of what
    /// was done.
    fn hold(&mut self) -> End {
        self.voice.say(FromAgent::Held);
        let mut closing = None;
        loop {
            match self.next() {
                Ok(ToAgent::Keep) => {
                    self.machine.probe.running().resume();
                    return closing.map_or(End::Kept, End::Close);
                }
                // It comes when everything is done.
                Ok(ToAgent::Close { witness }) => closing = Some(witness),
                Ok(ToAgent::Unwind | ToAgent::Cancel) => return End::Back("the operator stopped it".into()),
                Ok(_) => {}
                Err(why) => return End::Back(why),
            }
        }
    }

    /// Something failed that nothing rescues: whether that is the run's end. A plan goes on: it tells all that it can
    /// find.
    fn is_over(&mut self) -> bool {
        self.went_on = true;
        self.journal.is_some() && self.on_failure != OnFailure::Continue
    }

    /// Tells how a task ended. What does not fit into one message comes before it, as deeds do in an apply.
    pub(super) fn tell_end(&mut self, mut end: TaskEnd) {
        let (mut bytes, mut first) = (0, end.deeds.len());
        while first > 0 && bytes < DEEDS_BYTES {
            first -= 1;
            bytes += super::voice::size(&end.deeds[first]);
        }
        let told_last = end.deeds.split_off(first);
        for report in std::mem::replace(&mut end.deeds, told_last) {
            self.voice.say(FromAgent::Done { no: end.no, report: Box::new(report), took_us: 0 });
        }
        self.voice.say(FromAgent::Ended(Box::new(end)));
    }

    pub(super) fn count(&mut self, outcome: StepOutcome) {
        let counts = &mut self.counts;
        let count = match outcome {
            StepOutcome::Ok => &mut counts.ok,
            StepOutcome::Changed => &mut counts.changed,
            StepOutcome::Skipped => &mut counts.skipped,
            StepOutcome::Unknown => &mut counts.unknown,
            StepOutcome::Failed => &mut counts.failed,
        };
        *count += 1;
    }

    /// Everything is done: it becomes final.
    fn close(mut self, witness: Option<&crate::model::witness::Witness>) {
        fault!("agent.close");
        // It went on after a failure, as it was told to.
        let outcome = match &self.left {
            Some(_) => HostOutcome::NeedsRecovery,
            None if self.went_on => HostOutcome::Failed,
            None => HostOutcome::Succeeded,
        };
        let left = self.left.take();
        let grounded = self.ground();
        let probe = &self.machine.probe;
        let close = |journal: &mut Journal| grounded.and_then(|()| journal.close(probe, outcome, witness));
        match self.journal.as_mut().map(close) {
            None | Some(Ok(())) => self.say_closed(outcome, left),
            Some(Err(fault)) => self.not_final(&fault),
        }
    }

    /// What was done could not be made final. As long as the journal is open, it can be undone.
    pub(super) fn not_final(mut self, fault: &JournalFault) {
        let why = format!("it could not be made final: {fault}");
        match self.journal.as_ref().is_some_and(Journal::is_closed) {
            true => self.say_closed(HostOutcome::NeedsRecovery, Some(why)),
            false => self.unwind(why, false),
        }
    }

    /// It failed, and what was done stays.
    fn stop(mut self, why: String) {
        fault!("agent.stop");
        let grounded = self.ground();
        let probe = &self.machine.probe;
        let close = |journal: &mut Journal| grounded.and_then(|()| journal.close(probe, HostOutcome::Failed, None));
        let closed = self.journal.as_mut().map_or(Ok(()), close);
        let why = match closed {
            Ok(()) => why,
            Err(fault) => format!("{why}; and the journal could not be closed: {fault}"),
        };
        self.say_closed(HostOutcome::Failed, Some(why));
    }

    /// The last word. The host is free for the next run before it is said.
    pub(super) fn say_closed(&mut self, outcome: HostOutcome, message: Option<String>) {
        self.journal = None;
        self.watch = None;
        fault!("agent.closed");
        self.voice.say(FromAgent::Closed(Closed { outcome, counts: self.counts, message }));
    }
}

/// Bytes of deeds that go into one message.
const DEEDS_BYTES: usize = 256 * 1024;
