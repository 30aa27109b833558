//! Stamps events and delivers them to the sinks, in one order, from a thread of its own.
//!
//! What cannot be recorded does not happen: when a sink refuses, the run is halted and undone.

use std::{sync::Arc, thread::JoinHandle, time::Duration};

use tokio::{
    runtime::Builder,
    sync::{Notify, mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    base::{Fault, Timestamp, point::fault},
    engine::gate::{self, Stop},
    model::{
        event::{Event, Sink, Stamped},
        ids::RunId,
    },
    wire::message::Witness,
};

/// Events that may wait to be recorded before hosts are held up.
const QUEUE_LENGTH: usize = 1024;

/// How long events wait for others to be recorded with, where nobody waits for them.
const GATHERING: Duration = Duration::from_millis(50);

/// Who waits for the disk right after someone else did waits for those who come then, so that one wait serves several: so
/// long for each who can tell anything, within bounds. The more there are, the more come, and the less is one held up by it.
const PACE: Duration = Duration::from_micros(400);
const PACE_MIN: Duration = Duration::from_millis(3);
const PACE_MAX: Duration = Duration::from_millis(20);

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
    /// Someone waits.
    urgent: Arc<Notify>,
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
        let urgent = Arc::new(Notify::new());
        let inbox = Inbox { run, entries, urgent: Arc::clone(&urgent), last: None };
        let writer = std::thread::spawn(move || self.keep(inbox, &halt));
        (Events { queue, urgent }, writer)
    }

    fn keep(mut self, mut inbox: Inbox, halt: &Halt) -> Book {
        let runtime = Builder::new_current_thread().enable_time().build().expect("a clock is all it needs");
        while let Some(Batch { events, asked }) = runtime.block_on(inbox.gather()) {
            self.take(&events, halt);
            inbox.last = Some(Instant::now());
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
        fault!("record.append");
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
        fault!("record.kept");
        self.watchers.retain_mut(|watcher| watcher.take_all(events).is_ok());
    }
}

/// Who waits for the record's head.
type Asked = oneshot::Sender<Option<Witness>>;

/// What is recorded together.
#[derive(Default)]
struct Batch {
    events: Vec<Stamped>,
    asked: Vec<Asked>,
}

/// What has been told, and is not recorded.
struct Inbox {
    run: RunId,
    entries: mpsc::Receiver<Entry>,
    urgent: Arc<Notify>,
    /// When the last batch was recorded.
    last: Option<Instant>,
}

impl Inbox {
    /// The next events, those that come right after them included, so that they share one wait for the disk; once someone
    /// waits for that, only what has come already. None when nobody can tell any more.
    ///
    /// In between it sleeps, and only who waits wakes it: each wake costs more than what is told.
    async fn gather(&mut self) -> Option<Batch> {
        let mut batch = Batch::default();
        let first = self.entries.recv().await?;
        self.put(first, &mut batch);
        let until = Instant::now() + GATHERING;
        let mut is_late = false;
        loop {
            self.drain(&mut batch);
            if !batch.asked.is_empty() {
                if let Some(last) = self.last {
                    sleep_until(last + self.pace()).await;
                    self.drain(&mut batch);
                }
                return Some(batch);
            }
            if is_late || batch.events.len() >= QUEUE_LENGTH || self.entries.is_closed() {
                return Some(batch);
            }
            is_late = timeout_at(until, self.urgent.notified()).await.is_err();
        }
    }

    fn pace(&self) -> Duration {
        let tellers = u32::try_from(self.entries.sender_strong_count()).unwrap_or(u32::MAX);
        PACE.saturating_mul(tellers).clamp(PACE_MIN, PACE_MAX)
    }

    fn drain(&mut self, batch: &mut Batch) {
        while batch.events.len() < QUEUE_LENGTH
            && let Ok(entry) = self.entries.try_recv()
        {
            self.put(entry, batch);
        }
    }

    fn put(&self, entry: Entry, batch: &mut Batch) {
        match entry {
            Entry::Events(told) => {
                let at = Timestamp::now();
                batch.events.extend(told.into_iter().map(|event| Stamped { at, run: self.run.clone(), event }));
            }
            Entry::Head(answer) => batch.asked.push(answer),
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
        // After it, so that whoever is woken finds it.
        self.urgent.notify_one();
        head.await.expect("the book answers all that it takes")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::base::Digest;

    /// How many events each batch had.
    #[derive(Clone, Default)]
    struct Counted(Arc<Mutex<Vec<usize>>>);

    impl Sink for Counted {
        fn take(&mut self, _event: &Stamped) -> Result<(), Fault> {
            unreachable!("batches are taken whole")
        }

        fn take_all(&mut self, events: &[Stamped]) -> Result<(), Fault> {
            self.0.lock().unwrap().push(events.len());
            Ok(())
        }
    }

    impl Ledger for Counted {
        fn head(&self) -> Result<Witness, Fault> {
            let seq = self.0.lock().unwrap().iter().sum::<usize>() as u64;
            Ok(Witness { store: "a".to_owned(), seq, hash: Digest::of(b"") })
        }
    }

    fn note() -> Event {
        Event::Note { host: None, message: "here".to_owned() }
    }

    /// Nobody who waits is forgotten, and each finds on record what it has told.
    #[tokio::test(flavor = "multi_thread")]
    async fn who_waits_is_answered_when_all_is_recorded() {
        const TOLD: usize = 300;
        let counted = Counted::default();
        let book = Book { ledger: Some(Box::new(counted.clone())), watchers: Vec::new() };
        let (events, writer) = book.open(RunId::from_parts("20261123-051034", 1), watch::channel(None).0);
        let mut hosts = tokio::task::JoinSet::new();
        for host in 0..20 {
            let events = events.clone();
            hosts.spawn(async move {
                for told in 1..=TOLD {
                    events.tell(note()).await;
                    if told % (7 + host) == 0 {
                        let head = events.head().await.unwrap();
                        assert!(head.seq as usize >= told, "{} of {told}", head.seq);
                    }
                }
            });
        }
        tokio::time::timeout(Duration::from_secs(60), hosts.join_all()).await.expect("all are answered");
        let recorded = events.head().await.unwrap().seq as usize;
        assert_eq!(recorded, 20 * TOLD);
        drop(events);
        writer.join().unwrap();
        assert!(counted.0.lock().unwrap().iter().all(|events| *events < QUEUE_LENGTH + 1));
    }
}
