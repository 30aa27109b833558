//! What the agent says to the controller.

use std::{
    io::Write,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    model::{
        change::{Deed, DeedReport},
        event::{Capped, Output},
        state::{PathState, State},
    },
    target::process::Running,
    wire::{
        FrameWriter, FromAgent,
        frame::PAYLOAD_BYTES_MAX,
        message::{HELLO_MAGIC, TaskEnd},
    },
};

/// Bytes that one stream of an output is cut to where a message would be too long.
const SHORT_TEXT_BYTES: usize = 16 * 1024;

/// Mounts that are told where a hello would be too long.
const MOUNTS_FEW: usize = 64;

/// What was said waits this long at most for more to go with it, unless something slow is begun: that is preceded by
/// [`Voice::finish`].
const WAITING: Duration = Duration::from_millis(20);

/// Bytes that wait for more to go with them.
const WAITING_BYTES: usize = 16 * 1024;

/// The agent's end of the pipe. When nobody listens any more, it falls silent.
///
/// What is said in quick succession goes into the pipe together: each write costs both sides a packet.
pub(super) struct Voice<W> {
    throat: Arc<Mutex<Throat<W>>>,
    since: Instant,
}

/// What goes into the pipe, one message after the other.
struct Throat<W> {
    pipe: W,
    frames: FrameWriter<FromAgent>,
    waiting: Vec<u8>,
    running: Running,
    silent: bool,
}

impl<W: Write> Voice<W> {
    /// Clears its throat.
    pub(super) fn begin(pipe: W, running: Running) -> Self {
        let waiting = HELLO_MAGIC.to_vec();
        let throat = Throat { pipe, frames: FrameWriter::default(), waiting, running, silent: false };
        Voice { throat: Arc::new(Mutex::new(throat)), since: Instant::now() }
    }

    /// Says something, soon. Where the pipe is broken, the controller counts as lost.
    pub(super) fn say(&mut self, message: FromAgent) {
        let message = fit(message);
        let Voice { throat, since } = self;
        let mut throat = throat.lock().unwrap_or_else(PoisonError::into_inner);
        if throat.waiting.is_empty() {
            *since = Instant::now();
        }
        throat.push(&message);
        if throat.waiting.len() >= WAITING_BYTES || since.elapsed() >= WAITING {
            throat.finish();
        }
    }

    /// Says what waits: before anything slow, and before listening.
    pub(super) fn finish(&mut self) {
        self.throat.lock().unwrap_or_else(PoisonError::into_inner).finish();
    }

    /// What another thread says to be alive. Where something else is being said just then, that is enough.
    pub(super) fn pulse(&self) -> Pulse
    where
        W: Send + 'static,
    {
        let throat = Arc::clone(&self.throat);
        Box::new(move || {
            if let Ok(mut throat) = throat.try_lock() {
                throat.push(&FromAgent::Alive);
                throat.finish();
            }
        })
    }
}

/// Says that the agent is alive.
pub(super) type Pulse = Box<dyn Fn() + Send>;

impl<W: Write> Throat<W> {
    fn push(&mut self, message: &FromAgent) {
        self.frames.push(message, &mut self.waiting);
    }

    fn finish(&mut self) {
        let mut broken = || self.pipe.write_all(&self.waiting).and_then(|()| self.pipe.flush()).is_err();
        if !self.silent && !self.waiting.is_empty() && broken() {
            self.silent = true;
            self.running.lose();
        }
        self.waiting.clear();
    }
}

/// How many bytes a message is on the wire.
pub(super) fn size(message: &impl serde::Serialize) -> usize {
    postcard::to_stdvec(message).map_or(usize::MAX, |bytes| bytes.len())
}

