//! What the controller says, heard by a thread of its own.

use std::{
    collections::VecDeque,
    io::Read,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::{
    agent::voice::Pulse,
    target::process::Running,
    wire::{
        FrameReader, ToAgent,
        message::{BlobChunk, PING_MS},
    },
};

/// Bytes of contents that may wait to be taken in. Beyond that the pipe is left to fill, and the controller waits.
const WAITING_BYTES_MAX: usize = 1024 * 1024;

/// How often the agent says that it is alive while it reads nothing.
const PULSE: Duration = Duration::from_secs(1);

/// How often someone who waits looks whether it is still worth it.
const GLANCE: Duration = Duration::from_millis(50);

/// Nothing is begun that comes after a silence of so long: a controller that is there speaks every [`PING_MS`], and one whose
/// line was dead takes this host for lost by then. What it sent may still be on its way.
const SILENCE: Duration = Duration::from_millis(3 * PING_MS as u64);

/// The messages that have come and were not taken yet.
#[derive(Clone, Default)]
pub(super) struct Inbox(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    came: Condvar,
    taken: Condvar,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<ToAgent>,
    content_bytes: usize,
    /// Why nothing more will come.
    ended: Option<String>,
}

impl Inbox {
    /// Listens to `pipe` until its end. A cancellation and the pipe's end reach `running` at once; who asks whether the agent
    /// is alive is answered by `pulse`.
    pub(super) fn listen(pipe: impl Read + Send + 'static, running: Running, pulse: Pulse) -> Inbox {
        Inbox::listen_for(SILENCE, pipe, running, pulse)
    }

    fn listen_for(silence: Duration, pipe: impl Read + Send + 'static, running: Running, pulse: Pulse) -> Inbox {
        let inbox = Inbox::default();
        let own = inbox.clone();
        thread::spawn(move || {
            let why = own.hear(pipe, silence, &running, &pulse);
            running.lose();
            own.end(why);
        });
        inbox
    }

    /// Nothing more will come; says why. What has come can still be taken.
    pub(super) fn end(&self, why: String) {
        self.queue().ended.get_or_insert(why);
        self.0.came.notify_all();
    }

    /// Whether nothing waits to be taken.
    pub(super) fn is_empty(&self) -> bool {
        self.queue().messages.is_empty()
    }

    /// The next message, if it has come and is a task or a piece of a content.
    pub(super) fn take_work(&self) -> Option<ToAgent> {
        let mut queue = self.queue();
        queue.messages.front().filter(|message| matches!(message, ToAgent::Task(_) | ToAgent::Blob(_)))?;
        let message = queue.messages.pop_front()?;
        self.forget(&mut queue, &message);
        Some(message)
    }

    /// The next message; the error says why there is none any more.
    pub(super) fn next(&self) -> Result<ToAgent, String> {
        let mut queue = self.queue();
        loop {
            if let Some(message) = queue.messages.pop_front() {
                self.forget(&mut queue, &message);
                return Ok(message);
            }
            if let Some(why) = &queue.ended {
                return Err(why.clone());
            }
            queue = self.0.came.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The next piece of a content, whatever waits before it. None when nothing has come for a glance.
    pub(super) fn next_piece(&self) -> Option<BlobChunk> {
        let mut queue = self.queue();
        if !queue.messages.iter().any(is_piece) {
            queue = self.0.came.wait_timeout(queue, GLANCE).unwrap_or_else(PoisonError::into_inner).0;
        }
        let at = queue.messages.iter().position(is_piece)?;
        let message = queue.messages.remove(at)?;
        self.forget(&mut queue, &message);
        match message {
            ToAgent::Blob(piece) => Some(piece),
            _ => None,
        }
    }

    /// Waits, unless the run is stopped or late before.
    pub(super) fn pause(&self, time: Duration, running: &Running) {
        let until = Instant::now() + time;
        while !running.is_stopped() && !running.is_late() {
            match until.checked_duration_since(Instant::now()) {
                Some(rest) if !rest.is_zero() => thread::sleep(rest.min(GLANCE)),
                _ => return,
            }
        }
    }

    fn hear(&self, mut pipe: impl Read, silence: Duration, running: &Running, pulse: &Pulse) -> String {
        let mut frames = FrameReader::default();
        let mut buffer = vec![0; 64 * 1024];
        let mut last = Instant::now();
        loop {
            let is_late;
            match pipe.read(&mut buffer) {
                Ok(0) => return "the controller has hung up".into(),
                Ok(n) => {
                    running.hear();
                    is_late = last.elapsed() >= silence;
                    last = Instant::now();
                    frames.feed(&buffer[..n]);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return format!("the line to the controller broke: {error}"),
            }
            loop {
                match frames.next_message() {
                    Ok(Some(message)) if is_late && begins(&message) => {
                        return "the controller was silent for so long that it takes this host for lost".into();
                    }
                    Ok(Some(message)) => self.take_in(message, running, pulse),
                    Ok(None) => break,
                    Err(fault) => return format!("the line to the controller is garbled: {fault}"),
                }
            }
        }
    }

    fn take_in(&self, message: ToAgent, running: &Running, pulse: &Pulse) {
        match &message {
            ToAgent::Open(_) | ToAgent::Undo(_) => running.resume(),
            ToAgent::Cancel => running.cancel(),
            ToAgent::Stop => running.stop(),
            ToAgent::Ping => return pulse(),
            _ => {}
        }
        let mut queue = self.queue();
        let mut since = Instant::now();
        while queue.content_bytes > WAITING_BYTES_MAX {
            // It is the agent that lets the controller wait.
            running.hear();
            if since.elapsed() >= PULSE {
                since = Instant::now();
                pulse();
            }
            queue = self.0.taken.wait_timeout(queue, GLANCE).unwrap_or_else(PoisonError::into_inner).0;
        }
        if queue.ended.is_some() {
            return;
        }
        queue.content_bytes += content_bytes(&message);
        queue.messages.push_back(message);
        self.0.came.notify_all();
    }

    fn forget(&self, queue: &mut Queue, message: &ToAgent) {
        queue.content_bytes -= content_bytes(message);
        self.0.taken.notify_all();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether something begins with a message.
fn begins(message: &ToAgent) -> bool {
    matches!(message, ToAgent::Open(_) | ToAgent::Undo(_) | ToAgent::Recover { .. } | ToAgent::Steal { .. })
}

fn is_piece(message: &ToAgent) -> bool {
    matches!(message, ToAgent::Blob(_))
}

fn content_bytes(message: &ToAgent) -> usize {
    match message {
        ToAgent::Blob(chunk) => chunk.piece.bytes().len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeWriter, Write};

    use super::*;
    use crate::{
        model::ids::RunId,
        wire::{FrameWriter, message::Settle},
    };

    const SHORT: Duration = Duration::from_secs(1);

    /// A listener that takes a silence of [`SHORT`] for too long, and what it is told with.
    fn listener() -> (Inbox, impl FnMut(&ToAgent)) {
        let (heard, mut told): (_, PipeWriter) = std::io::pipe().unwrap();
        let inbox = Inbox::listen_for(SHORT, heard, Running::default(), Box::new(|| {}));
        let mut frames = FrameWriter::default();
        let tell = move |message: &ToAgent| {
            let mut bytes = Vec::new();
            frames.push(message, &mut bytes);
            told.write_all(&bytes).unwrap();
        };
        (inbox, tell)
    }

    fn recover() -> ToAgent {
        ToAgent::Recover { run: Some(RunId::from_parts("20261128-050000", 1)), how: Settle::Back }
    }

    #[test]
    fn nothing_begins_after_a_long_silence() {
        let (inbox, mut tell) = listener();
        tell(&ToAgent::Keep);
        assert_eq!(inbox.next(), Ok(ToAgent::Keep), "it listens");
        thread::sleep(SHORT + SHORT / 2);
        tell(&recover());
        assert!(inbox.next().is_err_and(|why| why.contains("silent")));
    }

    #[test]
    fn a_controller_that_speaks_may_take_its_time() {
        let (inbox, mut tell) = listener();
        // However slow this machine is: what is said now is heard before what comes behind it.
        for _ in 0..20 {
            thread::sleep(SHORT / 10);
            tell(&ToAgent::Ping);
        }
        tell(&recover());
        assert_eq!(inbox.next(), Ok(recover()));
        thread::sleep(SHORT);
        tell(&ToAgent::Keep);
        assert_eq!(inbox.next(), Ok(ToAgent::Keep));
    }
}
