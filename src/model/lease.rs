//! Who holds a host, and how that stands.

use serde::{Deserialize, Serialize};

use crate::{
    base::{Digest, Timestamp},
    model::ids::RunId,
};

/// Who wants to hold a host, and for what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bid {
    /// The run.
    pub run: RunId,
    /// Who runs it.
    pub operator: String,
    /// Why, if that was said.
    pub reason: Option<String>,
    /// What the run does: equal for two runs of the same command.
    pub job: Option<Digest>,
}

/// Who holds a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who, and for what.
    pub bid: Bid,
    /// Since when, by the target's clock.
    pub since: Timestamp,
    /// The fencing number: each holder has a greater one than those before it.
    pub fence: u64,
}

/// How a run stands that holds a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stand {
    /// Its agent is at work, and its controller there.
    Working,
    /// Its agent is there, and its controller is not: the agent will undo the run by itself.
    Alone {
        /// In so many seconds.
        left_s: u32,
    },
    /// Its agent is gone, and the run was never settled.
    CutOff {
        /// How often putting everything back was tried in vain.
        attempts: u32,
    },
}

/// A run that holds a host, or was never settled there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenRun {
    /// Whose it is.
    pub lease: Lease,
    /// How it stands.
    pub stand: Stand,
}

impl OpenRun {
    /// The run.
    pub fn run(&self) -> &RunId {
        &self.lease.bid.run
    }
}

impl std::fmt::Display for OpenRun {
    /// Whose it is and how it stands, in one sentence.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Lease { bid: Bid { run, operator, reason, .. }, since, .. } = &self.lease;
        write!(f, "run {run} of {operator} ")?;
        match self.stand {
            Stand::Working => f.write_str("is at work on this host")?,
            Stand::Alone { left_s } => {
                write!(f, "has lost its controller on this host, and goes back by itself in {left_s} s")?;
            }
            Stand::CutOff { attempts: 0 } => f.write_str("was cut off on this host, and is not settled")?,
            Stand::CutOff { attempts: 1 } => f.write_str("could not be put back on this host at the first attempt")?,
            Stand::CutOff { attempts } => write!(f, "could not be put back on this host in {attempts} attempts")?,
        }
        write!(f, " (since {:.19}", since.to_string())?;
        match reason {
            Some(reason) => write!(f, ": {reason})"),
            None => f.write_str(")"),
        }
    }
}
