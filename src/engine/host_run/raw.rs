//! `raw`: what the login shell does, without an agent.

use super::{HostRun, Order, Phase};
use crate::{
    base::{Fault, secret::HIDDEN},
    engine::outcome,
    model::{
        change::{Act, CommandSpec, Deed, DeedReport, Undo, UndoKind},
        event::{Capped, Output, StepOutcome},
        ids::TaskNo,
    },
    wire::message::TaskEnd,
};

impl HostRun {
    /// A `raw` step has ended.
    pub fn raw_ended(&mut self, no: TaskNo, line: &str, result: Result<Output, Fault>, took_us: u64) -> Vec<Order> {
        let sensitive = self.labels.get(&no).is_some_and(|label| label.sensitive);
        let report = raw_report(line, sensitive);
        let (outcome, output, message) = match result {
            Ok(output) if output.succeeded() => (StepOutcome::Changed, Some(output), None),
            Ok(output) => {
                let message = outcome::exit_words(&output);
                (StepOutcome::Failed, Some(output), Some(message))
            }
            Err(fault) => (StepOutcome::Failed, None, Some(fault.to_string())),
        };
        let output = output.map(|output| match sensitive {
            true => Output { stdout: Capped::default(), stderr: Capped::default(), ..output },
            false => output,
        });
        if outcome == StepOutcome::Changed {
            self.done(no, Box::new(report), took_us);
        }
        let end =
            TaskEnd { no, outcome, deeds: Vec::new(), output, message, data: String::new(), attempts: 1, took_us };
        self.ended(end);
        if self.phase == Phase::Failing {
            self.undo_now();
        }
        std::mem::take(&mut self.orders)
    }
}

pub(super) fn raw_report(line: &str, sensitive: bool) -> DeedReport {
    let line = if sensitive { HIDDEN } else { line };
    let command = CommandSpec { argv: vec![line.to_owned()], ..CommandSpec::default() };
    DeedReport {
        deed: Deed::Act { act: Act::Run(command), undo: Undo::Irreversible },
        differences: Vec::new(),
        diff: None,
        undo: UndoKind::Irreversible,
    }
}
