//! What controller and agent say to each other over a duplex byte pipe (docs/wire-protocol.md).

mod bytes;
pub mod frame;
pub mod message;
pub mod piece;

pub use frame::{FrameFault, FrameReader, FrameWriter};
pub use message::{FromAgent, ToAgent};
pub use piece::Piece;
