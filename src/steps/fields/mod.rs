//! Types of fields that several kinds share. Each refuses what it cannot mean, so that no kind has to check.

mod command_line;
mod mode;
mod names;
mod path;
mod scalar;
mod source;

pub use command_line::{CommandLine, HANDED_OVER, refuse_secret};
pub use mode::Mode;
pub use names::names_of;
pub use path::{AbsolutePath, Destination};
pub use scalar::{OneOrMore, Span, Texts, Word};
pub use source::{Inline, LocalFile};
