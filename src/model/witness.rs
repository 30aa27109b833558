//! Witnesses: the record's chain as its targets have seen it.

use serde::{Deserialize, Serialize};

use crate::base::Digest;

/// The record's chain at some moment. Kept on every target of a run, so that a cut tail of the record shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// Which store: its random id.
    pub store: String,
    /// The number of the last entry.
    pub seq: u64,
    /// That entry's hash.
    pub hash: Digest,
}
