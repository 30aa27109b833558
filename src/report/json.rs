//! Events as JSON, one a line (docs/events.md).

use crate::{
    base::Fault,
    model::event::{Sink, Stamped},
    report::{clean, output},
};

/// Writes JSON that is already text as one line. It is made harmless for a terminal; its value stays the same.
pub fn write_json(text: &str) {
    output::write_bare(std::iter::once(clean::json(text).into()));
}

/// Writes each event as one line.
#[derive(Debug, Default)]
pub struct JsonLines;

impl Sink for JsonLines {
    fn take(&mut self, event: &Stamped) -> Result<(), Fault> {
        self.take_all(std::slice::from_ref(event))
    }

    fn take_all(&mut self, events: &[Stamped]) -> Result<(), Fault> {
        let text = |event| serde_json::to_string(event).expect("an event is plain data");
        output::write_bare(events.iter().map(|event| clean::json(&text(event)).into()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::report::samples;

    #[test]
    fn an_event_knows_its_word() {
        for stamped in samples::events() {
            assert_eq!(serde_json::to_value(&stamped).unwrap()["event"], stamped.event.word());
        }
    }
}