/// The message, made lighter step by step until it fits into a frame.
fn fit(mut message: FromAgent) -> FromAgent {
    if matches!(message, FromAgent::Started(_) | FromAgent::Need(_)) {
        return message;
    }
    for lighten in [drop_diffs, shorten_output, drop_values, drop_deeds] {
        if size(&message) <= PAYLOAD_BYTES_MAX {
            break;
        }
        lighten(&mut message);
    }
    message
}

fn reports(message: &mut FromAgent) -> &mut [DeedReport] {
    match message {
        FromAgent::Done { report, .. } | FromAgent::Undone { report, .. } => std::slice::from_mut(report),
        FromAgent::Ended(end) => &mut end.deeds,
        _ => &mut [],
    }
}

fn drop_diffs(message: &mut FromAgent) {
    reports(message).iter_mut().for_each(|report| report.diff = None);
}

fn shorten_output(message: &mut FromAgent) {
    if let FromAgent::Ended(end) = message {
        let TaskEnd { output, data, message, .. } = &mut **end;
        if let Some(Output { stdout, stderr, .. }) = output {
            shorten(stdout);
            shorten(stderr);
        }
        if data.len() > SHORT_TEXT_BYTES {
            data.clear();
        }
        if let Some(message) = message {
            cut(message);
        }
    }
    if let FromAgent::Hello(hello) = message {
        hello.facts.mounts.truncate(MOUNTS_FEW);
    }
}

fn shorten(stream: &mut Capped) {
    if stream.text.len() > SHORT_TEXT_BYTES {
        cut(&mut stream.text);
        stream.cut = true;
    }
}

fn cut(text: &mut String) {
    let end = (0..=SHORT_TEXT_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
}

/// Leaves out the values of extended attributes.
fn drop_values(message: &mut FromAgent) {
    for report in reports(message) {
        let Deed::Change(change) = &mut report.deed else { continue };
        for state in [&mut change.before, &mut change.after] {
            if let State::Path(PathState::File { meta, .. } | PathState::Directory { meta }) = state {
                meta.xattrs.values_mut().for_each(|value| value.0.clear());
            }
        }
    }
}

/// The last resort. What a plan would do is told in pieces before it comes to this.
fn drop_deeds(message: &mut FromAgent) {
    match message {
        FromAgent::Ended(end) => end.deeds.clear(),
        FromAgent::Done { report, .. } | FromAgent::Undone { report, .. } => report.differences.clear(),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        change::{Act, CommandSpec, Undo, UndoKind},
        event::StepOutcome,
        ids::TaskNo,
    };

    #[test]
    fn nothing_is_too_long_to_be_said() {
        let long = Capped { text: "\u{fffd}".repeat(400_000), bytes: 1, cut: false };
        let command = CommandSpec { argv: vec!["x".repeat(100_000)], ..CommandSpec::default() };
        let deed = Deed::Act { act: Act::Run(command), undo: Undo::Irreversible };
        let report =
            DeedReport { deed, differences: Vec::new(), diff: Some("d".repeat(60_000)), undo: UndoKind::Irreversible };
        let end = TaskEnd {
            no: TaskNo { step: 0, item: 0 },
            outcome: StepOutcome::Failed,
            deeds: vec![report; 40],
            output: Some(Output { stdout: long.clone(), stderr: long, ..Output::default() }),
            message: Some("m".repeat(2_000_000)),
            data: "d".repeat(2_000_000),
            attempts: 1,
            took_us: 1,
        };
        let mut said = Vec::new();
        let mut voice = Voice::begin(&mut said, Running::default());
        voice.say(FromAgent::Ended(Box::new(end)));
        voice.finish();
        assert!(said.len() < PAYLOAD_BYTES_MAX + 100);
        let mut frames = crate::wire::FrameReader::default();
        frames.feed(&said[HELLO_MAGIC.len()..]);
        let Ok(Some(FromAgent::Ended(end))) = frames.next_message() else { panic!("no end was said") };
        assert_eq!(end.outcome, StepOutcome::Failed);
        assert!(end.output.is_some_and(|output| output.stdout.cut));
    }
}
