//! The kit for suites that need real hosts: a fleet of the suite's own, its hosts as fixtures, and runs of the program
//! whose outcome must be looked at.
//!
//! ```ignore
//! let web = support::host(Kind::Systemd);
//! let controller = Controller::of(&[&web]);
//! controller.apply("tests/runbooks/ten-steps.yml", &["--set", "root=/srv/app"]).ended(7);
//! ```

#![allow(dead_code, unreachable_pub, unused_imports, reason = "each suite uses what it needs of this")]
#![allow(clippy::allow_attributes, reason = "which suite uses what differs, so nothing can be expected")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod controller;
mod fleet;
#[path = "../laws/tree.rs"]
pub(crate) mod tree;

pub(crate) use controller::{Controller, Run, Running, Said, entry};
pub(crate) use fleet::{Fleet, Host, Kind, host, hosts};
pub(crate) use tree::Tree;

use std::time::{Duration, Instant};

/// Waits until something is so, and fails where it does not become so within `limit`.
#[track_caller]
pub(crate) fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < end, "not within {} s: {what}", limit.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
}
