//! Pieces of contents, packed where that pays: what is not sent need not be encrypted, carried and read.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, de::Error};

use crate::wire::message::CHUNK_BYTES;

/// What is shorter than this is not packed.
#[cfg(feature = "controller")]
const PACKED_FROM_BYTES: usize = 256;

/// Bytes of a content. They travel as they are or packed; who hears them has them as they are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Piece {
    /// As they are.
    Plain(#[serde(serialize_with = "super::bytes::serialize")] Vec<u8>),
    /// As a block of LZ4.
    Packed {
        /// How many bytes are in it; at most [`CHUNK_BYTES`].
        bytes: u32,
        /// The block; also one that goes to several hosts.
        #[serde(serialize_with = "super::bytes::serialize")]
        block: Arc<[u8]>,
    },
}

/// What is heard.
#[derive(Deserialize)]
enum Heard {
    Plain(#[serde(deserialize_with = "super::bytes::deserialize")] Vec<u8>),
    Packed {
        bytes: u32,
        #[serde(deserialize_with = "super::bytes::deserialize")]
        block: Vec<u8>,
    },
}

impl Piece {
    /// Packs bytes, unless that saves less than a quarter of them.
    #[cfg(feature = "controller")]
    pub fn packed(bytes: Vec<u8>) -> Piece {
        if !(PACKED_FROM_BYTES..=CHUNK_BYTES).contains(&bytes.len()) {
            return Piece::Plain(bytes);
        }
        let block = lz4_flex::block::compress(&bytes);
        match block.len() <= bytes.len() / 4 * 3 {
            true => Piece::Packed { bytes: u32::try_from(bytes.len()).expect("a piece is short"), block: block.into() },
            false => Piece::Plain(bytes),
        }
    }

    /// How many bytes it stands for.
    pub fn stands_for(&self) -> u64 {
        match self {
            Piece::Plain(bytes) => bytes.len() as u64,
            Piece::Packed { bytes, .. } => u64::from(*bytes),
        }
    }

    /// How many bytes travel.
    pub fn travels(&self) -> u64 {
        match self {
            Piece::Plain(bytes) => bytes.len() as u64,
            Piece::Packed { block, .. } => block.len() as u64,
        }
    }

    /// The bytes, of a piece that was heard: none of those is packed.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Piece::Plain(bytes) => bytes,
            Piece::Packed { .. } => &[],
        }
    }
}

impl<'de> Deserialize<'de> for Piece {
    /// What a block claims to hold is checked before anything is allocated for it.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Heard::deserialize(deserializer)? {
            Heard::Plain(bytes) => Ok(Piece::Plain(bytes)),
            Heard::Packed { bytes, block } => {
                let bytes = bytes as usize;
                let found = (bytes <= CHUNK_BYTES).then(|| lz4_flex::block::decompress(&block, bytes).ok()).flatten();
                let found = found.filter(|found| found.len() == bytes);
                found.map(Piece::Plain).ok_or_else(|| D::Error::custom("a packed piece does not hold what it says"))
            }
        }
    }
}

#[cfg(all(test, feature = "controller"))]
mod tests {
    use super::*;
    use crate::model::state::Content;

    fn travelled(piece: &Piece) -> Option<Piece> {
        postcard::from_bytes(&postcard::to_stdvec(piece).expect("a piece is plain data")).ok()
    }

    #[test]
    fn what_shrinks_is_packed_and_the_rest_is_not() {
        let text = "the same line\n".repeat(5000).into_bytes();
        let piece = Piece::packed(text.clone());
        assert!(piece.travels() < text.len() as u64 / 10, "{}", piece.travels());
        assert_eq!((piece.stands_for(), travelled(&piece)), (text.len() as u64, Some(Piece::Plain(text))));
        let noise: Vec<u8> = (0..1500u32).flat_map(|n| Content::of(&n.to_le_bytes()).digest.0).collect();
        for plain in [noise, b"short".to_vec(), Vec::new(), vec![0; CHUNK_BYTES + 1]] {
            let piece = Piece::packed(plain.clone());
            assert_eq!((travelled(&piece), piece), (Some(Piece::Plain(plain.clone())), Piece::Plain(plain)));
        }
    }

    #[test]
    fn blocks_that_lie_are_refused() {
        let Piece::Packed { bytes, block } = Piece::packed(vec![b'x'; 10_000]) else { panic!("it shrinks") };
        for lie in [0, 1, bytes - 1, bytes + 1, u32::MAX] {
            assert_eq!(travelled(&Piece::Packed { bytes: lie, block: Arc::clone(&block) }), None, "{lie}");
        }
        for end in 0..block.len() {
            assert_eq!(travelled(&Piece::Packed { bytes, block: block[..end].into() }), None, "cut at {end}");
        }
        assert_eq!(travelled(&Piece::Packed { bytes, block: vec![0xff; 100].into() }), None);
    }
}
