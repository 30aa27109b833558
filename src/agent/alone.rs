//! An apply that waits: for a controller that is lost, or to be confirmed.

use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

use crate::{
    agent::{Machine, serve::Run, voice::Voice},
    base::point::fault,
    model::{
        event::{Counts, HostOutcome},
        ids::{RunId, TaskNo},
    },
    target::{
        Journal,
        journal::{JournalFault, token},
    },
    wire::{FromAgent, message::Closed},
};

const GLANCE: Duration = Duration::from_millis(50);

/// How long a run may take to be settled that was confirmed or is asked after.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);

/// A dead man's switch: what is to be confirmed with this token within this time, or goes back.
#[derive(Debug)]
pub(super) struct Switch {
    token: String,
    limit: Duration,
}

/// What an apply does that waited for its controller.
pub(super) enum Waited {
    /// Somebody has come to take it over.
    TakenOver,
    /// Nobody came: it goes back.
    InVain,
}

impl<W: Write> Run<'_, W> {
    /// The controller is lost: waits until the time for another is over.
    pub(super) fn wait_alone(&self) -> Waited {
        let running = self.machine.probe.running();
        let Some(journal) = self.journal.as_ref().filter(|journal| journal.is_begun()) else { return Waited::InVain };
        fault!("alone.waits");
        loop {
            if self.machine.store.is_claimed(journal.run()) {
                fault!("alone.taken_over");
                return Waited::TakenOver;
            }
            if running.alone_until().is_none_or(|until| Instant::now() >= until) {
                fault!("alone.over");
                return Waited::InVain;
            }
            thread::sleep(GLANCE);
        }
    }

    /// Somebody has come to take it over. Who had it learns from whom, if he is still there.
    pub(super) fn let_go(mut self) {
        let thief = self.journal.as_ref().and_then(|journal| self.machine.store.thief(journal.run()));
        if let Some(thief) = thief {
            self.say_closed(HostOutcome::Unknown, Some(format!("the run was taken over: {thief}")));
            self.voice.finish();
        }
    }

    /// Makes what an apply, or a task of it, is to be confirmed with, and tells it.
    pub(super) fn switch(voice: &mut Voice<W>, no: Option<TaskNo>, within_ms: u32) -> Switch {
        match token() {
            Ok(token) => {
                voice.say(FromAgent::Token { no, token: token.clone() });
                voice.finish();
                fault!("alone.token");
                Switch { token, limit: Duration::from_millis(within_ms.into()) }
            }
            // Without a token it cannot be confirmed, and goes back.
            Err(fault) => {
                voice.say(FromAgent::Note(fault.to_string()));
                Switch { token: String::from("none"), limit: Duration::ZERO }
            }
        }
    }

    /// Waits to be confirmed, where that is asked for. The error says why it is not to stay.
    pub(super) fn await_confirmation(&mut self, switch: &Switch) -> Result<(), String> {
        let Switch { token, limit } = switch;
        if !self.journal.as_ref().is_some_and(Journal::is_begun) {
            return Ok(());
        }
        self.voice.finish();
        fault!("alone.awaits");
        let until = Instant::now() + *limit;
        while Instant::now() < until {
            if self.machine.store.is_confirmed(token) {
                fault!("alone.confirmed");
                return Ok(());
            }
            let running = self.machine.probe.running();
            if running.is_cancelled() || running.is_held() {
                return Err("the run was stopped".into());
            }
            if self.journal.as_ref().is_some_and(|journal| self.machine.store.thief(journal.run()).is_some()) {
                return Err("the run was taken over".into());
            }
            thread::sleep(GLANCE);
        }
        fault!("alone.late");
        Err(format!("it was not confirmed over a new connection within {} s", limit.as_secs_f32()))
    }
}

/// Confirms a run that another agent holds, and says how it ended, or that it goes on behind a step.
pub(super) fn confirm<W: Write>(machine: &Machine, voice: &mut Voice<W>, run: &RunId, token: &str, of_step: bool) {
    let given = machine.store.confirm(token);
    fault!("alone.asked");
    let (outcome, message) = match given.and_then(|()| settled(machine, run, of_step)) {
        Ok(Some(outcome @ HostOutcome::Succeeded)) => (outcome, None),
        Ok(Some(outcome @ HostOutcome::Failed)) => (outcome, Some("it failed, and what was done stays".to_owned())),
        Ok(Some(outcome)) => (outcome, Some("the host has put the run back by itself".to_owned())),
        Ok(None) => (HostOutcome::Unknown, Some(format!("run {run} is not settled on this host"))),
        Err(fault) => (HostOutcome::Unknown, Some(fault.to_string())),
    };
    voice.say(FromAgent::Closed(Closed { outcome, counts: Counts::default(), message }));
}

/// Waits until a run that is at work is settled, or goes on behind a step. How it ended, as far as that is kept.
fn settled(machine: &Machine, run: &RunId, of_step: bool) -> Result<Option<HostOutcome>, JournalFault> {
    let until = Instant::now() + SETTLED_WITHIN;
    let is_at_work = || Ok(machine.store.unsettled()?.is_some_and(|open| open.run() == run));
    while is_at_work()? && Instant::now() < until {
        if of_step && machine.store.is_token_taken() {
            return Ok(Some(HostOutcome::Succeeded));
        }
        thread::sleep(GLANCE);
    }
    machine.store.outcome(run)
}
