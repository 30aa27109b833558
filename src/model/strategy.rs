//! How a runbook goes through its hosts: in which batches, when it stops, and what goes back with what.

use serde::{Deserialize, Serialize};

use crate::model::runbook::Placed;

/// What stands under `strategy:`.
#[derive(Clone, Debug, Default)]
pub struct Strategy {
    /// The sizes of the batches, in order; the last one repeats. All hosts at once where there are none.
    pub batches: Vec<Share>,
    /// So many failed hosts stop the run. Where it is not given: the first, if there are batches; else none does.
    pub max_failures: Option<Share>,
    /// What a host does at its first failure.
    pub on_failure: OnFailure,
    /// What goes back together when too many hosts have failed.
    pub rollback: Scope,
    /// Milliseconds that a batch which has done its steps is left to itself before it is judged.
    pub bake_ms: u64,
    /// Milliseconds that a host which has lost its controller waits for one before it undoes the run; 120 s where it is not
    /// given.
    pub grace_ms: Option<u64>,
    /// The dead man's switch.
    pub confirm: Option<Confirm>,
}

/// What is done becomes final only if the host can still be reached.
#[derive(Clone, Debug)]
pub struct Confirm {
    /// Milliseconds within which a new connection must come.
    pub within_ms: u64,
    /// Where to: a template. The host's address where it is not given.
    pub via: Option<Placed<String>>,
}

/// What to do at the first failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Undo what was done, newest first.
    #[default]
    Rollback,
    /// Leave everything as it is.
    Stop,
    /// Leave everything as it is and go on with the next step; the host has failed all the same.
    Continue,
}

/// So many hosts, or so many of a hundred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Hosts.
    Count(u32),
    /// Hundredths of all hosts, rounded up.
    Percent(u32),
}

/// What goes back together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Each host that failed, alone.
    #[default]
    Host,
    /// All hosts of its batch.
    Batch,
    /// All hosts of the run, the newest batch first.
    Run,
}

impl Share {
    /// How many that is of `all`, at least one.
    pub fn of(self, all: usize) -> usize {
        let count = match self {
            Share::Count(count) => count as usize,
            Share::Percent(percent) => (all * percent as usize).div_ceil(100),
        };
        count.max(1)
    }
}

impl Confirm {
    /// Within how many milliseconds, as the agent is told.
    pub fn within_ms(&self) -> u32 {
        u32::try_from(self.within_ms).unwrap_or(u32::MAX)
    }
}

impl Strategy {
    /// Cuts `all` hosts into batches: how many each has.
    pub fn cut(&self, all: usize) -> Vec<usize> {
        let (mut sizes, mut left) = (Vec::new(), all);
        while left > 0 {
            let share = self.batches.get(sizes.len()).or(self.batches.last());
            let size = share.map_or(left, |share| share.of(all)).min(left);
            sizes.push(size);
            left -= size;
        }
        sizes
    }

    /// So many failures of `all` hosts stop the run.
    pub fn failures_max(&self, all: usize) -> usize {
        match self.max_failures {
            Some(share) => share.of(all),
            None if self.batches.is_empty() => usize::MAX,
            None => 1,
        }
    }

    /// Whether a host that has done its steps waits for the others before they become final.
    pub fn waits(&self) -> bool {
        self.rollback != Scope::Host || self.bake_ms > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_is_in_one_batch() {
        let cut = |batches: &[Share], all| Strategy { batches: batches.to_vec(), ..Strategy::default() }.cut(all);
        assert_eq!(cut(&[], 7), [7]);
        assert_eq!(cut(&[], 0), [0; 0]);
        assert_eq!(cut(&[Share::Count(1), Share::Percent(25), Share::Percent(100)], 10), [1, 3, 6]);
        assert_eq!(cut(&[Share::Count(2)], 5), [2, 2, 1]);
        assert_eq!(cut(&[Share::Percent(1)], 3), [1, 1, 1]);
    }

    #[test]
    fn so_many_failures_stop_it() {
        let max = |max_failures, batches: &[Share]| {
            Strategy { max_failures, batches: batches.to_vec(), ..Strategy::default() }.failures_max(10)
        };
        assert_eq!(max(None, &[]), usize::MAX);
        assert_eq!(max(None, &[Share::Count(1)]), 1);
        assert_eq!(max(Some(Share::Count(0)), &[]), 1);
        assert_eq!(max(Some(Share::Count(3)), &[]), 3);
        assert_eq!(max(Some(Share::Percent(25)), &[]), 3);
    }
}
