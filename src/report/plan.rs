//! The plan's view: what would change, identical changes of many hosts together.

use std::collections::{BTreeSet, HashMap};

use crate::{
    base::Digest,
    model::{
        change::UndoKind,
        event::{StepEnd, StepLabel, StepOutcome},
        ids::{HostName, TaskNo},
    },
    report::{
        change, deed,
        line::{Line, Mark},
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
    places: HashMap<(TaskNo, Digest), usize>,
    /// Steps that would change something, each host's counted.
    changed: usize,
    changed_hosts: BTreeSet<HostName>,
    irreversible: usize,
    unknown: usize,
    failed: usize,
}

impl Planned {
    /// Takes in how a step ended on a host. Of steps that change nothing the names are kept only where `all` are to
    /// be shown.
    pub(super) fn add(&mut self, host: &HostName, step: &StepLabel, end: &StepEnd, all: bool) {
        match end.outcome {
            StepOutcome::Changed => {
                self.changed += 1;
                self.changed_hosts.insert(host.clone());
            }
            StepOutcome::Unknown => self.unknown += 1,
            StepOutcome::Failed => self.failed += 1,
            StepOutcome::Ok | StepOutcome::Skipped if !all => return,
            StepOutcome::Ok | StepOutcome::Skipped => {}
        }
        self.irreversible += irreversible(end).count();
        let key = (step.no, likeness(step, end));
        let place = *self.places.entry(key).or_insert_with(|| {
            self.groups.push(Group { step: step.clone(), end: end.clone(), hosts: Vec::new() });
            self.groups.len() - 1
        });
        self.groups[place].hosts.push(host.clone());
    }

    /// The lines, in the order of the steps; of an undo, which goes newest first, in the order in which it was told. `total` is the number of hosts of the plan.
    pub(super) fn lines(&self, diff: bool, total: usize, newest_first: bool) -> Vec<Line> {
        let mut groups: Vec<&Group> = self.groups.iter().collect();
        if !newest_first {
            groups.sort_by_key(|group| group.step.no);
        }
        let mut lines: Vec<Line> = groups.iter().flat_map(|group| group.lines(diff, total)).collect();
        lines.extend(warnings(&groups, total));
        lines
    }

    /// The closing sentence.
    pub(super) fn summary(&self) -> Line {
        let hosts = self.changed_hosts.len();
        let line = Line::default().put(Mark::Strong, "Plan:");
        let line = line.put(Mark::Plain, &format!(" {} to change on {hosts} host{}, ", self.changed, plural(hosts)));
        let mut line = match self.irreversible {
            0 => line.put(Mark::Plain, "0 cannot be undone"),
            count => line.put(Mark::Alarm, &format!("{count} CANNOT BE UNDONE")),
        };
        if self.unknown > 0 {
            line = line.put(Mark::Changed, &format!(", {} known only when applied", self.unknown));
        }
        if self.failed > 0 {
            line = line.put(Mark::Alarm, &format!(", {} would FAIL", self.failed));
        }
        line
    }
}

/// What makes the ends of a step on two hosts the same to a reader.
fn likeness(step: &StepLabel, end: &StepEnd) -> Digest {
    let StepEnd { outcome, deeds, output: _, message, attempts: _, took_us: _ } = end;
    let seen = (&step.name, outcome, deeds, message);
    Digest::of(&serde_json::to_vec(&seen).expect("an event's parts are plain data"))
}

fn irreversible(end: &StepEnd) -> impl Iterator<Item = &crate::model::change::DeedReport> {
    end.deeds.iter().filter(|report| report.undo == UndoKind::Irreversible)
}

/// Once more, right above the question: what nothing undoes.
fn warnings(groups: &[&Group], total: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    for group in groups {
        for report in irreversible(&group.end) {
            let line = Line::of("  ").put(Mark::Strong, &group.step.name).column(Mark::Plain, &deed::resource(report));
            lines.push(line.column(Mark::Plain, &format!("on {}", hosts_words(&group.hosts, total))));
        }
    }
    if !lines.is_empty() {
        lines.insert(0, Line::default().put(Mark::Alarm, "CANNOT BE UNDONE:"));
    }
    lines
}

impl Group {
    fn lines(&self, diff: bool, total: usize) -> Vec<Line> {
        let (mark, sign, word) = match self.end.outcome {
            StepOutcome::Failed => (Mark::Alarm, "!", "would FAIL"),
            other => change::signs(other),
        };
        let head = Line::default().put(mark, sign).put(Mark::Plain, " ").put(Mark::Strong, &self.step.name);
        let place = format!("({} at {})", self.step.kind, self.step.place);
        let head = head.column(mark, word).column(Mark::Plain, &hosts_words(&self.hosts, total));
        let mut lines = vec![head.column(Mark::Faint, &place)];
        let message = self.end.message.as_deref().unwrap_or_default();
        lines.extend(message.lines().map(|line| Line::of(&format!("    {line}"))));
        for report in &self.end.deeds {
            let ((mark, sign), (undo_mark, undo)) = (deed::sign(report), deed::undo(report.undo));
            let line = Line::of("    ").put(mark, sign).put(Mark::Plain, " ").join(deed::words(report));
            lines.push(line.column(undo_mark, undo));
            if diff {
                lines.extend(deed::diff(report, "        "));
            }
        }
        lines
    }
}

/// Host names, the first few by name; `total` is how many there are in all.
pub(super) fn hosts_words(hosts: &[HostName], total: usize) -> String {
    const SHOWN: usize = 5;
    if hosts.len() == total && total > 1 {
        return format!("all {total} hosts");
    }
    let names: Vec<&str> = hosts.iter().take(SHOWN).map(HostName::as_str).collect();
    match hosts.len().saturating_sub(SHOWN) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

pub(super) fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
