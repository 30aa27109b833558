//! Events for tired people.

use std::collections::BTreeMap;

use crate::{
    base::Fault,
    model::{
        event::{
            Counts, Event, HostOutcome, Mode, Output, RunOpened, RunOutcome, Sink, Stamped, StepEnd, StepLabel,
            StepOutcome,
        },
        ids::HostName,
    },
    report::{
        clean, deed,
        output::{mark, paint, write_line},
        plan::{self, Planned, plural},
        table::Table,
    },
};

/// Lines of a failed tool's output that are shown.
const LAST_LINES: usize = 12;

/// Hosts up to which the closing table has a row for each.
const ROWS_MAX: usize = 30;

/// What is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Contents line by line.
    pub diff: bool,
    /// Steps that change nothing, too.
    pub verbose: bool,
}

/// The sink that people read.
#[derive(Debug, Default)]
pub struct Terminal {
    style: Style,
    mode: Option<Mode>,
    planned: Planned,
    ended: BTreeMap<HostName, (HostOutcome, Counts, Option<Fault>)>,
}

impl Terminal {
    /// A sink that shows events in a style.
    pub fn new(style: Style) -> Self {
        Terminal { style, ..Terminal::default() }
    }

    fn lines(&mut self, stamped: &Stamped) -> Vec<String> {
        match &stamped.event {
            Event::RunOpened(opened) => self.opened(stamped, opened),
            Event::HostConnected(_) | Event::StepStarted { .. } => Vec::new(),
            Event::HostUnreachable { host, fault } => unreachable_lines(host, fault),
            Event::DeedDone { host, step, report, .. } => {
                let undo = paint(mark::FAINT, &format!("[{}]", deed::undo(report.undo)));
                let mut lines =
                    vec![format!("{} {}  {undo}", head(mark::CHANGED, "~", host, step), deed::words(report))];
                if self.style.diff {
                    lines.extend(plan::diff_lines(report.diff.as_deref()));
                }
                lines
            }
            Event::StepEnded { host, step, end } => self.step_ended(host, step, end),
            Event::DeedUndone { host, step, report, how } => {
                vec![format!("{} {}  {}", head(mark::CHANGED, "<", host, step), deed::words(report), deed::undone(how))]
            }
            Event::HostEnded { host, outcome, counts, fault } => {
                self.ended.insert(host.clone(), (*outcome, *counts, fault.clone()));
                Vec::new()
            }
            Event::RunClosed { outcome, counts, took_ms, .. } => self.closed(stamped, *outcome, counts, *took_ms),
            Event::Note { host, message } => {
                let host = host.as_ref().map(|host| format!("{host}: ")).unwrap_or_default();
                vec![clean::line(&format!("{host}{message}"))]
            }
        }
    }

    fn opened(&mut self, stamped: &Stamped, opened: &RunOpened) -> Vec<String> {
        self.mode = Some(opened.mode);
        let hosts = opened.hosts.len();
        let word = if opened.mode == Mode::Plan { "plan of" } else { "apply" };
        let run = if opened.mode == Mode::Plan { String::new() } else { format!(", run {}", stamped.run) };
        let name = clean::line(&opened.runbook.name);
        vec![format!("{word} {} on {hosts} host{}{run}", paint(mark::STRONG, &name), plural(hosts))]
    }

    fn step_ended(&mut self, host: &HostName, step: &StepLabel, end: &StepEnd) -> Vec<String> {
        if self.mode == Some(Mode::Plan) {
            self.planned.add(host, step, end);
            return Vec::new();
        }
        let said = step.kind == "debug" && end.outcome == StepOutcome::Ok;
        match end.outcome {
            StepOutcome::Failed => failure_lines(host, step, end),
            StepOutcome::Ok | StepOutcome::Unknown if said || self.style.verbose => {
                vec![with_message(head(mark::FINE, "=", host, step), end)]
            }
            StepOutcome::Skipped if self.style.verbose => vec![with_message(head(mark::FAINT, "-", host, step), end)],
            _ => Vec::new(),
        }
    }

    fn closed(&mut self, stamped: &Stamped, outcome: RunOutcome, counts: &Counts, took_ms: u64) -> Vec<String> {
        let mut lines = Vec::new();
        if self.mode == Some(Mode::Plan) {
            lines.extend(self.planned.lines(self.style.diff, self.style.verbose));
            lines.extend(self.troubles());
            lines.push(self.planned.summary());
            return lines;
        }
        lines.push(String::new());
        lines.extend(self.troubles());
        lines.extend(host_table(&self.ended));
        let words = closing_words(outcome, counts, &self.ended);
        let style = if outcome == RunOutcome::Succeeded { mark::FINE } else { mark::FAILED };
        let seconds = took_ms as f64 / 1000.0;
        lines.push(format!("run {}: {} ({seconds:.1} s)", stamped.run, paint(style, &words)));
        lines
    }

    /// Why hosts ended as they did, where no step has said it yet.
    fn troubles(&self) -> Vec<String> {
        let silent = |outcome: &HostOutcome| {
            matches!(outcome, HostOutcome::Failed | HostOutcome::Unknown | HostOutcome::NeedsRecovery)
        };
        let troubled = self.ended.iter().filter(|(_, (outcome, ..))| silent(outcome));
        troubled
            .filter_map(|(host, (.., fault))| fault.as_ref().map(|fault| (host, fault)))
            .map(|(host, fault)| clean::line(&format!("! {host}  {fault}")))
            .collect()
    }
}

