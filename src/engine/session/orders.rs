//! Carries out what the state machine of a host orders.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::Session;
use crate::{
    base::{Fault, point::fault},
    engine::{
        confirm,
        delegates::{Ask, Errand},
        ending::HostEnd,
        gate::{self, halted},
        host_run::Order,
    },
    model::{
        event::{Event, Mode},
        ids::TaskNo,
        inventory::Host,
        state::Content,
    },
    wire::{
        Piece, ToAgent,
        message::{BlobChunk, Witness},
    },
};

/// Bytes that may wait to be written before more is made.
const BACKLOG_BYTES: usize = 256 * 1024;

/// How many pieces go as they are after one that did not shrink: its content is likely to be packed or encrypted already.
const PLAIN_AFTER: u32 = 15;

/// A content that is being sent.
#[derive(Debug)]
pub(super) struct Streaming {
    content: Content,
    /// Where the next piece begins.
    offset: u64,
    /// So many pieces more go as they are.
    plain: u32,
}

impl Streaming {
    fn of(content: Content) -> Streaming {
        Streaming { content, offset: 0, plain: 0 }
    }

    fn may_pack(&self) -> bool {
        self.plain == 0
    }

    fn goes_on(&mut self, offset: u64, last: &Piece) {
        let shrank = last.travels() < last.stands_for();
        self.plain = if self.may_pack() && !shrank { PLAIN_AFTER } else { self.plain.saturating_sub(1) };
        self.offset = offset;
    }
}

impl Session {
    /// Carries out orders until there are none, or enough waits to be written.
    pub(super) async fn carry_out(&mut self) -> Result<(), Fault> {
        while self.line.as_ref().is_none_or(|line| line.backlog() < BACKLOG_BYTES) {
            if self.streaming.is_some() {
                self.stream()?;
                continue;
            }
            match self.orders.pop_front() {
                None => break,
                Some(Order::Event(event)) => self.tell(event).await,
                Some(Order::Tell(message)) => self.push(&message),
                Some(Order::Enter(step)) => {
                    // Whoever is to go first must get a turn.
                    self.gate.turn = None;
                    let (job, host) = (Arc::clone(&self.job), self.run.host().clone());
                    self.entering = Some(Box::pin(async move { job.turnstiles.enter(step, &host).await }));
                }
                Some(Order::Leave(step, result)) => {
                    self.permit = None;
                    self.job.turnstiles.leave(step, self.run.host(), result);
                }
                Some(Order::Delegate { no, to, label, task }) => {
                    let (answer, done) = oneshot::channel();
                    let errand = Errand { owner: self.run.host().clone(), label, task, answer };
                    self.gate.delegates.ask(&to, Ask::Do(errand), &self.job, &self.events);
                    self.delegating = Some(Box::pin(async move { (no, to.name.clone(), done.await.ok()) }));
                }
                Some(Order::Return(hosts)) => self.have_returned(hosts),
                Some(Order::Wait) => {
                    self.gate.turn = None;
                    let _nobody_asks_any_more = self.gate.reached.send(self.run.host().clone());
                }
                Some(Order::Close) => {
                    let events = self.events.clone();
                    let witness = self.meanwhile(events.head()).await;
                    fault!("run.closes");
                    self.close(witness);
                }
                Some(Order::Confirm(no)) => self.confirm(no),
                Some(Order::Ahead(content)) => {
                    if self.job.shelf.is_light(&content) && self.sent.insert(content) {
                        self.streaming = Some(Streaming::of(content));
                    }
                }
                Some(Order::Content(content)) => self.streaming = Some(Streaming::of(content)),
                Some(Order::Raw { no, line, timeout_s }) => self.raw(no, &line, timeout_s).await,
            }
        }
        Ok(())
    }

