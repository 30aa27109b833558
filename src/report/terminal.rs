//! The terminal as a sink of events.

use crate::{
    base::Fault,
    model::event::{Event, Sink, Stamped},
    report::{
        line::Line,
        output,
        status::Status,
        view::{Style, View},
    },
};

/// The sink that people read.
#[derive(Debug)]
pub struct Terminal {
    view: View,
    status: Status,
    columns: Option<usize>,
}

impl Terminal {
    /// A sink that shows events in a style.
    pub fn new(style: Style) -> Self {
        Terminal { view: View::new(style), status: Status::new(), columns: output::columns() }
    }

    /// What happens is shortened to the terminal; what is to be read before a decision, and failures, are not.
    fn lines(&mut self, event: &Stamped) -> Vec<Line> {
        let lines = self.view.lines(event);
        match (&event.event, self.columns) {
            (Event::StepEnded { .. }, Some(columns)) if lines.len() == 1 => cut(lines, columns),
            (Event::DeedDone { .. }, Some(columns)) => cut(lines, columns),
            _ => lines,
        }
    }

    fn track(&mut self, event: &Event) {
        match event {
            Event::RunOpened(opened) => self.status.opened(opened.hosts.len()),
            Event::StepStarted { host, step } => self.status.step_started(host, step),
            Event::HostEnded { .. } => self.status.host_ended(),
            Event::RunClosed { .. } => self.status.close(),
            _ => {}
        }
    }
}

impl Sink for Terminal {
    fn take(&mut self, event: &Stamped) -> Result<(), Fault> {
        self.take_all(std::slice::from_ref(event))
    }

    /// What comes together is written together.
    fn take_all(&mut self, events: &[Stamped]) -> Result<(), Fault> {
        let lines: Vec<Line> = events.iter().flat_map(|event| self.lines(event)).collect();
        output::write_lines(&lines);
        events.iter().for_each(|event| self.track(&event.event));
        if let Some(last) = events.last() {
            self.status.show(last.at);
        }
        Ok(())
    }
}

fn cut(lines: Vec<Line>, columns: usize) -> Vec<Line> {
    let mut lines = lines.into_iter();
    let first = lines.next().map(|line| line.cut(columns));
    first.into_iter().chain(lines).collect()
}
