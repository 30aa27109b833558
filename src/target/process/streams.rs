//! A program's streams: all that it says is read, capped and counted, and what it is to read is fed, by one who waits.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    process::{Child, ChildStdin},
    thread,
    time::Instant,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use crate::{model::event::Capped, target::process::PAUSE_MAX};

/// Bytes kept of the beginning and of the end of each stream.
const HEAD_BYTES: usize = 16 * 1024;
const TAIL_BYTES: usize = 48 * 1024;

/// A pipe that can take something takes so many bytes without waiting.
pub const TAKEN_BYTES: usize = 4096;

/// A program's streams: what it is still to read, and what it has said so far.
pub(super) struct Streams<'a> {
    input: Option<(ChildStdin, &'a [u8])>,
    open: [Option<File>; 2],
    kept: [Kept; 2],
}

impl<'a> Streams<'a> {
    pub(super) fn of(child: &mut Child, input: &'a str) -> Self {
        let stdin = child.stdin.take().filter(|_| !input.is_empty());
        let outputs = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
        Streams {
            input: stdin.map(|pipe| (pipe, input.as_bytes())),
            open: outputs.map(|fd| fd.map(File::from)),
            kept: Default::default(),
        }
    }

    /// Whether the program, or one that it has started, may still say something or read on.
    pub(super) fn is_open(&self) -> bool {
        self.input.is_some() || self.open.iter().any(Option::is_some)
    }

    /// Waits until something can be passed on, at most for [`PAUSE_MAX`], and does that.
    pub(super) fn pass(&mut self) {
        let mut asked = Vec::with_capacity(3);
        self.open.iter().flatten().for_each(|pipe| asked.push(PollFd::new(pipe, PollFlags::IN)));
        self.input.iter().for_each(|(pipe, _)| asked.push(PollFd::new(pipe, PollFlags::OUT)));
        let pause = Timespec { tv_sec: 0, tv_nsec: PAUSE_MAX.as_nanos() as i64 };
        match poll(&mut asked, Some(&pause)) {
            Ok(1..) => {}
            Ok(0) | Err(Errno::INTR) => return,
            Err(_) => return thread::sleep(PAUSE_MAX),
        }
        let ready: Vec<bool> = asked.iter().map(|asked| !asked.revents().is_empty()).collect();
        let mut ready = ready.into_iter();
        let mut buffer = [0; 16 * 1024];
        for (pipe, kept) in self.open.iter_mut().zip(&mut self.kept) {
            let Some(open) = pipe.as_mut().filter(|_| ready.next() == Some(true)) else { continue };
            match open.read(&mut buffer) {
                Ok(read @ 1..) => kept.add(&buffer[..read]),
                _ => *pipe = None,
            }
        }
        if let Some((pipe, bytes)) = self.input.as_mut().filter(|_| ready.next() == Some(true)) {
            // A program that does not read its input is its own business: a broken pipe is no fault.
            let written = pipe.write(&bytes[..bytes.len().min(TAKEN_BYTES)]).unwrap_or(bytes.len());
            *bytes = &bytes[written..];
            if bytes.is_empty() {
                self.input = None;
            }
        }
    }

    /// What was said when both streams ended, or at `until` if something still holds one open. That may go on talking:
    /// nobody listens, and it does not notice.
    pub(super) fn finish(mut self, until: Instant) -> [Capped; 2] {
        self.input = None;
        while self.is_open() && Instant::now() < until {
            self.pass();
        }
        for mut pipe in self.open.into_iter().flatten() {
            thread::spawn(move || io::copy(&mut pipe, &mut io::sink()));
        }
        self.kept.map(Kept::finish)
    }
}

/// The beginning and the end of a stream. Memory stays bounded.
#[derive(Clone, Default)]
pub struct Kept {
    head: Vec<u8>,
    tail: std::collections::VecDeque<u8>,
    bytes: u64,
}

impl Kept {
    /// Takes in what was read.
    pub fn add(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let room = HEAD_BYTES - self.head.len();
        let (head, rest) = bytes.split_at(bytes.len().min(room));
        self.head.extend_from_slice(head);
        bytes = &rest[rest.len().saturating_sub(TAIL_BYTES)..];
        let over = (self.tail.len() + bytes.len()).saturating_sub(TAIL_BYTES);
        self.tail.drain(..over);
        self.tail.extend(bytes);
    }

    /// The last bytes, at most `count`.
    pub fn end(&self, count: usize) -> Vec<u8> {
        let skipped = (self.head.len() + self.tail.len()).saturating_sub(count);
        self.head.iter().chain(&self.tail).skip(skipped).copied().collect()
    }

    /// All that was kept, as text.
    pub fn finish(self) -> Capped {
        let mut bytes = self.head;
        let missing = self.bytes - (bytes.len() + self.tail.len()) as u64;
        if missing > 0 {
            bytes.extend_from_slice(format!("\n[… {missing} bytes left out …]\n").as_bytes());
        }
        bytes.extend(self.tail);
        Capped { text: String::from_utf8_lossy(&bytes).into_owned(), bytes: self.bytes, cut: missing > 0 }
    }
}
