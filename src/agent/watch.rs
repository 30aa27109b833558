//! While an apply is open, a thread watches over it: whether the controller still says something, whether a signal asks
//! the agent to end, and, once the controller is lost, whether somebody comes to take over.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    agent::{Machine, inbox::Inbox, session},
    base::Timestamp,
    model::{ids::RunId, lease::Lease},
    target::{Probe, journal::Store, process::Running},
    wire::message::Vigil,
};

/// How often it looks.
const GLANCE: Duration = Duration::from_millis(50);

/// A second signal to end counts when it comes so long after the first: a `sudo` above the agent repeats each one.
const REPEATED: Duration = Duration::from_secs(2);

/// The watch over an apply. Ends when it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    over: Arc<AtomicBool>,
    running: Running,
}

impl Watch {
    /// Begins to watch over the run that holds the host.
    pub(super) fn begin(machine: &Machine, inbox: &Inbox, lease: &Lease, vigil: &Vigil) -> Watch {
        let running = machine.probe.running().clone();
        running.set_grace(Duration::from_millis(vigil.grace_ms.into()));
        running.idle().store(false, Ordering::SeqCst);
        let over = Arc::new(AtomicBool::new(false));
        let round = Round {
            probe: machine.probe.clone(),
            store: machine.store.clone(),
            inbox: inbox.clone(),
            run: lease.bid.run.clone(),
            fence: lease.fence,
            silence: Duration::from_millis(vigil.silence_ms.into()),
            quiet: Duration::ZERO,
            told_at: None,
            is_noted: false,
        };
        let until = Arc::clone(&over);
        thread::spawn(move || round.go(&until));
        Watch { over, running }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        self.running.idle().store(true, Ordering::SeqCst);
    }
}

struct Round {
    probe: Probe,
    store: Store,
    inbox: Inbox,
    run: RunId,
    fence: u64,
    silence: Duration,
    /// How long nothing was heard. Counted in glances: while the whole machine stands still, nobody is silent.
    quiet: Duration,
    told_at: Option<Instant>,
    is_noted: bool,
}

impl Round {
    fn go(mut self, over: &AtomicBool) {
        while !over.load(Ordering::SeqCst) {
            thread::sleep(GLANCE);
            self.listen();
            self.obey();
            self.yield_up();
            if self.probe.running().is_alone() {
                self.stand_alone();
            }
        }
    }

    fn listen(&mut self) {
        self.quiet = if self.probe.running().was_heard() { Duration::ZERO } else { self.quiet + GLANCE };
        if self.quiet >= self.silence && !self.probe.running().is_alone() {
            self.inbox.end(format!("the controller has said nothing for {} s", self.silence.as_secs()));
            self.probe.running().lose();
        }
    }

    /// A signal to end means that the session ends, and the controller is lost with it. A second one means haste.
    fn obey(&mut self) {
        let running = self.probe.running();
        if !running.told_to_end().swap(false, Ordering::SeqCst) {
            return;
        }
        match self.told_at {
            None => {
                self.told_at = Some(Instant::now());
                self.inbox.end("the agent was told to end".into());
                running.lose();
            }
            Some(at) if at.elapsed() >= REPEATED => running.give_up(),
            Some(_) => {}
        }
    }

    /// Somebody may take the run over from its controller.
    fn yield_up(&self) {
        let running = self.probe.running();
        if !running.is_alone() && self.store.thief(&self.run).is_some() {
            self.inbox.end("the run was taken over".into());
            running.lose();
        }
    }

    fn stand_alone(&mut self) {
        let running = self.probe.running();
        if !self.is_noted {
            self.is_noted = true;
            let left = running.alone_until().map_or(Duration::ZERO, |until| until.duration_since(Instant::now()));
            let left_us = i64::try_from(left.as_micros()).unwrap_or(i64::MAX);
            let until = Timestamp(Timestamp::now().0.saturating_add(left_us));
            // Whoever comes then cannot take over, and waits until it is over.
            let _not_told = self.store.note_alone(self.fence, until);
            session::leave(&self.probe);
        }
        if self.store.is_claimed(&self.run) {
            running.give_up();
        }
    }
}
