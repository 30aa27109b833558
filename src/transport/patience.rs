//! Trying again at a host that hung up before any login: a busy sshd does (`MaxStartups`).

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The first pause; each next one is twice as long.
const PAUSE: Duration = Duration::from_millis(150);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How much of it is left.
pub(super) struct Patience {
    until: Instant,
    pause: Duration,
}

impl Patience {
    /// Patience until a moment.
    pub(super) fn until(until: Instant) -> Self {
        Patience { until, pause: PAUSE }
    }

    /// Waits before another try; false where there is no time for one.
    pub(super) async fn another_try(&mut self) -> bool {
        let next = Instant::now() + jittered(self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        if next >= self.until {
            return false;
        }
        sleep_until(next).await;
        true
    }
}

/// A pause that differs among hosts, so that those who were turned away together do not come back together.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0u8; 2];
    let _no_jitter_then = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    pause / 2 + pause * u32::from(u16::from_le_bytes(random)) / 65_536
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn patience_ends() {
        let mut patience = Patience::until(Instant::now() + Duration::from_millis(400));
        let end = Instant::now() + Duration::from_secs(30);
        while patience.another_try().await {
            assert!(Instant::now() < end, "it does not end");
        }
        assert!(!Patience::until(Instant::now()).another_try().await, "there is no time for another");
    }
}
