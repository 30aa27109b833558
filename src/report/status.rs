//! The status line of a long run: how many hosts are done, and what is being done.

use crate::{
    base::Timestamp,
    model::{event::StepLabel, ids::HostName},
    report::{clean, output},
};

/// The least time between two status lines.
const INTERVAL_US: i64 = 100_000;

/// A status line on stderr, if that is a terminal.
#[derive(Debug)]
pub(super) struct Status {
    columns: Option<usize>,
    hosts: usize,
    done: usize,
    current: String,
    shown: Timestamp,
}

impl Status {
    /// A status line where one can be shown.
    pub(super) fn new() -> Self {
        Status { columns: output::status_columns(), hosts: 0, done: 0, current: String::new(), shown: Timestamp(0) }
    }

    /// A run on so many hosts begins.
    pub(super) fn opened(&mut self, hosts: usize) {
        (self.hosts, self.done) = (hosts, 0);
        self.current.clear();
    }

    /// A host is finished with.
    pub(super) fn host_ended(&mut self) {
        self.done += 1;
    }

    /// A step begins.
    pub(super) fn step_started(&mut self, host: &HostName, step: &StepLabel) {
        if self.columns.is_some() {
            self.current = clean::line(&format!("{host}: {}", step.name));
        }
    }

    /// The line's text.
    fn text(&self) -> String {
        format!("[{} of {} hosts done] {}", self.done, self.hosts, self.current)
    }

    /// Puts the line up, unless the last one is too young.
    pub(super) fn show(&mut self, at: Timestamp) {
        let Some(columns) = self.columns else { return };
        if at.0 - self.shown.0 >= INTERVAL_US && !self.current.is_empty() {
            self.shown = at;
            output::put_status(&self.text(), columns);
        }
    }

    /// The run is over.
    pub(super) fn close(&mut self) {
        output::erase_status();
        self.current.clear();
    }
}
