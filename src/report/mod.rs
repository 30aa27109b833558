//! What a person reads: events as lines and tables, faults as messages with the source line. All output of the
//! program goes through here, and no control byte of a host's passes.

pub mod clean;
mod deed;
pub mod fault;
mod json;
mod masked;
mod output;
mod plan;
#[cfg(test)]
mod samples;
mod table;
mod terminal;

pub use json::JsonLines;
pub use masked::Masked;
pub use output::{say, write_line};
pub use table::Table;
pub use terminal::{Style, Terminal};
