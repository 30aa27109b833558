//! Waiting for the disk, counted: how often a run waits is held by tests, which need no clock for it.

use std::{cell::Cell, io, os::fd::AsFd};

thread_local! {
    static SYNCS: Cell<u64> = const { Cell::new(0) };
}

/// How often this thread has waited for the disk.
pub fn syncs() -> u64 {
    SYNCS.get()
}

/// Brings a file's content and attributes, or a folder's names, onto the disk.
pub(in crate::target) fn sync(file: &impl AsFd) -> io::Result<()> {
    SYNCS.set(SYNCS.get() + 1);
    Ok(rustix::fs::fsync(file)?)
}
