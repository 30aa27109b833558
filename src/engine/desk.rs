//! Local files and rendered contents, by digest: taken in once a run, however many hosts want them.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    base::{Digest, Fault, Masker, Place},
    model::state::Content,
    render::{RenderHalt, Renderer, Scope},
    steps::Desk,
};

/// All contents of a run.
#[derive(Debug, Default)]
pub struct Shelf {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    contents: HashMap<Content, Source>,
    files: HashMap<PathBuf, Content>,
}

#[derive(Clone, Debug)]
enum Source {
    Bytes(Arc<[u8]>),
    File(PathBuf),
}

impl Shelf {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in bytes.
    pub fn put(&self, bytes: Vec<u8>) -> Content {
        let content = Content::of(&bytes);
        self.inner().contents.entry(content).or_insert_with(|| Source::Bytes(bytes.into()));
        content
    }

    /// Takes in a file, read once a run for its digest.
    pub fn file(&self, path: &Path) -> io::Result<Content> {
        if let Some(content) = self.inner().files.get(path) {
            return Ok(*content);
        }
        let (digest, bytes) = Digest::of_reader(fs::File::open(path)?)?;
        let content = Content { digest, bytes };
        let mut inner = self.inner();
        inner.files.insert(path.to_owned(), content);
        inner.contents.insert(content, Source::File(path.to_owned()));
        Ok(content)
    }

    /// Reads a piece of a content; empty at its end. An error if the content is not here or its file was cut.
    pub fn piece(&self, content: &Content, offset: u64, bytes_max: usize) -> io::Result<Vec<u8>> {
        let source = self.inner().contents.get(content).cloned();
        match source {
            None => Err(io::Error::new(io::ErrorKind::NotFound, "no such content")),
            Some(Source::Bytes(bytes)) => {
                let from = usize::try_from(offset).map_or(bytes.len(), |from| from.min(bytes.len()));
                Ok(bytes[from..bytes.len().min(from + bytes_max)].to_vec())
            }
            Some(Source::File(path)) => {
                let mut file = fs::File::open(path)?;
                file.seek(SeekFrom::Start(offset))?;
                let mut bytes = Vec::with_capacity(bytes_max);
                file.take(bytes_max as u64).read_to_end(&mut bytes)?;
                Ok(bytes)
            }
        }
    }
}

/// The desk at which one step of one host is prepared.
pub struct HostDesk<'a> {
    /// Where contents are kept.
    pub shelf: &'a Shelf,
    /// What renders.
    pub renderer: &'a Renderer,
    /// What the step's templates see.
    pub scope: &'a Scope,
    /// Where the step stands, for faults.
    pub place: &'a Place,
    /// What must not be seen.
    pub masker: &'a Masker,
    /// What was taken in for this step.
    pub contents: Vec<Content>,
    /// What a template waited for.
    pub halt: Option<RenderHalt>,
}

impl Desk for HostDesk<'_> {
    fn file(&mut self, path: &str) -> Result<Content, Fault> {
        let found = self.renderer.local_file(path, self.place, &["files"])?;
        let content = self.shelf.file(&found).map_err(|error| {
            Fault::input(format!("cannot read the local file {}", found.display())).at(self.place).because(&error)
        })?;
        self.contents.push(content);
        Ok(content)
    }

    fn template(&mut self, path: &str) -> Result<Content, Fault> {
        match self.renderer.file(path, self.place, self.scope) {
            Ok(text) => Ok(self.put(text.into_bytes())),
            Err(RenderHalt::Fault(fault)) => Err(*fault),
            Err(pending) => {
                self.halt = Some(pending);
                Err(Fault::input(format!("the template {path} waits for what is not known yet")).at(self.place))
            }
        }
    }

    fn put(&mut self, bytes: Vec<u8>) -> Content {
        let content = self.shelf.put(bytes);
        self.contents.push(content);
        content
    }

    fn holds_secret(&self, text: &str) -> bool {
        self.masker.finds(text)
    }
}