impl Sink for Terminal {
    fn take(&mut self, event: &Stamped) -> Result<(), Fault> {
        self.lines(event).iter().for_each(|line| write_line(line));
        Ok(())
    }
}

fn head(style: anstyle::Style, sign: &str, host: &HostName, step: &StepLabel) -> String {
    let step = clean::line(&step.name);
    format!("{} {}  {}", paint(style, sign), clean::line(host.as_str()), paint(mark::STRONG, &step))
}

fn with_message(head: String, end: &StepEnd) -> String {
    match &end.message {
        Some(message) => format!("{head}  {}", clean::line(message)),
        None => head,
    }
}

fn unreachable_lines(host: &HostName, fault: &Fault) -> Vec<String> {
    let mut lines =
        vec![format!("{} {}  {}", paint(mark::FAILED, "!"), clean::line(host.as_str()), clean::line(&fault.message))];
    lines.extend(
        fault.causes.iter().flat_map(|cause| clean::lines(cause).map(|line| format!("    {line}")).collect::<Vec<_>>()),
    );
    lines.extend(fault.hints.iter().map(|hint| format!("    help: {}", clean::line(hint))));
    lines
}

/// What was tried, how it ended, and the tool's last words.
fn failure_lines(host: &HostName, step: &StepLabel, end: &StepEnd) -> Vec<String> {
    let mut lines =
        vec![format!("{}  {} at {}", head(mark::FAILED, "!", host, step), step.kind, clean::line(&step.place))];
    lines.extend(
        end.message
            .iter()
            .flat_map(|message| clean::lines(message).map(|line| format!("    {line}")).collect::<Vec<_>>()),
    );
    if let Some(output) = &end.output {
        lines.extend(last_lines(output));
    }
    lines
}

fn last_lines(output: &Output) -> Vec<String> {
    let text = if output.stderr.text.trim().is_empty() { &output.stdout.text } else { &output.stderr.text };
    let all: Vec<String> = clean::lines(text).collect();
    all.iter().skip(all.len().saturating_sub(LAST_LINES)).map(|line| format!("    | {line}")).collect()
}

fn host_table(ended: &BTreeMap<HostName, (HostOutcome, Counts, Option<Fault>)>) -> Vec<String> {
    let mut table = Table::new(&["host", "ok", "changed", "skipped", "failed", "undone", ""]);
    let cells = |name: String, outcome: HostOutcome, counts: &Counts| {
        let numbers = [counts.ok, counts.changed, counts.skipped, counts.failed, counts.undone];
        let mut cells = vec![name];
        cells.extend(numbers.iter().map(ToString::to_string));
        cells.push(outcome_words(outcome).to_owned());
        cells
    };
    if ended.len() <= ROWS_MAX {
        ended.iter().for_each(|(host, (outcome, counts, _))| {
            table.row(cells(clean::line(host.as_str()), *outcome, counts));
        });
        return table.lines();
    }
    let mut groups: Vec<(HostOutcome, Counts, Vec<HostName>)> = Vec::new();
    for (host, (outcome, counts, _)) in ended {
        match groups.iter_mut().find(|(o, c, _)| o == outcome && c == counts) {
            Some((.., hosts)) => hosts.push(host.clone()),
            None => groups.push((*outcome, *counts, vec![host.clone()])),
        }
    }
    groups.iter().for_each(|(outcome, counts, hosts)| table.row(cells(plan::names(hosts), *outcome, counts)));
    table.lines()
}

fn outcome_words(outcome: HostOutcome) -> &'static str {
    match outcome {
        HostOutcome::Succeeded => "succeeded",
        HostOutcome::RolledBack => "failed, rolled back",
        HostOutcome::Failed => "FAILED",
        HostOutcome::NeedsRecovery => "NEEDS RECOVERY",
        HostOutcome::Unreachable => "unreachable",
        HostOutcome::Unknown => "UNKNOWN: the line was lost",
        HostOutcome::NotStarted => "not started",
    }
}

fn closing_words(
    outcome: RunOutcome,
    counts: &Counts,
    ended: &BTreeMap<HostName, (HostOutcome, Counts, Option<Fault>)>,
) -> String {
    let with = |wanted: HostOutcome| ended.values().filter(|(outcome, ..)| *outcome == wanted).count();
    match outcome {
        RunOutcome::Succeeded => format!("succeeded, {} changed", counts.changed),
        RunOutcome::RolledBack if with(HostOutcome::Succeeded) == 0 => {
            "failed, rolled back: every host is as it was before".to_owned()
        }
        RunOutcome::RolledBack => format!(
            "failed on {} of {} hosts, which are as they were before; the others keep their changes",
            with(HostOutcome::RolledBack),
            ended.len()
        ),
        RunOutcome::Failed => "FAILED: not every host was done".to_owned(),
        RunOutcome::NeedsRecovery => "NEEDS RECOVERY: not everything could be put back".to_owned(),
    }
}
