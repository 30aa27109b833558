//! What a person reads: events as lines and tables, faults as messages with the source line. All output of the
//! program goes through here, and no control byte of a host's passes.

mod change;
pub mod clean;
mod closing;
mod deed;
mod failure;
pub mod fault;
mod json;
mod line;
mod masked;
mod output;
mod plan;
#[cfg(test)]
mod samples;
mod status;
mod story;
mod table;
mod terminal;
pub mod time;
mod view;

pub use closing::run_words;
pub use json::{JsonLines, write_json};
pub use line::{Line, Mark};
pub use masked::{Masked, hidden};
pub use output::{is_incomplete, is_over, say, write_line, write_lines};
pub use story::{Story, operator_words};
pub use table::Table;
pub use terminal::Terminal;
pub use view::Style;
