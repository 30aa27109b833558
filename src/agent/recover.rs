//! A run that was cut off is settled: everything goes back to how it was before it.

use std::io::Write;

use crate::{
    agent::{Machine, unwind::WayBack, voice::Voice},
    model::event::{Counts, HostOutcome},
    target::Blobs,
    wire::{FromAgent, message::Closed},
};

/// Settles the run that was found open, if there is one.
pub(super) fn recover<W: Write>(machine: &Machine, voice: &mut Voice<W>) {
    let probe = &machine.probe;
    let taken = machine.store.take_up();
    let closed = match taken {
        Err(fault) => closed(HostOutcome::Failed, 0, Some(fault.to_string())),
        Ok(None) => closed(HostOutcome::Succeeded, 0, Some("no run is open on this host".into())),
        Ok(Some(mut journal)) => {
            probe.running().shield();
            let run = journal.run().clone();
            let blobs = Blobs::default();
            let settled = WayBack::of(probe, &blobs, &mut journal, voice).go();
            // What the agent that was cut off had left to the kernel is brought onto the disk with the rest.
            rustix::fs::sync();
            let (outcome, left) = settled.settle(&mut journal, probe);
            probe.running().resume();
            let message = left.map_or_else(|| format!("run {run} is settled"), |left| format!("run {run}: {left}"));
            closed(outcome, settled.undone, Some(message))
        }
    };
    voice.say(FromAgent::Closed(closed));
}

fn closed(outcome: HostOutcome, undone: u32, message: Option<String>) -> Closed {
    Closed { outcome, counts: Counts { undone, ..Counts::default() }, message }
}
