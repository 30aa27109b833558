//! An eye on calls into libssh2. It reads as long as something comes, so a peer that never stops sending would never
//! let a call return, nor the thread that made it. Such a line is cut from outside.

use std::{
    os::fd::AsFd,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::net::{Shutdown, shutdown};
use tokio::net::TcpStream;

/// How long one call may take. An honest one takes milliseconds: what it may read is bounded by a window.
const CALL_MAX: Duration = Duration::from_secs(5);

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The lines that are watched; one thread for all of a run.
#[derive(Clone, Default)]
pub(in crate::transport) struct Watch(Arc<OnceLock<Arc<Lines>>>);

type Lines = Mutex<Vec<Weak<Watched>>>;

impl Watch {
    /// Watches the calls that use a socket.
    pub(super) fn over(&self, socket: Arc<TcpStream>) -> Arc<Watched> {
        let lines = self.0.get_or_init(|| {
            let lines = Arc::new(Lines::default());
            let looked_at = Arc::downgrade(&lines);
            thread::spawn(move || look(&looked_at));
            lines
        });
        let watched = Arc::new(Watched {
            socket,
            born: Instant::now(),
            entered_ms: AtomicU64::new(OUTSIDE),
            is_cut: AtomicBool::new(false),
        });
        lines.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&watched));
        watched
    }
}

/// Looks until the run is over.
fn look(lines: &Weak<Lines>) {
    while let Some(lines) = lines.upgrade() {
        lines.lock().unwrap_or_else(PoisonError::into_inner).retain(|line| match line.upgrade() {
            Some(watched) => {
                watched.cut_if_stuck();
                true
            }
            None => false,
        });
        drop(lines);
        thread::sleep(LOOK_EVERY);
    }
}

/// Not in a call.
const OUTSIDE: u64 = u64::MAX;

/// A line whose calls are watched.
pub(super) struct Watched {
    socket: Arc<TcpStream>,
    born: Instant,
    /// When the call that runs was entered, in milliseconds after `born`.
    entered_ms: AtomicU64,
    is_cut: AtomicBool,
}

impl Watched {
    /// Makes a call.
    pub(super) fn call<T>(&self, call: impl FnOnce() -> T) -> T {
        self.entered_ms.store(self.now_ms(), Ordering::Relaxed);
        let done = call();
        self.entered_ms.store(OUTSIDE, Ordering::Relaxed);
        done
    }

    /// Whether the line was cut because a call did not return.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }

    fn cut_if_stuck(&self) {
        let entered = self.entered_ms.load(Ordering::Relaxed);
        if entered != OUTSIDE && Duration::from_millis(self.now_ms().saturating_sub(entered)) > CALL_MAX {
            self.is_cut.store(true, Ordering::Relaxed);
            let _already_gone = shutdown(self.socket.as_fd(), Shutdown::Both);
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(OUTSIDE - 1)
    }
}
