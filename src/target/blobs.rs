//! Contents by digest: what steps made, and what the controller sent.

use std::{collections::HashMap, io, sync::Arc};

use crate::model::state::Content;

/// The contents of a run. Small ones are held in memory.
#[derive(Debug, Default)]
pub struct Blobs {
    held: HashMap<Content, Arc<[u8]>>,
}

impl Blobs {
    /// Takes bytes in; their name.
    pub fn put(&mut self, bytes: Vec<u8>) -> Content {
        let content = Content::of(&bytes);
        self.held.insert(content, bytes.into());
        content
    }

    /// The whole of a content, if it is here.
    pub fn bytes(&self, content: &Content) -> Option<io::Result<Vec<u8>>> {
        self.held.get(content).map(|bytes| Ok(bytes.to_vec()))
    }
}
