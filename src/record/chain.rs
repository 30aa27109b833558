//! The hash chain: each entry's hash covers its own bytes and the hash before it.

use crate::base::{Digest, digest::Hasher};

/// What every hash begins with, so that no other program's bytes can be taken for an entry.
const DOMAIN: &[u8] = b"rollbook-record-v1\0";

/// The chain at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The store's random id.
    pub store: String,
    /// The number of the last entry; 0 is the genesis entry.
    pub seq: u64,
    /// That entry's hash.
    pub hash: Digest,
}

/// An entry as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub seq: u64,
    /// Its run; empty for the genesis entry.
    pub run: String,
    /// Its event's word.
    pub kind: String,
    /// When, in microseconds since 1970 UTC.
    pub at: i64,
    /// The event's JSON, as it is hashed.
    pub body: Vec<u8>,
    /// Its hash.
    pub hash: Digest,
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

/// What stands before the genesis entry.
pub(super) const NOTHING: Digest = Digest([0; 32]);
