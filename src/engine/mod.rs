//! Which hosts, in which order; one state machine per host.
//!
//! [`task`] renders a step for a host (pure), [`host_run`] is the state machine (no I/O), [`session`] moves its
//! bytes, [`fleet`] runs all hosts, [`book`] stamps and delivers the events.

pub mod batch;
pub mod book;
pub mod check;
mod confirm;
mod contact;
pub mod delegates;
pub mod desk;
pub mod drafts;
pub mod ending;
pub mod fleet;
pub mod gate;
pub mod host_run;
pub mod job;
mod line;
mod order;
pub mod outcome;
pub mod recover;
mod results;
pub mod session;
pub mod task;
pub mod turnstile;
pub mod undo;
pub mod witness;

pub use book::Book;
pub use check::check;
pub use fleet::run;
pub use job::Job;
