//! Rollbook: run, roll back, record.
//!
//! The layers, in reading order. A module imports only from layers above its own line here, never
//! from a sibling of the same number; `tests/architecture.rs` holds this.

pub mod base; // 0

pub mod model; // 1

#[cfg(feature = "controller")]
pub mod record; // 2
#[cfg(feature = "controller")]
pub mod render; // 2
#[cfg(feature = "controller")]
pub mod report; // 2
#[cfg(feature = "controller")]
pub mod syntax; // 2
pub mod target; // 2
pub mod wire; // 2

pub mod resources; // 3

pub mod steps; // 4
#[cfg(feature = "controller")]
pub mod transport; // 4

pub mod agent; // 5
#[cfg(feature = "controller")]
pub mod engine; // 5

#[cfg(feature = "controller")]
pub mod cli; // 6