    /// What was done becomes final. What could not be recorded does not.
    fn close(&mut self, witness: Option<Witness>) {
        if self.job.mode == Mode::Apply && witness.is_none() {
            let orders = self.run.interrupt(&gate::unrecorded(&self.halt));
            return self.orders.extend(orders);
        }
        self.push(&ToAgent::Close { witness: witness.filter(|_| self.job.mode == Mode::Apply) });
        if self.run.has_changed() {
            self.confirm(None);
        }
    }

    /// Has other hosts undo what they did for this one, one after the other.
    fn have_returned(&mut self, hosts: Vec<Arc<Host>>) {
        let (job, events, delegates) = (Arc::clone(&self.job), self.events.clone(), Arc::clone(&self.gate.delegates));
        let owner = self.run.host().clone();
        self.returning = Some(Box::pin(async move {
            let mut all = Vec::new();
            for host in hosts {
                let (answer, left) = oneshot::channel();
                delegates.ask(&host, Ask::Back { owner: owner.clone(), answer }, &job, &events);
                all.push((host.name.clone(), left.await.ok()));
            }
            all
        }));
    }

    /// Begins to confirm the run, or a task of it, where its agent waits for that.
    fn confirm(&mut self, no: Option<TaskNo>) {
        if let Some(token) = self.tokens.remove(&no) {
            let (job, (host, scope)) = (Arc::clone(&self.job), self.run.whereabouts());
            self.confirming = Some(confirm::confirm(job, host, scope, no.map(|no| no.step), token));
        }
    }

    pub(super) fn push(&mut self, message: &ToAgent) {
        if let Some(line) = &mut self.line {
            line.push(message);
        }
    }

    /// Tells an event, and those that are to be told right after it.
    async fn tell(&mut self, event: Event) {
        let behind = self.orders.iter().take_while(|order| matches!(order, Order::Event(_))).count();
        let behind = self.orders.drain(..behind).filter_map(|order| match order {
            Order::Event(event) => Some(event),
            _ => None,
        });
        let events: Vec<Event> = std::iter::once(event).chain(behind).collect();
        for event in &events {
            if let Event::HostEnded { outcome, counts, fault, .. } = event {
                self.end = Some(HostEnd { outcome: *outcome, counts: *counts, fault: fault.clone() });
            }
        }
        let book = self.events.clone();
        self.meanwhile(book.tell_all(events)).await;
    }

    /// Waits for something else. The agent hears meanwhile that its controller is there.
    pub(super) async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        match &mut self.line {
            Some(line) => line.meanwhile(&mut self.pings, work).await,
            None => work.await,
        }
    }

    /// Sends the next piece of the content that is being streamed.
    fn stream(&mut self) -> Result<(), Fault> {
        let mut streaming = self.streaming.take().expect("only called while streaming");
        let Streaming { content, offset, .. } = streaming;
        let piece = self.job.shelf.piece(&content, offset, streaming.may_pack());
        let piece = piece.map_err(|error| Fault::internal("a local file cannot be read any more").because(&error))?;
        let end = offset + piece.stands_for();
        if end < content.bytes && piece.stands_for() == 0 {
            return Err(Fault::input("a local file was cut short while it was sent"));
        }
        if end < content.bytes {
            streaming.goes_on(end, &piece);
            self.streaming = Some(streaming);
        }
        self.push(&ToAgent::Blob(BlobChunk { content, offset, piece }));
        Ok(())
    }

    async fn raw(&mut self, no: TaskNo, line: &str, timeout_s: u64) {
        let started = Instant::now();
        let limit = Duration::from_secs(timeout_s);
        let raw = async {
            tokio::select! {
                result = self.connection.raw(line, limit) => result,
                reason = halted(&mut self.halt) => {
                    let orders = self.run.hold();
                    self.orders.extend(orders);
                    Err(reason)
                }
            }
        };
        let result = match &mut self.line {
            Some(agent) => agent.meanwhile(&mut self.pings, raw).await,
            None => raw.await,
        };
        let took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let orders = self.run.raw_ended(no, line, result, took_us);
        self.orders.extend(orders);
    }
}
