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
    resources::path,
    steps::Desk,
    wire::{
        Piece,
        message::{AHEAD_BYTES_MAX, CHUNK_BYTES},
    },
};

/// Short files that are kept as they travel, and what differences are told of files, all together.
const KEPT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// All contents of a run.
#[derive(Debug, Default)]
pub struct Shelf {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    contents: HashMap<Content, Source>,
    files: HashMap<PathBuf, Content>,
    /// Short files as they travel: the same for all hosts.
    pieces: HashMap<Content, Piece>,
    /// What is told where such a file is new, likewise.
    added: HashMap<Content, Option<String>>,
    kept_bytes: u64,
}

impl Inner {
    /// Takes room for so many bytes that are kept for other hosts; whether there was any. What was rendered gets none: it is
    /// hardly ever the same for another.
    fn take_room(&mut self, content: &Content, bytes: u64) -> bool {
        let is_file = matches!(self.contents.get(content), Some(Source::File(_)));
        let has_room = is_file && self.kept_bytes + bytes <= KEPT_BYTES_MAX;
        if has_room {
            self.kept_bytes += bytes;
        }
        has_room
    }
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

    /// A piece of a content as it travels, packed if `may_pack`; empty at its end. An error if the content is not here or
    /// its file was cut.
    pub fn piece(&self, content: &Content, offset: u64, may_pack: bool) -> io::Result<Piece> {
        if let Some(piece) = self.inner().pieces.get(content) {
            return Ok(piece.clone());
        }
        let bytes = self.read(content, offset, CHUNK_BYTES)?;
        let piece = if may_pack { Piece::packed(bytes) } else { Piece::Plain(bytes) };
        let mut inner = self.inner();
        let is_whole = offset == 0 && piece.stands_for() == content.bytes;
        if is_whole && inner.take_room(content, piece.travels()) {
            inner.pieces.insert(*content, piece.clone());
        }
        Ok(piece)
    }

    /// Whether a content travels in so few bytes that it may go ahead of its task.
    pub fn is_light(&self, content: &Content) -> bool {
        let is_one_piece = content.bytes <= CHUNK_BYTES as u64;
        content.bytes <= AHEAD_BYTES_MAX
            || is_one_piece && self.piece(content, 0, true).is_ok_and(|piece| piece.travels() <= AHEAD_BYTES_MAX)
    }

    /// What is in a new file that has this content, as differences are told. None where that is no text, or long.
    pub fn added(&self, content: &Content) -> Option<String> {
        if let Some(told) = self.inner().added.get(content) {
            return told.clone();
        }
        let bytes = self.read(content, 0, path::INPUT_BYTES_MAX + 1).ok()?;
        // The file may have become another one.
        if Content::of(&bytes) != *content {
            return None;
        }
        let told = path::diff(&[], &bytes);
        let mut inner = self.inner();
        if inner.take_room(content, told.as_ref().map_or(0, String::len) as u64) {
            inner.added.insert(*content, told.clone());
        }
        told
    }

    fn read(&self, content: &Content, offset: u64, bytes_max: usize) -> io::Result<Vec<u8>> {
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
                let mut bytes = Vec::with_capacity(bytes_max.min(CHUNK_BYTES));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf_with(bytes: &[u8]) -> (tempfile::TempDir, PathBuf, Shelf, Content) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, bytes).unwrap();
        let shelf = Shelf::default();
        let content = shelf.file(&path).unwrap();
        (folder, path, shelf, content)
    }

    #[test]
    fn a_long_text_that_shrinks_goes_ahead_and_noise_does_not() {
        let text = "a line of a file\n".repeat(6000);
        let (_folder, _, shelf, content) = shelf_with(text.as_bytes());
        assert!(content.bytes > 3 * AHEAD_BYTES_MAX && shelf.is_light(&content));
        let noise: Vec<u8> = (0..3000u32).flat_map(|n| Content::of(&n.to_le_bytes()).digest.0).collect();
        let (_folder, _, shelf, content) = shelf_with(&noise);
        assert!(content.bytes < CHUNK_BYTES as u64 && !shelf.is_light(&content));
        let short = shelf.put(b"short".to_vec());
        assert!(shelf.is_light(&short));
    }

    #[test]
    fn a_short_file_is_packed_once_for_all_hosts() {
        let text = "a line of a file\n".repeat(600);
        let (_folder, path, shelf, content) = shelf_with(text.as_bytes());
        let first = shelf.piece(&content, 0, true).unwrap();
        fs::remove_file(path).unwrap();
        assert_eq!(shelf.piece(&content, 0, true).unwrap(), first);
        assert!(first.travels() < content.bytes / 10 && first.stands_for() == content.bytes);
    }

    #[test]
    fn what_is_new_is_told_unless_the_file_is_another_by_now() {
        let (_folder, path, shelf, content) = shelf_with(b"one\ntwo\n");
        assert_eq!(shelf.added(&content).as_deref(), Some("@@ -0,0 +1,2 @@\n+one\n+two\n"));
        fs::write(path, "one\nTWO\n").unwrap();
        assert!(shelf.added(&content).is_some(), "it is known for all hosts");
        let (_folder, path, shelf, content) = shelf_with(b"one\ntwo\n");
        fs::write(path, "one\nTWO\n").unwrap();
        assert_eq!(shelf.added(&content), None);
        let binary = shelf.put(vec![0; 10]);
        assert_eq!(shelf.added(&binary), None);
    }
}
