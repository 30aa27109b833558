//! Packages, services, users and groups on a real host: forward, at rest, and exactly back.
//!
//! These tests change the machine that they run on, so they run on throw-away hosts only, and say so by
//! `ROLLBOOK_THROW_AWAY_HOST=1`.

mod host;
mod packages;
mod services;
