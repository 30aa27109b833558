//! The nouns. Pure data: no I/O, no clock, no crate but serde.

pub mod change;
pub mod decode;
pub mod event;
pub mod facts;
pub mod ids;
pub mod inventory;
pub mod lease;
pub mod node;
pub mod runbook;
pub mod state;
pub mod strategy;
pub mod witness;

pub use change::{Act, Change, CommandSpec, Deed, Undo};
pub use event::Event;
pub use facts::Facts;
pub use ids::{HostName, RunId, StepId};
pub use node::{Node, Value};
pub use state::{Resource, State};
