//! Stamps events and delivers them to the sinks, in one order, from a thread of its own.
//!
//! What cannot be recorded does not happen: when a sink refuses, the run is halted and undone.

use std::{thread::JoinHandle, time::Duration};

use tokio::{
    runtime::Builder,
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout_at},
};

use crate::{
    base::{Fault, Timestamp},
    engine::gate::{self, Stop},
    model::{
        event::{Event, Sink, Stamped},
        ids::RunId,
    },
    wire::message::Witness,
};

/// Events that may wait to be recorded before hosts are held up.
const QUEUE_LENGTH: usize = 1024;

/// How long events wait for others to be recorded with.
const GATHERING: Duration = Duration::from_millis(10);

/// A sink that keeps the record's chain.
pub trait Ledger: Sink {
    /// The chain's head.
    fn head(&self) -> Result<Witness, Fault>;
}

/// Where a run's events go: first the record (none for a plan), then everyone who only looks.
pub struct Book {
    /// The record.
    pub ledger: Option<Box<dyn Ledger>>,
    /// Those who only look: their failing is not the run's.
    pub watchers: Vec<Box<dyn Sink>>,
}

/// The sending end: cheap to clone, one per host.
#[derive(Clone, Debug)]
pub struct Events {
    queue: mpsc::Sender<Entry>,
}

#[derive(Debug)]
enum Entry {
    Events(Vec<Event>),
    Head(Asked),
}

/// Why a run is to stop, once it is.
pub type Halt = watch::Sender<Option<Stop>>;

impl Book {
    /// Opens the book for a run. The thread ends, giving the book back, when all ends of `Events` are dropped.
    pub fn open(self, run: RunId, halt: Halt) -> (Events, JoinHandle<Book>) {
        let (queue, entries) = mpsc::channel(QUEUE_LENGTH);
        let writer = std::thread::spawn(move || self.keep(&run, entries, &halt));
        (Events { queue }, writer)
    }

    fn keep(mut self, run: &RunId, mut entries: mpsc::Receiver<Entry>, halt: &Halt) -> Book {
        let runtime = Builder::new_current_thread().enable_time().build().expect("a clock is all it needs");
        while let Some((events, asked)) = runtime.block_on(gather(run, &mut entries)) {
            self.take(&events, halt);
            if asked.is_empty() {
                continue;
            }
            let head = self.ledger.as_ref().and_then(|ledger| ledger.head().ok());
            for answer in asked {
                let _nobody_waits_any_more = answer.send(head.clone());
            }
        }
        self
    }

    fn take(&mut self, events: &[Stamped], halt: &Halt) {
        if let Some(ledger) = &mut self.ledger
            && let Err(fault) = ledger.take_all(events)
        {
            self.ledger = None;
            halt.send_if_modified(|halted| {
                let first = gate::verdict(halted).is_none();
                if first {
                    *halted = Some(Stop::and_undo(fault));
                }
                first
            });
        }
        self.watchers.retain_mut(|watcher| watcher.take_all(events).is_ok());
    }
}

/// Who waits for the record's head.
type Asked = oneshot::Sender<Option<Witness>>;

/// The next events, those that come right after them included, so that they share one wait for the disk; once someone
/// waits for that, only what has come already. None when nobody can tell any more.
async fn gather(run: &RunId, entries: &mut mpsc::Receiver<Entry>) -> Option<(Vec<Stamped>, Vec<Asked>)> {
    let (mut events, mut asked) = (Vec::new(), Vec::new());
    let mut entry = entries.recv().await?;
    let until = Instant::now() + GATHERING;
    loop {
        match entry {
            Entry::Events(told) => {
                let at = Timestamp::now();
                events.extend(told.into_iter().map(|event| Stamped { at, run: run.clone(), event }));
            }
            Entry::Head(answer) => asked.push(answer),
        }
        if events.len() >= QUEUE_LENGTH {
            return Some((events, asked));
        }
        let next = match asked.is_empty() {
            true => timeout_at(until, entries.recv()).await.ok().flatten(),
            false => entries.try_recv().ok(),
        };
        match next {
            Some(next) => entry = next,
            None => return Some((events, asked)),
        }
    }
}

impl Events {
    /// Tells everyone. Waits while the record is behind.
    pub async fn tell(&self, event: Event) {
        self.tell_all(vec![event]).await;
    }

    /// The same for several, which come one after the other: the book's thread is woken once for all of them.
    pub async fn tell_all(&self, events: Vec<Event>) {
        self.queue.send(Entry::Events(events)).await.expect("the book stays open while anyone can tell");
    }

    /// Waits until everything that was told before is recorded; the record's head then, if there is a record.
    pub async fn head(&self) -> Option<Witness> {
        let (answer, head) = oneshot::channel();
        self.queue.send(Entry::Head(answer)).await.expect("the book stays open while anyone can ask");
        head.await.expect("the book answers all that it takes")
    }
}
