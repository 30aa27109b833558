//! The pipe to the controller. Nobody waits for one that is lost.

use std::{
    fs::File,
    io::{self, Write},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use crate::target::process::{Running, TAKEN_BYTES};

/// How often it is looked whether the controller is still there.
const GLANCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// The pipe. A write fails when the pipe takes nothing and the controller is lost: else the way back would wait for
/// someone who does not read.
pub(super) struct Pipe {
    file: File,
    running: Running,
}

impl Pipe {
    pub(super) fn new(file: File, running: Running) -> Self {
        Pipe { file, running }
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match poll(&mut [PollFd::new(&self.file, PollFlags::OUT)], Some(&GLANCE)) {
                Ok(0) if self.running.is_alone() => return Err(io::ErrorKind::BrokenPipe.into()),
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return self.file.write(&bytes[..bytes.len().min(TAKEN_BYTES)]),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
