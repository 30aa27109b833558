//! The task that owns a session: it moves the bytes of its channels, and keeps the line alive.
//!
//! libssh2 asks for two things. An operation that has sent a part of a packet must be finished before any other may
//! send: it is *stuck*, and goes first. And readiness of the socket means nothing to it: whenever something may have
//! changed, everything is tried.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, Sleep, sleep, timeout},
};

use crate::{
    base::Fault,
    transport::{
        channel::Channel,
        ssh2::{
            lane::Lane,
            wire::{Trouble, Wire},
        },
        unreachable,
    },
};

/// Rounds of moving bytes before other tasks have their turn.
const ROUNDS: usize = 32;

/// Between keepalives: the shortest that libssh2 does, and the longest that a router's memory of a quiet line lasts.
const BEAT_MIN: Duration = Duration::from_secs(2);
const BEAT_MAX: Duration = Duration::from_secs(20);

/// The handle on a session's task. The session ends when it is dropped and its channels are over.
pub(super) struct Pump {
    requests: mpsc::Sender<Request>,
    task: JoinHandle<()>,
}

/// A command line to be started.
pub(super) struct Request {
    pub(super) line: String,
    pub(super) answer: oneshot::Sender<Result<Channel, Fault>>,
}

impl Pump {
    /// Starts the task.
    pub(super) fn start(wire: Wire, silence_timeout: Duration) -> Self {
        let (requests, asked) = mpsc::channel(1);
        let beat = (silence_timeout / 3).clamp(BEAT_MIN, BEAT_MAX);
        let seconds = u32::try_from(beat.as_secs()).expect("at most 20");
        // libssh2 counts whole seconds; one less makes sure that each beat of ours is due.
        wire.session().set_keepalive(true, seconds.saturating_sub(1).max(1));
        let now = Instant::now();
        let line = Line { wire, stuck: None, news: 1, arrivals: 0 };
        let work = Work {
            line,
            asked,
            lanes: Vec::new(),
            next: 0,
            open: true,
            heard: now,
            awaits_answer: false,
            silence_timeout,
            beat,
            alarm: Box::pin(sleep(beat)),
        };
        Pump { requests, task: tokio::spawn(work) }
    }

    /// Starts a command line.
    pub(super) async fn run(&self, line: &str) -> Result<Channel, Fault> {
        let (answer, answered) = oneshot::channel();
        let lost = || unreachable("the line to the target is lost");
        self.requests.send(Request { line: line.to_owned(), answer }).await.map_err(|_| lost())?;
        answered.await.map_err(|_| lost())?
    }

    /// Says goodbye once all channels are over; hangs up where that takes longer than `limit`.
    pub(super) async fn end(self, limit: Duration) {
        drop(self.requests);
        let stop = self.task.abort_handle();
        if timeout(limit, self.task).await.is_err() {
            stop.abort();
        }
    }
}

/// A wire, and the operation that must be finished before any other may send.
pub(super) struct Line {
    wire: Wire,
    stuck: Option<(u64, Step)>,
    /// Counts whatever may have brought something to read: readiness, and each operation, since libssh2 reads for all
    /// channels in most of them.
    news: u64,
    /// How often something has come.
    arrivals: u64,
}

/// What a channel can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Open,
    Exec,
    Write,
    WriteEnd,
    Read,
    ReadWords,
    AwaitEnd,
    Close,
}

impl Line {
    /// Tries a step of the channel `lane`; `None` where it would block, or another one must come first.
    pub(super) fn attempt<T>(
        &mut self,
        lane: u64,
        step: Step,
        operation: impl FnOnce(&ssh2::Session) -> Result<T, ssh2::Error>,
    ) -> Option<Result<T, Trouble>> {
        if self.stuck.is_some_and(|stuck| stuck != (lane, step)) {
            return None;
        }
        let done = self.wire.attempt(|| operation(self.wire.session()));
        self.stuck = (done.is_none() && self.wire.is_outbound()).then_some((lane, step));
        self.news += u64::from(!matches!(step, Step::Read | Step::ReadWords));
        done
    }

    /// How much may have come so far: a channel that was read to its end since then has nothing to be read. `None` while
    /// something must be finished first, and nothing else can be read.
    pub(super) fn news(&self) -> Option<u64> {
        self.stuck.is_none().then_some(self.news)
    }

    /// How often something has come.
    pub(super) fn arrivals(&self) -> u64 {
        self.arrivals
    }

    /// Whether a step of the channel `lane` must be finished first.
    pub(super) fn is_stuck_on(&self, lane: u64) -> bool {
        self.stuck.is_some_and(|(stuck, _)| stuck == lane)
    }

