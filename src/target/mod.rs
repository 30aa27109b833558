//! The machine: what may be read ([`Probe`]), what may be written ([`Tools`]), and the journal between them.
//!
//! No undo on disk, no tools in hand: [`Tools`] has no public constructor. The journal alone mints them, for an
//! entry that is already durable.

mod attributes;
pub mod blobs;
pub mod disk;
mod folder;
pub mod journal;
pub mod probe;
pub mod process;
pub mod tools;
mod xattr;

pub use blobs::Blobs;
pub use journal::Journal;
pub use probe::Probe;
pub use tools::Tools;
