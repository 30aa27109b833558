//! What every layer stands on: faults, digests, the clock, secrets, byte text.

pub mod bytetext;
pub mod clock;
pub mod digest;
pub mod fault;
pub mod point;
pub mod secret;

pub use bytetext::ByteText;
pub use clock::Timestamp;
pub use digest::Digest;
pub use fault::{Fault, FaultKind, Faults, Place};
pub use secret::{Masker, Secret};
