//! Blocks: a savepoint, what undoes a block that fails, and what is skipped then.

use std::{collections::BTreeSet, io::Write, mem};

use crate::{
    agent::{
        serve::Run,
        unwind::{Settled, WayBack},
    },
    model::runbook::Mark,
    resources::view::Overlay,
    target::journal::Entry,
};

/// A block that has begun.
#[derive(Debug)]
pub(super) struct Block {
    part: Part,
    state: State,
    /// How many entries the journal had when it began.
    savepoint: u32,
    /// Handlers that were woken before it began.
    woken: BTreeSet<u32>,
    /// In a plan: what the steps before it would have done.
    overlay: Overlay,
}

/// Which tasks of a block come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Body,
    Rescue,
    Always,
}

/// How a block stands. Where it is not whole, what it did is undone.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Whole,
    /// Its body has failed; one sentence that says how.
    Broken(String),
    /// Its rescue is at work, or has nothing to do.
    InRescue {
        why: String,
        begun: bool,
    },
    /// Its rescue has failed, or its `always`.
    Lost(String),
}

impl Block {
    /// Whether tasks of its part are left out now, and why.
    fn skips(&self) -> Option<&'static str> {
        match (self.part, &self.state) {
            (Part::Body, State::Whole) | (Part::Rescue, State::InRescue { .. }) => None,
            (Part::Body, _) => Some("its block has failed"),
            (Part::Rescue, State::Whole) => Some("there is nothing to rescue"),
            (Part::Rescue, _) => Some("the rescue has failed"),
            (Part::Always, _) => None,
        }
    }
}

impl<W: Write> Run<'_, W> {
    /// Why the task at hand is left out, if it is: it stands in a part of a block that is not its turn.
    pub(super) fn left_out(&mut self) -> Option<&'static str> {
        let why = self.blocks.iter().find_map(Block::skips);
        if why.is_none() {
            for block in &mut self.blocks {
                if let (Part::Rescue, State::InRescue { begun, .. }) = (block.part, &mut block.state) {
                    *begun = true;
                }
            }
        }
        why
    }

    /// Whether tasks are left out now.
    pub(super) fn is_leaving_out(&self) -> bool {
        self.blocks.iter().any(|block| block.skips().is_some())
    }

    /// A block begins, goes on to another part, or ends. The error is a failure that no block around it has taken on.
    pub(super) fn mark(&mut self, mark: Mark) -> Result<(), String> {
        if mark == Mark::Begin {
            let savepoint = self.journal.as_ref().map_or(0, |journal| journal.entries().len());
            self.blocks.push(Block {
                part: Part::Body,
                state: State::Whole,
                savepoint: u32::try_from(savepoint).expect("entries are counted in u32"),
                woken: self.woken.clone(),
                overlay: self.overlay.clone(),
            });
            return Ok(());
        }
        let Some(block) = self.blocks.last_mut() else { return Ok(()) };
        block.state = match (mark, mem::replace(&mut block.state, State::Whole)) {
            (Mark::Rescue, State::Broken(why)) => State::InRescue { why, begun: false },
            (_, State::InRescue { begun: true, .. }) => State::Whole,
            (_, State::InRescue { why, .. }) => State::Broken(why),
            (_, state) => state,
        };
        block.part = if mark == Mark::Rescue { Part::Rescue } else { Part::Always };
        if mark != Mark::End {
            return Ok(());
        }
        match self.blocks.pop().map(|block| block.state) {
            Some(State::Broken(why) | State::Lost(why)) => self.fails(why),
            _ => Ok(()),
        }
    }

    /// Something failed: the innermost block is undone, and its rescue may follow. The error is the failure again where
    /// there is no block, or where it cannot be undone.
    pub(super) fn fails(&mut self, why: String) -> Result<(), String> {
        let running = self.machine.probe.running().clone();
        let Some(block) = self.blocks.last_mut() else { return Err(why) };
        if running.is_stopped() {
            return Err(why);
        }
        let state = if block.part == Part::Body { State::Broken } else { State::Lost };
        block.state = state(why.clone());
        self.woken.clone_from(&block.woken);
        self.overlay.clone_from(&block.overlay);
        let savepoint = block.savepoint;
        let settled = self.back(&|entry| entry.no >= savepoint);
        match settled.left() {
            Some(left) if !settled.is_back() => Err(format!("{why}; and of its block, {left}")),
            _ => Ok(()),
        }
    }

    /// Undoes a part of what was done, and can go on then.
    pub(super) fn back(&mut self, part: &dyn Fn(&Entry) -> bool) -> Settled {
        let running = self.machine.probe.running().clone();
        self.seen.forget();
        let _the_disk_has_failed = self.ground();
        let Some(journal) = &mut self.journal else { return Settled::default() };
        running.shield();
        let settled = WayBack::of(&self.machine.probe, &self.blobs, journal, self.voice).go(part);
        running.unshield();
        self.counts.undone += settled.undone;
        settled
    }
}
