//! An eye on calls into libssh2. It reads as long as something comes, so a peer that never stops sending would never
//! let a call return, nor the thread that made it. Such a line is cut from outside.

use std::{
    os::fd::AsFd,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::net::{Shutdown, shutdown};
use tokio::net::TcpStream;

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// At how many looks one call may be under way: two seconds. An honest one takes milliseconds, since what it may read is
/// bounded by a window. Looks are counted, and not time: in a program that is stopped for a while no peer is to blame.
const LOOKS_MAX: u32 = 8;

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
            calls: AtomicU64::new(0),
            looks: Mutex::default(),
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

/// A line whose calls are watched.
pub(super) struct Watched {
    socket: Arc<TcpStream>,
    /// How often a call was entered or left: odd within one.
    calls: AtomicU64,
    /// The call that was last seen, and at how many looks.
    looks: Mutex<(u64, u32)>,
    is_cut: AtomicBool,
}

impl Watched {
    /// Makes a call.
    pub(super) fn call<T>(&self, call: impl FnOnce() -> T) -> T {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let done = call();
        self.calls.fetch_add(1, Ordering::Relaxed);
        done
    }

    /// Whether the line was cut because a call did not return.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }

    fn cut_if_stuck(&self) {
        let call = self.calls.load(Ordering::Relaxed);
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        *looks = if looks.0 == call { (call, looks.1 + 1) } else { (call, 1) };
        if call % 2 == 1 && looks.1 > LOOKS_MAX {
            self.is_cut.store(true, Ordering::Relaxed);
            let _already_gone = shutdown(self.socket.as_fd(), Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn only_a_call_that_does_not_return_is_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = Arc::new(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
        let watch = Watch::default();
        let watched = watch.over(socket);
        let looks = |count: u32| thread::sleep(LOOK_EVERY * count);
        // Many short calls, and long pauses between them.
        for _ in 0..10 {
            watched.call(|| looks(1));
        }
        looks(LOOKS_MAX + 3);
        assert!(!watched.is_cut());
        watched.call(|| {
            let end = Instant::now() + Duration::from_secs(60);
            while !watched.is_cut() {
                assert!(Instant::now() < end, "it is never cut");
                looks(1);
            }
        });
    }
}
