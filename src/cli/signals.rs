//! Ctrl-C and SIGTERM while a run is at work.

use std::path::PathBuf;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{oneshot, watch},
};

use crate::{
    base::{Fault, FaultKind},
    cli::{Exit, ask},
    engine::gate::{self, Stop, Verdict},
    model::ids::RunId,
    report,
};

/// What the first signal brings about. The second one leaves the hosts to themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    /// Each host finishes what it is at; then the operator is asked what becomes of what was done. Without a terminal,
    /// and after SIGTERM, it is undone.
    Ask,
    /// Each host finishes what it is at, then it goes back.
    Undo,
    /// The hosts go on: what they do is the way back.
    GoOn,
}

/// What is listened for.
pub(crate) struct Signals {
    pub(crate) run: RunId,
    /// As it was given, for the command that recovers.
    pub(crate) inventory: PathBuf,
    pub(crate) first: First,
}

/// The signals that are heard.
struct Ears {
    interrupt: Signal,
    terminate: Signal,
}

impl Ears {
    /// Whether the next one was Ctrl-C.
    async fn hear(&mut self) -> bool {
        tokio::select! {
            _ = self.interrupt.recv() => true,
            _ = self.terminate.recv() => false,
        }
    }
}

impl Signals {
    /// Listens until the run has ended.
    pub(crate) async fn watch(self, halt: watch::Sender<Option<Stop>>) {
        let (Ok(interrupt), Ok(terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
            return;
        };
        let mut ears = Ears { interrupt, terminate };
        let asks = ears.hear().await && self.first == First::Ask && ask::is_interactive();
        match self.first {
            First::GoOn => {
                report::say("the hosts go on with what they put back. Once more to leave them to themselves");
            }
            _ if asks => self.ask(&mut ears, &halt).await,
            _ => {
                report::say(
                    "stopping: each host finishes what it is at, then what was done is undone. Once more to leave",
                );
                tell(&halt, Some(Verdict::Undo));
            }
        }
        ears.hear().await;
        self.leave();
    }

    async fn ask(&self, ears: &mut Ears, halt: &watch::Sender<Option<Stop>>) {
        report::say("stopping: each host finishes what it is at, and waits. Once more to leave them to themselves");
        tell(halt, None);
        let (answer, answered) = oneshot::channel();
        // A thread of its own: nothing waits for its end where no answer comes.
        std::thread::spawn(move || answer.send(ask::undo_or_keep()));
        let verdict = tokio::select! {
            answered = answered => answered.unwrap_or(Verdict::Undo),
            interrupted = ears.hear() => match interrupted {
                true => return self.leave(),
                false => Verdict::Undo,
            },
        };
        tell(halt, Some(verdict));
    }

    /// Ends the program at once.
    fn leave(&self) {
        let Signals { run, inventory, first: _ } = self;
        let inventory = inventory.display();
        report::say(&format!(
            "\nleft: a host that loses its controller undoes by itself what the run did there. To see how that went, or \
             to have it done: rollbook recover {run} -i {inventory}"
        ));
        std::process::exit(i32::from(Exit::Partly.code()));
    }
}

/// Tells all hosts, unless it was said already what becomes of what was done.
fn tell(halt: &watch::Sender<Option<Stop>>, verdict: Option<Verdict>) {
    let reason = Fault::new(FaultKind::Failed, "stopped by the operator");
    halt.send_if_modified(|stop| {
        let is_open = gate::verdict(stop).is_none();
        if is_open {
            *stop = Some(Stop { reason, verdict });
        }
        is_open
    });
}
