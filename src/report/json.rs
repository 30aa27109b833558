//! Events as JSON, one a line (docs/events.md).

use crate::{
    base::Fault,
    model::event::{Sink, Stamped},
    report::write_line,
};

/// Writes each event as one line.
#[derive(Debug, Default)]
pub struct JsonLines;

impl Sink for JsonLines {
    fn take(&mut self, event: &Stamped) -> Result<(), Fault> {
        write_line(&serde_json::to_string(event).expect("an event is plain data"));
        Ok(())
    }
}
