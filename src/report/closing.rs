//! The end of a run: what is left to do, a table of the hosts, and one sentence.

use std::collections::BTreeMap;

use crate::{
    base::Fault,
    model::{
        event::{Counts, HostOutcome, RunOutcome},
        ids::HostName,
    },
    report::{
        failure,
        line::{Line, Mark},
        plan::{hosts_words, plural},
        table::Table,
        time,
    },
};

/// Hosts up to which the table has a row for each; above, equal rows are one.
const ROWS_MAX: usize = 30;

/// A host that is finished with.
#[derive(Clone, Debug)]
pub(super) struct EndedHost {
    pub(super) name: HostName,
    pub(super) outcome: HostOutcome,
    pub(super) counts: Counts,
    /// Why, as far as it was not said already.
    pub(super) fault: Option<Fault>,
    /// What could not be put back, a line each.
    pub(super) left: Vec<Line>,
}

/// What nobody has said yet: why hosts ended as they did, and what is left on them.
pub(super) fn troubles(hosts: &[EndedHost]) -> Vec<Line> {
    let mut lines = Vec::new();
    for (fault, names) in by_fault(hosts) {
        let head = Line::default().put(Mark::Alarm, "! ").put(Mark::Plain, &hosts_words(&names, usize::MAX));
        lines.push(head.column(Mark::Plain, &fault.message));
        lines.extend(failure::details(fault));
    }
    for host in hosts.iter().filter(|host| !host.left.is_empty()) {
        let count = host.left.len();
        let words = format!("{count} change{} could not be put back:", plural(count));
        lines.push(
            Line::default().put(Mark::Alarm, "! ").put(Mark::Plain, host.name.as_str()).column(Mark::Alarm, &words),
        );
        lines.extend(host.left.iter().map(|line| Line::of("    ").join(line.clone())));
    }
    lines
}

/// Hosts with the same fault together, in the order of the first.
fn by_fault(hosts: &[EndedHost]) -> Vec<(&Fault, Vec<HostName>)> {
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut grouped: Vec<(&Fault, Vec<HostName>)> = Vec::new();
    for host in hosts {
        let Some(fault) = &host.fault else { continue };
        let place = *places.entry(fault.to_string()).or_insert_with(|| {
            grouped.push((fault, Vec::new()));
            grouped.len() - 1
        });
        grouped[place].1.push(host.name.clone());
    }
    grouped
}

/// The table. Above [`ROWS_MAX`] hosts, those with equal rows share one, the worst outcome first.
pub(super) fn table(hosts: &[EndedHost]) -> Vec<Line> {
    let mut table = Table::new(&["host", "ok", "changed", "skipped", "failed", "undone", "outcome"]);
    table.numbers(1..6);
    if hosts.len() <= ROWS_MAX {
        hosts.iter().for_each(|host| table.marked_row(cells(host.name.as_str(), host.outcome, &host.counts)));
        return table.lines();
    }
    let mut groups: BTreeMap<(u8, [u32; 5]), Vec<&EndedHost>> = BTreeMap::new();
    for host in hosts {
        groups.entry((severity(host.outcome), numbers(&host.counts))).or_default().push(host);
    }
    for group in groups.values() {
        let names: Vec<HostName> = group.iter().map(|host| host.name.clone()).collect();
        table.marked_row(cells(&hosts_words(&names, hosts.len()), group[0].outcome, &group[0].counts));
    }
    table.lines()
}

fn cells(name: &str, outcome: HostOutcome, counts: &Counts) -> Vec<(Mark, String)> {
    let mut cells = vec![(Mark::Plain, name.to_owned())];
    cells.extend(
        numbers(counts).map(|number| (if number == 0 { Mark::Faint } else { Mark::Plain }, number.to_string())),
    );
    let mark = if outcome == HostOutcome::Succeeded { Mark::Fine } else { Mark::Alarm };
    cells.push((mark, host_words(outcome).to_owned()));
    cells
}

fn numbers(counts: &Counts) -> [u32; 5] {
    let Counts { ok, changed, skipped, failed, unknown: _, undone } = *counts;
    [ok, changed, skipped, failed, undone]
}

/// The worst first.
fn severity(outcome: HostOutcome) -> u8 {
    match outcome {
        HostOutcome::NeedsRecovery => 0,
        HostOutcome::Unknown => 1,
        HostOutcome::Failed => 2,
        HostOutcome::RolledBack => 3,
        HostOutcome::Unreachable => 4,
        HostOutcome::NotStarted => 5,
        HostOutcome::Succeeded => 6,
    }
}

/// A host's outcome in words.
pub(super) fn host_words(outcome: HostOutcome) -> &'static str {
    match outcome {
        HostOutcome::Succeeded => "succeeded",
        HostOutcome::RolledBack => "failed, rolled back",
        HostOutcome::Failed => "FAILED",
        HostOutcome::NeedsRecovery => "NEEDS RECOVERY",
        HostOutcome::Unreachable => "unreachable",
        HostOutcome::Unknown => "UNKNOWN, the line was lost",
        HostOutcome::NotStarted => "not started",
    }
}

/// A run's outcome in words.
pub fn run_words(outcome: RunOutcome) -> &'static str {
    match outcome {
        RunOutcome::Succeeded => "succeeded",
        RunOutcome::RolledBack => "rolled back",
        RunOutcome::Failed => "failed",
        RunOutcome::NeedsRecovery => "NEEDS RECOVERY",
    }
}

/// The last sentence: the run, how it ended, and what that means for the hosts.
pub(super) fn sentence(
    run: &str,
    outcome: RunOutcome,
    hosts: &BTreeMap<HostOutcome, u32>,
    counts: &Counts,
    took_ms: u64,
) -> Line {
    let mark = if outcome == RunOutcome::Succeeded { Mark::Fine } else { Mark::Alarm };
    let words = match outcome {
        RunOutcome::Succeeded => format!("succeeded, {} changed", counts.changed),
        RunOutcome::RolledBack => rolled_back(hosts),
        RunOutcome::Failed => format!("FAILED: {}", hosts_by_outcome(hosts)),
        RunOutcome::NeedsRecovery => format!("NEEDS RECOVERY: {}", hosts_by_outcome(hosts)),
    };
    Line::of(&format!("run {run}: ")).put(mark, &words).put(Mark::Faint, &format!("  ({})", time::span(took_ms)))
}

/// Everything that was done on failed hosts is undone; the others may keep their changes.
fn rolled_back(hosts: &BTreeMap<HostOutcome, u32>) -> String {
    let with = |outcome| hosts.get(&outcome).copied().unwrap_or(0);
    match (with(HostOutcome::RolledBack), with(HostOutcome::Succeeded)) {
        (_, 0) => "failed, rolled back: every host is as it was before".to_owned(),
        (1, kept) => format!("failed, rolled back: 1 host is as it was before, {kept} succeeded"),
        (back, kept) => format!("failed, rolled back: {back} hosts are as they were before, {kept} succeeded"),
    }
}

fn hosts_by_outcome(hosts: &BTreeMap<HostOutcome, u32>) -> String {
    let mut counted: Vec<(HostOutcome, u32)> = hosts.iter().map(|(outcome, count)| (*outcome, *count)).collect();
    counted.sort_by_key(|(outcome, _)| severity(*outcome));
    let words = |(outcome, count): &(HostOutcome, u32)| format!("{count} {}", host_words(*outcome));
    counted.iter().map(words).collect::<Vec<_>>().join("; ")
}
