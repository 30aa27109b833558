//! Packages, services, users and groups on a real host: forward, at rest, and exactly back.
//!
//! Most of these tests change the machine that they run on: they run on throw-away hosts only, where
//! `ROLLBOOK_THROW_AWAY_HOST=1` says so. `fleet` takes this very program to such a host and runs them there.
//! `account_files` needs only a folder.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]

mod account_files;
mod accounts;
mod fleet;
mod host;
mod packages;
mod services;
#[path = "../support/mod.rs"]
mod support;
