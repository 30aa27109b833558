//! The hash chain: each entry's hash covers its own bytes and the hash before it.

use serde::Deserialize;

use crate::{
    base::{Digest, Timestamp, digest::Hasher},
    model::ids::RunId,
};

/// What every hash begins with, so that no other program's bytes can be taken for an entry.
const DOMAIN: &[u8] = b"rollbook-record-v1\0";

/// What stands before the genesis entry.
pub(super) const NOTHING: Digest = Digest([0; 32]);

/// An entry as it is stored: its bytes, and the columns by which it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub seq: u64,
    /// Its run; empty for the genesis entry.
    pub run: String,
    /// Its event's word.
    pub kind: String,
    /// When.
    pub at: Timestamp,
    /// The event's JSON, as it is hashed.
    pub body: Vec<u8>,
    /// Its hash.
    pub hash: Digest,
}

/// What an entry's bytes say about the columns beside them. Everything else in them is passed over.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Tags {
    pub(super) at: Timestamp,
    #[serde(default)]
    pub(super) run: Option<RunId>,
    pub(super) event: String,
}

impl Tags {
    /// Reads the tags of an entry's bytes; why that cannot be done otherwise.
    pub(super) fn read(body: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }

    /// The run's column.
    pub(super) fn run(&self) -> &str {
        self.run.as_ref().map_or("", RunId::as_str)
    }
}

/// The first entry of a store.
#[derive(Debug, Deserialize)]
pub(super) struct Genesis {
    pub(super) store: String,
}

/// The hash of an entry: over the domain, the hash before it, its number, the length of its bytes, and its bytes.
pub(super) fn hash(before: &Digest, seq: u64, body: &[u8]) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(DOMAIN);
    hasher.update(&before.0);
    hasher.update(&seq.to_le_bytes());
    hasher.update(&(body.len() as u64).to_le_bytes());
    hasher.update(body);
    hasher.finish().0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_covers_everything() {
        let base = hash(&NOTHING, 1, b"body");
        assert_eq!(base, hash(&NOTHING, 1, b"body"));
        for other in [hash(&base, 1, b"body"), hash(&NOTHING, 2, b"body"), hash(&NOTHING, 1, b"Body")] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn the_hash_is_the_one_that_the_docs_describe() {
        let mut bytes = b"rollbook-record-v1\0".to_vec();
        bytes.extend([0; 32]);
        bytes.extend([7, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([2, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(b"{}");
        assert_eq!(hash(&NOTHING, 7, b"{}"), Digest::of(&bytes));
    }
}
