//! Waiting for the disk, counted: how often a run waits is held by tests, which need no clock for it.

use std::{
    cell::Cell,
    fs::File,
    io,
    os::fd::AsFd,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// Files that are brought onto the disk at one time. A file system that keeps a log commits it once for those that are
/// asked for together.
const SIDE_BY_SIDE: usize = 8;

/// Files that are worth a thread: starting and ending one takes the processor as long as some of them.
const WORTH_A_THREAD: usize = 4;

/// What a thread needs that only waits.
const STACK_BYTES: usize = 64 * 1024;

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

/// Brings files or folders onto the disk side by side, and waits once for all of them. None of them may be believed to be
/// there after an error.
pub(in crate::target) fn sync_all(files: &[File]) -> io::Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    SYNCS.set(SYNCS.get() + 1);
    let next = AtomicUsize::new(0);
    let sync_some = || -> io::Result<()> {
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            rustix::fs::fsync(file)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        // Where no thread can be started, the others have more to do.
        let start = |_| thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, sync_some).ok();
        let beside: Vec<_> = (1..files.len().div_ceil(WORTH_A_THREAD).min(SIDE_BY_SIDE)).filter_map(start).collect();
        let own = sync_some();
        beside.into_iter().map(|thread| thread.join().expect("who only waits does not panic")).fold(own, Result::and)
    })
}
