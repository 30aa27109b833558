//! A run that was cut off is settled: everything goes back to how it was before it.

use std::io::Write;

use crate::{
    agent::{Machine, unwind::WayBack, voice::Voice},
    base::point::fault,
    model::{
        change::{Change, Deed},
        event::{Counts, HostOutcome},
        ids::RunId,
        state::Resource,
    },
    target::{Blobs, Journal, journal::JournalFault},
    wire::{
        FromAgent,
        message::{ATTEMPTS_MAX, Closed, Settle},
    },
};

/// Settles what was left open when the machine went down. The error says what is left.
pub(super) fn at_boot(machine: &Machine) -> std::io::Result<()> {
    fault!("boot.begun");
    let closed = settled(machine, None, Settle::Back);
    fault!("boot.settled");
    machine.store.forget_boot().map_err(std::io::Error::other)?;
    fault!("boot.forgotten");
    match closed.outcome {
        HostOutcome::Succeeded | HostOutcome::RolledBack => Ok(()),
        _ => Err(std::io::Error::other(closed.message.unwrap_or_default())),
    }
}

/// Settles the run that is open, if there is one, and tells nobody of each deed.
pub(super) fn settled(machine: &Machine, run: Option<&RunId>, how: Settle) -> Closed {
    let mut nobody = Voice::begin(std::io::sink(), machine.probe.running().clone());
    settle_open(machine, &mut nobody, run, how)
}

/// Settles the run that is open, if there is one and it is the one that is meant.
pub(super) fn recover<W: Write>(machine: &Machine, voice: &mut Voice<W>, run: Option<&RunId>, how: Settle) {
    let closed = settle_open(machine, voice, run, how);
    voice.say(FromAgent::Closed(closed));
}

/// The same of a run that is at work.
pub(super) fn steal<W: Write>(machine: &Machine, voice: &mut Voice<W>, run: &RunId, words: &str) {
    let closed = settle_found(machine, voice, Some(run), Settle::Back, || machine.store.take_over(run, words));
    voice.say(FromAgent::Closed(closed));
}

fn settle_open<W: Write>(machine: &Machine, voice: &mut Voice<W>, run: Option<&RunId>, how: Settle) -> Closed {
    settle_found(machine, voice, run, how, || machine.store.take_up(run))
}

fn settle_found<W: Write>(
    machine: &Machine,
    voice: &mut Voice<W>,
    run: Option<&RunId>,
    how: Settle,
    take: impl FnOnce() -> Result<Option<Journal>, JournalFault>,
) -> Closed {
    fault!("recover.begun");
    let closed = match take() {
        // Its own agent is at work, or another recovery: that one will settle it.
        Err(fault @ JournalFault::Held { .. }) => closed(HostOutcome::Failed, 0, fault.to_string()),
        // A run is open, and stays so.
        Err(fault) => closed(HostOutcome::NeedsRecovery, 0, fault.to_string()),
        Ok(None) => match run.map(|run| machine.store.outcome(run)) {
            Some(Err(fault)) => closed(HostOutcome::NeedsRecovery, 0, fault.to_string()),
            Some(Ok(ended)) => ended_before(ended.unwrap_or(HostOutcome::NotStarted)),
            None => ended_before(HostOutcome::Succeeded),
        },
        Ok(Some(mut journal)) => settle(machine, voice, &mut journal, how),
    };
    fault!("recover.settled");
    closed
}

fn settle<W: Write>(machine: &Machine, voice: &mut Voice<W>, journal: &mut Journal, how: Settle) -> Closed {
    let tried = journal.attempts();
    match how {
        Settle::Back if tried.count >= ATTEMPTS_MAX => {
            let message = format!("{} attempts to put it back were in vain: {}", tried.count, tried.message);
            closed(HostOutcome::NeedsRecovery, 0, message)
        }
        Settle::Back | Settle::BackAgain => go_back(machine, voice, journal),
        Settle::AsItIs => match leave(machine, journal) {
            Ok(()) => {
                let run = journal.run();
                closed(HostOutcome::Succeeded, 0, format!("run {run} is settled as it is, and nothing was put back"))
            }
            Err(fault) => closed(HostOutcome::NeedsRecovery, 0, fault.to_string()),
        },
    }
}

fn go_back<W: Write>(machine: &Machine, voice: &mut Voice<W>, journal: &mut Journal) -> Closed {
    let probe = &machine.probe;
    probe.running().shield();
    // Where the disk takes no more records, closing the journal will tell.
    let _the_disk_has_failed = journal.attempt();
    let settled = WayBack::of(probe, &Blobs::default(), journal, voice).after_a_cut().go(&|_| true);
    // What the agent that was cut off had left to the kernel is brought onto the disk with the rest.
    fault!("recover.back");
    rustix::fs::sync();
    let (outcome, left) = settled.settle(journal, probe);
    // Who has asked meanwhile for a run to be stopped that waits for this one is still to be heard.
    probe.running().unshield();
    let run = journal.run();
    let message = left.map_or_else(|| format!("run {run} is settled"), |left| format!("run {run}: {left}"));
    closed(outcome, settled.undone, message)
}

/// Leaves everything as it is, but for files that have only a temporary name of ours: those were never anybody's.
fn leave(machine: &Machine, journal: &mut Journal) -> Result<(), JournalFault> {
    fault!("recover.as_it_is");
    let blobs = Blobs::default();
    for (entry, _) in journal.entries() {
        if let Deed::Change(Change { resource: Resource::Path(path), .. }) = &entry.deed {
            // Where it cannot be removed, its name says whose it is.
            let _stays = journal.tools_back(&machine.probe, &blobs, &[entry.no]).clear_temporary(path);
        }
    }
    rustix::fs::sync();
    journal.close(&machine.probe, HostOutcome::NeedsRecovery, None)
}

/// Nothing that is meant is open.
fn ended_before(outcome: HostOutcome) -> Closed {
    Closed { outcome, counts: Counts::default(), message: None }
}

fn closed(outcome: HostOutcome, undone: u32, message: String) -> Closed {
    Closed { outcome, counts: Counts { undone, ..Counts::default() }, message: Some(message) }
}
