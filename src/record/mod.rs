//! The record: an embedded store whose entries are a hash chain (docs/record-format.md). The only place that names
//! rusqlite.
//!
//! What is appended is on disk when the call returns. What was appended is never changed: there is no call for it.

mod chain;
mod place;
mod query;
mod sink;
mod store;
mod tables;
mod trouble;
mod verify;

pub use chain::Entry;
pub use place::default_path;
pub use query::{OutcomeFilter, RunClosing, RunFilter, RunList, RunSummary};
pub use store::Store;
pub use verify::{BadEntry, Verdict, WitnessVerdict};
