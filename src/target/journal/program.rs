//! The program that a run has at work. An agent that is killed leaves it behind, and it would go on changing the machine:
//! so whoever takes the run up ends it first.
//!
//! It is known by a variable of its environment, which says for which entry it was started, and whether on the way back.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::{
    model::{event::Undone, lease::Lease},
    target::journal::story::{Status, Story},
};

/// The variable.
pub(in crate::target) const MARK: &str = "ROLLBOOK_DEED";

/// How long it may take to end by itself after SIGTERM, and after SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// How often it is looked at meanwhile.
const GLANCE: Duration = Duration::from_millis(50);

/// What the variable says.
pub(super) fn mark(lease: &Lease, entry: u32, back: bool) -> String {
    format!("{}{entry}{}", of_run(lease), if back { BACK } else { "" })
}

/// What it begins with. The run's id is the controller's; with the time it is the only one on this machine.
fn of_run(lease: &Lease) -> String {
    format!("{}@{}:", lease.bid.run, lease.since.0)
}

/// What it ends with on the way back.
const BACK: &str = ":back";

/// Ends what a run that was cut off has left at work. What a deed has started that was done whole is not among it, nor
/// what has gone into a session of its own, as services do.
pub(super) fn end(story: &Story) {
    let Some(run) = story.opened.as_ref().map(|opened| of_run(&opened.lease)) else { return };
    for signal in [Signal::TERM, Signal::KILL] {
        let until = Instant::now() + GRACE;
        for group in left_behind(&run, story) {
            let _already_gone = kill_process_group(group, signal);
        }
        while !left_behind(&run, story).is_empty() && Instant::now() < until {
            thread::sleep(GLANCE);
        }
    }
}

/// The process groups of what is left at work.
fn left_behind(run: &str, story: &Story) -> Vec<Pid> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let folders = processes.flatten().map(|entry| entry.path());
    let is_left = |folder: &PathBuf| {
        let environment = fs::read(folder.join("environ")).unwrap_or_default();
        let said = environment.split(|byte| *byte == 0).find_map(|line| line.strip_prefix(MARK.as_bytes()));
        said.and_then(|said| std::str::from_utf8(said).ok()).is_some_and(|said| is_cut_off(said, run, story))
    };
    folders.filter(is_left).filter_map(|folder| group(&folder)).collect()
}

/// Whether `=RUN@SINCE:ENTRY` or `=RUN@SINCE:ENTRY:back` names what was not done whole.
fn is_cut_off(said: &str, run: &str, story: &Story) -> bool {
    let Some(entry) = said.strip_prefix('=').and_then(|said| said.strip_prefix(run)) else { return false };
    let forth = entry.strip_suffix(BACK);
    let no = forth.unwrap_or(entry).parse::<usize>().ok();
    match (no.and_then(|no| story.entries.get(no)), forth) {
        (Some((_, status)), None) => *status == Status::Armed,
        (Some((_, status)), Some(_)) => *status != Status::Undone(Undone::Undone),
        (None, _) => false,
    }
}

/// The process group of a process, unless it is in a session of its own (proc_pid_stat(5)).
fn group(process: &Path) -> Option<Pid> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    let mut words = stat.rsplit_once(')')?.1.split_whitespace().skip(2);
    let (group, session) = (words.next()?, words.next()?);
    (group != session).then(|| Pid::from_raw(group.parse().ok()?)).flatten()
}