    /// The same for reading and writing, which tell of "would block" in their own way.
    pub(super) fn attempt_io<T>(
        &mut self,
        lane: u64,
        step: Step,
        operation: impl FnOnce() -> std::io::Result<T>,
    ) -> Option<Result<T, Trouble>> {
        self.attempt(lane, step, |session| {
            operation().map_err(|error| match error.kind() {
                std::io::ErrorKind::WouldBlock => ssh2::Error::new(ssh2::ErrorCode::Session(-37), "would block"),
                _ => ssh2::Error::last_session_error(session)
                    .unwrap_or_else(|| ssh2::Error::new(ssh2::ErrorCode::Session(-1), "the channel broke")),
            })
        })
    }
}

struct Work {
    line: Line,
    asked: mpsc::Receiver<Request>,
    lanes: Vec<Lane>,
    /// The number of the next lane.
    next: u64,
    /// Whether more may be asked.
    open: bool,
    heard: Instant,
    /// A keepalive was sent. An answer that is read before tokio has told of it is one as well.
    awaits_answer: bool,
    silence_timeout: Duration,
    beat: Duration,
    alarm: Pin<Box<Sleep>>,
}

impl Future for Work {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let work = &mut *self;
        for _ in 0..ROUNDS {
            if work.line.wire.has_come(context) || work.awaits_answer && work.line.wire.holds_something() {
                work.heard = Instant::now();
                work.awaits_answer = false;
                work.line.news += 1;
                work.line.arrivals += 1;
                if work.lanes.iter().any(Lane::is_new) {
                    work.line.wire.acknowledge();
                }
            }
            let was_stuck = work.line.stuck.is_some();
            if was_stuck {
                work.line.wire.wake_for_room(context);
            }
            match work.round(context) {
                Ok(true) => {}
                // Got stuck right now: nobody would wake us when there is room, so it is tried once more.
                Ok(false) if work.line.stuck.is_some() && !was_stuck => {}
                Ok(false) if !work.open && work.lanes.is_empty() => {
                    let _nobody_listens_any_more = work.line.wire.session().disconnect(None, "done", None);
                    return Poll::Ready(());
                }
                Ok(false) => return Poll::Pending,
                Err(why) => {
                    work.lanes.drain(..).for_each(|lane| lane.lose(&why));
                    return Poll::Ready(());
                }
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Work {
    /// Moves what can be moved without waiting; whether anything was. An error says why the line is lost.
    fn round(&mut self, context: &mut Context<'_>) -> Result<bool, String> {
        let mut moved = self.take_requests(context);
        let mut opening = false;
        for lane in &mut self.lanes {
            // libssh2 opens one channel at a time.
            if lane.is_opening() && std::mem::replace(&mut opening, true) {
                continue;
            }
            moved |= lane.advance(&mut self.line, context).map_err(|trouble| trouble.to_string())?;
        }
        self.lanes.retain(|lane| !lane.is_over());
        moved |= self.keep_alive(context)?;
        if !moved && self.line.stuck.is_none() {
            let line = &self.line;
            moved = self.lanes.iter_mut().fold(false, |behind, lane| lane.is_behind(line) | behind);
        }
        Ok(moved)
    }

    fn take_requests(&mut self, context: &mut Context<'_>) -> bool {
        if !self.open {
            return false;
        }
        match self.asked.poll_recv(context) {
            Poll::Ready(Some(request)) => {
                self.lanes.push(Lane::new(self.next, request));
                self.next += 1;
                true
            }
            Poll::Ready(None) => {
                self.open = false;
                true
            }
            Poll::Pending => false,
        }
    }

    /// At each beat, says that we are here, and looks whether the other side still is.
    fn keep_alive(&mut self, context: &mut Context<'_>) -> Result<bool, String> {
        if self.alarm.as_mut().poll(context).is_pending() {
            return Ok(false);
        }
        // What we do not read because our own side does not take it is no silence of the other side.
        if self.lanes.iter().any(Lane::holds_back) {
            self.heard = Instant::now();
        }
        if self.heard.elapsed() > self.silence_timeout {
            return Err(format!("nothing was heard for {} s, keepalives included", self.heard.elapsed().as_secs()));
        }
        if self.line.stuck.is_none() && self.line.wire.has_room() {
            match self.line.wire.attempt(|| self.line.wire.session().keepalive_send()) {
                Some(Err(trouble)) => return Err(trouble.to_string()),
                Some(Ok(_)) => self.awaits_answer = true,
                // In the middle of a key exchange libssh2 reads as well.
                None => self.line.news += 1,
            }
        }
        self.alarm.as_mut().reset(Instant::now() + self.beat);
        // To be woken at the next beat. Nothing is read right now: what comes is to be noticed first.
        let _not_yet = self.alarm.as_mut().poll(context);
        Ok(false)
    }
}
