//! The plan's view: what would change, identical changes of many hosts together.

use crate::{
    model::{
        change::UndoKind,
        event::{StepEnd, StepLabel, StepOutcome},
        ids::HostName,
    },
    report::{
        clean, deed,
        output::{mark, paint},
    },
};

/// What one step would do, and on which hosts.
#[derive(Debug)]
struct Group {
    step: StepLabel,
    end: StepEnd,
    hosts: Vec<HostName>,
}

/// What all steps of a plan would do.
#[derive(Debug, Default)]
pub(super) struct Planned {
    groups: Vec<Group>,
}

impl Planned {
    /// Takes in how a step ended on a host.
    pub(super) fn add(&mut self, host: &HostName, step: &StepLabel, end: &StepEnd) {
        let same = |group: &&mut Group| {
            let (a, b) = (&group.end, end);
            group.step == *step && a.outcome == b.outcome && a.deeds == b.deeds && a.message == b.message
        };
        match self.groups.iter_mut().find(same) {
            Some(group) => group.hosts.push(host.clone()),
            None => self.groups.push(Group { step: step.clone(), end: end.clone(), hosts: vec![host.clone()] }),
        }
    }

    /// The lines, in the order of the steps.
    pub(super) fn lines(&mut self, diff: bool, all: bool) -> Vec<String> {
        self.groups.sort_by_key(|group| group.step.no);
        let shown = self.groups.iter().filter(|group| {
            all || matches!(group.end.outcome, StepOutcome::Changed | StepOutcome::Unknown | StepOutcome::Failed)
        });
        shown.flat_map(|group| group.lines(diff)).collect()
    }

    /// The closing sentence.
    pub(super) fn summary(&self) -> String {
        let (mut changes, mut irreversible, mut unknown, mut failed) = (0, 0, 0, 0);
        let mut hosts = std::collections::BTreeSet::new();
        for group in &self.groups {
            let count = group.hosts.len();
            changes += group.end.deeds.len() * count;
            irreversible += group.end.deeds.iter().filter(|deed| deed.undo == UndoKind::Irreversible).count() * count;
            unknown += count * usize::from(group.end.outcome == StepOutcome::Unknown);
            failed += count * usize::from(group.end.outcome == StepOutcome::Failed);
            if !group.end.deeds.is_empty() {
                hosts.extend(group.hosts.iter().cloned());
            }
        }
        let mut parts = vec![format!("{changes} to change on {} host{}", hosts.len(), plural(hosts.len()))];
        if irreversible > 0 {
            parts.push(paint(mark::FAILED, &format!("{irreversible} CANNOT BE UNDONE")));
        }
        if unknown > 0 {
            parts.push(format!("{unknown} known only when applied"));
        }
        if failed > 0 {
            parts.push(paint(mark::FAILED, &format!("{failed} would fail")));
        }
        format!("{} {}", paint(mark::STRONG, "Plan:"), parts.join(", "))
    }
}

impl Group {
    fn lines(&self, diff: bool) -> Vec<String> {
        let (sign, style) = match self.end.outcome {
            StepOutcome::Changed => ("~", mark::CHANGED),
            StepOutcome::Unknown => ("?", mark::CHANGED),
            StepOutcome::Failed => ("!", mark::FAILED),
            StepOutcome::Ok => ("=", mark::FINE),
            StepOutcome::Skipped => ("-", mark::FAINT),
        };
        let name = clean::line(&self.step.name);
        let mut lines = vec![format!("{} {}  {}", paint(style, sign), paint(mark::STRONG, &name), names(&self.hosts))];
        lines.extend(self.end.message.iter().map(|message| format!("    {}", clean::line(message))));
        for report in &self.end.deeds {
            let undo = paint(
                if report.undo == UndoKind::Irreversible { mark::FAILED } else { mark::FAINT },
                &format!("[{}]", deed::undo(report.undo)),
            );
            lines.push(format!("    {}  {undo}", deed::words(report)));
            if diff {
                lines.extend(diff_lines(report.diff.as_deref()));
            }
        }
        lines
    }
}

/// A unified diff, indented and coloured.
pub(super) fn diff_lines(diff: Option<&str>) -> Vec<String> {
    let paint_line = |line: String| {
        let style = match line.as_bytes().first() {
            Some(b'+') => mark::FINE,
            Some(b'-') => mark::FAILED,
            _ => mark::FAINT,
        };
        format!("      {}", paint(style, &line))
    };
    diff.map(|diff| clean::lines(diff).map(paint_line).collect()).unwrap_or_default()
}

/// Host names, the first few by name.
pub(super) fn names(hosts: &[HostName]) -> String {
    const SHOWN: usize = 5;
    let mut names: Vec<String> = hosts.iter().take(SHOWN).map(|host| clean::line(host.as_str())).collect();
    if hosts.len() > SHOWN {
        names.push(format!("and {} more", hosts.len() - SHOWN));
    }
    names.join(", ")
}

pub(super) fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
