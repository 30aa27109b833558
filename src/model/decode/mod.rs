//! From nodes to typed values: the one place where a file's wrong key or wrong type becomes a fault with a place.
//!
//! [`with`] drives serde over a node; [`Fields`] reads a mapping key by key. Both find all unknown keys at once, each
//! with the nearest name.

mod fields;
mod serde_node;

pub use fields::{Fields, no_value, text, texts, truth};
pub use serde_node::with;
