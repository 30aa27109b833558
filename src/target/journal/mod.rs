//! The way back: the write-ahead list of a run's deeds on the target's disk (docs/journal-format.md).

/// The journal of one run.
#[derive(Debug)]
pub struct Journal {}
