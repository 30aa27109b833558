//! The framed line to an agent: bytes in, messages out, and back.

use std::{pin::pin, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Interval, MissedTickBehavior, timeout},
};

use crate::{
    base::{Fault, FaultKind},
    transport::AgentPipe,
    wire::{
        FrameReader, FrameWriter, FromAgent, ToAgent,
        message::{Hello, WIRE_VERSION},
    },
};

/// How long an agent may take to end after its run is closed.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(5);

/// An agent that has answered no ping for so long hangs. Contents on a slow line go before a ping; the transport has given up
/// by then where nothing moves at all.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

const READ_BYTES: usize = 64 * 1024;

/// A line to an agent.
pub(super) struct Line {
    pipe: AgentPipe,
    reader: FrameReader<FromAgent>,
    writer: FrameWriter<ToAgent>,
    out: Outgoing,
    buffer: Vec<u8>,
    /// Pings since something was heard.
    unanswered: u32,
}

/// What is to be written.
#[derive(Default)]
struct Outgoing {
    bytes: Vec<u8>,
    /// So many of the first bytes are written.
    written: usize,
}

impl Outgoing {
    fn waiting(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// Where more is put. While a long content is sent this need never be empty: what is written goes before that, or
    /// all of the content would stay.
    fn room(&mut self) -> &mut Vec<u8> {
        if self.written * 2 >= self.bytes.len() {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
        &mut self.bytes
    }
}

impl Line {
    /// A line over a pipe that stands just past the agent's magic.
    pub(super) fn new(pipe: AgentPipe) -> Self {
        Line {
            pipe,
            reader: FrameReader::default(),
            writer: FrameWriter::default(),
            out: Outgoing::default(),
            buffer: vec![0; READ_BYTES],
            unanswered: 0,
        }
    }

    /// The agent's hello, which comes first.
    pub(super) async fn hello(&mut self, limit: Duration) -> Result<Box<Hello>, Fault> {
        let first = timeout(limit, async {
            loop {
                if let Some(message) = self.next_message()? {
                    return Ok(message);
                }
                self.read().await?;
            }
        });
        match first.await.map_err(|_| lost("the agent said no hello in time"))?? {
            FromAgent::Hello(hello) if hello.wire != WIRE_VERSION => Err(lost(&format!(
                "the agent speaks version {} of the protocol, and this is version {WIRE_VERSION}",
                hello.wire
            ))),
            FromAgent::Hello(hello) if hello.digest != self.pipe.digest => Err(lost(&format!(
                "the agent on the target is {}, and {} was asked for",
                hello.digest.short(),
                self.pipe.digest.short()
            ))),
            FromAgent::Hello(hello) => Ok(hello),
            _ => Err(lost("the agent did not begin with hello")),
        }
    }

    /// Puts a message into the queue of what is to be written.
    pub(super) fn push(&mut self, message: &ToAgent) {
        self.writer.push(message, self.out.room());
    }

    /// Bytes that are still to be written.
    pub(super) fn backlog(&self) -> usize {
        self.out.waiting().len()
    }

    /// Reads or writes, whichever can be done first. Safe to be dropped in the middle.
    pub(super) async fn step(&mut self) -> Result<(), Fault> {
        if self.backlog() == 0 {
            return self.read().await;
        }
        tokio::select! {
            read = self.pipe.reader.read(&mut self.buffer) => {
                let count = read.map_err(|error| lost("the line to the agent broke").because(&error))?;
                self.take(count)
            }
            written = self.pipe.writer.write(self.out.waiting()) => {
                self.out.written += written.map_err(|error| lost("the line to the agent broke").because(&error))?;
                Ok(())
            }
        }
    }

    async fn read(&mut self) -> Result<(), Fault> {
        let read = self.pipe.reader.read(&mut self.buffer).await;
        let count = read.map_err(|error| lost("the line to the agent broke").because(&error))?;
        self.take(count)
    }

    fn take(&mut self, count: usize) -> Result<(), Fault> {
        if count == 0 {
            return Err(lost("the agent ended, or the line to it was cut"));
        }
        self.unanswered = 0;
        self.reader.feed(&self.buffer[..count]);
        Ok(())
    }

    /// Says that the controller is there, and finds out whether the agent is. To be called while the line is read.
    pub(super) fn ping(&mut self, pings: &Interval) -> Result<(), Fault> {
        if pings.period() * self.unanswered >= ANSWER_TIMEOUT {
            let silence_s = ANSWER_TIMEOUT.as_secs();
            return Err(lost(&format!("the agent has said nothing for {silence_s} s: it hangs")));
        }
        self.unanswered += 1;
        self.push(&ToAgent::Ping);
        Ok(())
    }

    /// Waits for something else. The agent hears meanwhile, at each tick, that its controller is there.
    pub(super) async fn meanwhile<T>(&mut self, pings: &mut Interval, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut is_whole = true;
        loop {
            let has_word = is_whole && self.backlog() > 0;
            tokio::select! {
                biased;
                done = &mut work => return done,
                _ = pings.tick() => self.push(&ToAgent::Ping),
                // Where it is broken, whoever uses it next finds that too.
                stepped = self.step(), if has_word => is_whole = stepped.is_ok(),
            }
        }
    }

    /// The next message among what was read.
    pub(super) fn next_message(&mut self) -> Result<Option<FromAgent>, Fault> {
        self.reader.next_message().map_err(|fault| lost("what came over the line is not an agent's").because(&fault))
    }

    /// Ends the agent, which has nothing left to do.
    pub(super) async fn goodbye(self) {
        let Line { pipe: AgentPipe { mut reader, writer, .. }, mut buffer, .. } = self;
        // Only a dropped pipe ends for its reader.
        drop(writer);
        let _the_run_is_over_either_way =
            timeout(GOODBYE_TIMEOUT, async { while matches!(reader.read(&mut buffer).await, Ok(1..)) {} }).await;
    }
}

/// When to say that the controller is still there, where one is lost that says nothing for so long.
pub(super) fn pings(silence_ms: u32) -> Interval {
    let mut pings = tokio::time::interval(Duration::from_millis((silence_ms / 3).into()));
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings
}

fn lost(message: &str) -> Fault {
    Fault::new(FaultKind::Unreachable, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_does_not_stay() {
        let mut out = Outgoing::default();
        for _ in 0..1000 {
            out.room().extend([7; 1000]);
            // A little always waits.
            out.written = out.bytes.len() - 500;
            assert!(out.waiting().len() == 500 && out.bytes.len() < 4000, "{}", out.bytes.len());
        }
    }
}
