//! What can be wrong with a journal, told so that the reader knows what to do.

use std::{fmt, io, path::PathBuf};

use crate::model::lease::OpenRun;

/// Why a journal cannot be opened, written or read.
#[derive(Debug)]
pub enum JournalFault {
    /// Another run's agent is at work on this host.
    Held {
        /// Who holds it, as far as its note says.
        holder: Option<Box<OpenRun>>,
    },
    /// An earlier run was never settled.
    Unsettled(Box<OpenRun>),
    /// Another run has taken the host over from this one.
    TakenOver,
    /// A directory of ours is not ours alone.
    NotPrivate {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The way back would not fit on the disk.
    NoSpace {
        /// What would be written there.
        what: &'static str,
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// A deed whose record would be too long.
    TooLong {
        /// How long it would be, in bytes.
        bytes: usize,
    },
    /// What is on the disk is not what was written.
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The disk failed to take an earlier record: nothing more is changed by this run.
    Broken,
    /// The system refused.
    Io {
        /// What was being done.
        doing: String,
        /// Its error.
        error: io::Error,
    },
}

impl JournalFault {
    pub(super) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> JournalFault {
        let doing = doing.into();
        move |error| JournalFault::Io { doing, error }
    }
}

impl fmt::Display for JournalFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JournalFault::Held { holder: Some(holder) } => write!(f, "{holder}; wait until it has ended"),
            JournalFault::Held { holder: None } => {
                f.write_str("another run is at work on this host; wait until it has ended")
            }
            JournalFault::Unsettled(open) => write!(f, "{open}; settle it with `rollbook recover {}`", open.run()),
            JournalFault::TakenOver => {
                f.write_str("another run has taken this host over; nothing more is changed by this one")
            }
            JournalFault::NotPrivate { path, why } => {
                write!(f, "{} {why}; give it to the agent's user alone (mode 0700), or remove it", path.display())
            }
            JournalFault::NoSpace { what, needed, free } => write!(
                f,
                "{what} would need {} KiB, and {} KiB are free; nothing was changed",
                needed.div_ceil(1024),
                free / 1024
            ),
            JournalFault::TooLong { bytes } => {
                write!(f, "the undo of this deed would be a record of {bytes} bytes, which is too long to keep")
            }
            JournalFault::Damaged { path, why } => {
                write!(f, "{} {why}; put back by hand what it tells of, then move its folder away", path.display())
            }
            JournalFault::Broken => f.write_str("the journal's disk failed; nothing more is changed"),
            JournalFault::Io { doing, error } => write!(f, "{doing}: {error}"),
        }
    }
}

impl std::error::Error for JournalFault {}
