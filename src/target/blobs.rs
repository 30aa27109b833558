//! Contents by digest: what steps made, and what the controller sent.

use std::{
    cell::RefCell,
    collections::HashMap,
    fmt, fs,
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    base::{digest::Hasher, point::fault},
    model::state::Content,
    target::probe::{WHOLE_FILE_BYTES_MAX, open_regular},
};

/// Contents up to this many bytes are held in memory; longer ones are spilled to files where that is allowed.
pub const MEMORY_BYTES_EACH_MAX: u64 = 1024 * 1024;

/// All contents in memory together, where spilling is not allowed. What comes beyond is not kept.
pub const MEMORY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Contents that may be on their way in at one time.
const INCOMING_MAX: usize = 64;

/// The contents of a run. Small ones are held in memory; long ones in files of the run's private directory, if it
/// has one. A plan has none: it writes nothing on the target.
#[derive(Debug, Default)]
pub struct Blobs {
    held: HashMap<Content, Held>,
    incoming: HashMap<Content, Incoming>,
    memory_bytes: u64,
    spill: Option<PathBuf>,
    packages: Option<PathBuf>,
    /// Files that were given away.
    given: RefCell<Vec<Content>>,
}

#[derive(Debug)]
enum Held {
    Memory(Arc<[u8]>),
    /// The controller sent it.
    Heard(Arc<[u8]>),
    File(PathBuf),
    /// The controller sent it, and sends it again when it is asked.
    Sent(PathBuf),
    Lent(PathBuf),
}

/// A content that is on its way in.
struct Incoming {
    hasher: Hasher,
    at: u64,
    sink: Sink,
}

enum Sink {
    Memory(Vec<u8>),
    File(fs::File, PathBuf),
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incoming({} bytes so far)", self.at)
    }
}

/// Why pieces of a content were not taken in.
#[derive(Debug)]
pub enum BlobFault {
    /// A piece came twice, or one is missing before it, or it reaches beyond the content's end.
    Gap {
        /// Where the next piece should begin.
        due: u64,
        /// Where it begins.
        came: u64,
    },
    /// All pieces are there, and their digest is another.
    WrongDigest,
    /// Too many contents are on their way in at one time.
    TooMany,
    /// The spill file could not be written.
    Io(io::Error),
}

impl fmt::Display for BlobFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlobFault::Gap { due, came } => write!(f, "a piece at {came} came where one at {due} was due"),
            BlobFault::WrongDigest => f.write_str("its bytes do not have the digest that was promised"),
            BlobFault::TooMany => write!(f, "more than {INCOMING_MAX} contents were sent at one time"),
            BlobFault::Io(error) => write!(f, "it could not be kept on the target: {error}"),
        }
    }
}

impl std::error::Error for BlobFault {}

impl From<io::Error> for BlobFault {
    fn from(error: io::Error) -> Self {
        BlobFault::Io(error)
    }
}

impl Blobs {
    /// Contents that may be spilled to files in `folder`, which is made with the first. The files are removed with the
    /// run's journal, or by whoever named the folder.
    pub fn spilling(folder: PathBuf) -> Self {
        Blobs { spill: Some(folder), ..Blobs::default() }
    }

    /// Takes bytes in; their name. In a plan that already holds [`MEMORY_BYTES_MAX`] they are named and not kept.
    pub fn put(&mut self, bytes: Vec<u8>) -> Content {
        let content = Content::of(&bytes);
        if self.has(&content) {
            return content;
        }
        if content.bytes > MEMORY_BYTES_EACH_MAX
            && let Some(path) = self.spill_path(&content)
            && create(&path).and_then(|mut file| file.write_all(&bytes)).is_ok()
        {
            self.given.get_mut().retain(|given| *given != content);
            self.held.insert(content, Held::File(path));
        } else if self.spill.is_some() || self.memory_bytes + content.bytes <= MEMORY_BYTES_MAX {
            self.memory_bytes += content.bytes;
            self.given.get_mut().retain(|given| *given != content);
            self.held.insert(content, Held::Memory(bytes.into()));
        }
        content
    }

    /// Lends a content that stands in a file which somebody else keeps: a before-image of another run. A file made of it
    /// gets its times.
    pub fn lend(&mut self, content: Content, path: PathBuf) {
        self.held.insert(content, Held::Lent(path));
    }

    /// Lends the packages that another run has kept.
    pub fn lend_packages(&mut self, folder: PathBuf) {
        self.packages = Some(folder);
    }

    /// Where packages are that were lent.
    pub(in crate::target) fn packages(&self) -> Option<&Path> {
        self.packages.as_deref()
    }

    /// Where a content stands that was lent.
    pub(in crate::target) fn lent(&self, content: &Content) -> Option<&Path> {
        match self.held.get(content)? {
            Held::Lent(path) => Some(path),
            Held::Memory(_) | Held::Heard(_) | Held::File(_) | Held::Sent(_) => None,
        }
    }

    /// Whether the whole of a content is here.
    pub fn has(&self, content: &Content) -> bool {
        self.held(content).is_some()
    }

    fn held(&self, content: &Content) -> Option<&Held> {
        self.held.get(content).filter(|_| !self.given.borrow().contains(content))
    }

    /// Whether the controller has sent it, or has it still to send: then it can tell itself what is in it.
    pub fn is_the_controllers(&self, content: &Content) -> bool {
        !matches!(self.held(content), Some(Held::Memory(_) | Held::File(_) | Held::Lent(_)))
    }

    /// Where a content stands that the controller has sent.
    pub(in crate::target) fn sent(&self, content: &Content) -> Option<&Path> {
        match self.held(content)? {
            Held::Sent(path) => Some(path),
            Held::Memory(_) | Held::Heard(_) | Held::File(_) | Held::Lent(_) => None,
        }
    }

    /// Gives away the file of a content that the controller has sent, to whoever moves it with `take`; whether it was
    /// taken. It is not here any more then.
    pub(in crate::target) fn give(
        &self,
        content: &Content,
        take: impl FnOnce(&Path) -> io::Result<bool>,
    ) -> io::Result<bool> {
        let Some(path) = self.sent(content) else { return Ok(false) };
        let is_taken = take(path)?;
        if is_taken {
            self.given.borrow_mut().push(*content);
        }
        Ok(is_taken)
    }

    /// The whole of a content, if it is here; at most [`WHOLE_FILE_BYTES_MAX`].
    pub fn bytes(&self, content: &Content) -> Option<io::Result<Vec<u8>>> {
        let held = self.held(content)?;
        if content.bytes > WHOLE_FILE_BYTES_MAX {
            return Some(Err(io::Error::other(format!("larger than {} MiB", WHOLE_FILE_BYTES_MAX >> 20))));
        }
        Some(match held {
            Held::Memory(bytes) | Held::Heard(bytes) => Ok(bytes.to_vec()),
            Held::File(path) | Held::Sent(path) | Held::Lent(path) => open_regular(path).and_then(|file| {
                let mut bytes = Vec::new();
                file.take(WHOLE_FILE_BYTES_MAX).read_to_end(&mut bytes).map(|_| bytes)
            }),
        })
    }

    /// A content as a stream, if it is here.
    pub fn reader(&self, content: &Content) -> Option<io::Result<Box<dyn Read>>> {
        Some(match self.held(content)? {
            Held::Memory(bytes) | Held::Heard(bytes) => Ok(Box::new(io::Cursor::new(Arc::clone(bytes)))),
            Held::File(path) | Held::Sent(path) | Held::Lent(path) => {
                open_regular(path).map(|file| Box::new(file) as Box<dyn Read>)
            }
        })
    }

    /// A private copy of a content, for a program that judges it. Gone when dropped, or with the run's journal.
    pub fn private_copy(&self, content: &Content) -> io::Result<PrivateCopy> {
        let folder = self.spill.as_ref().ok_or_else(|| io::Error::other("a plan makes no copies"))?;
        let mut source = self.reader(content).ok_or_else(|| io::Error::other("the content is not on this host"))??;
        let path = folder.join(format!("copy-{}", content.digest.short()));
        let copy = PrivateCopy(path);
        io::copy(&mut source, &mut create(&copy.0)?)?;
        Ok(copy)
    }

    /// Takes in a piece of a content. Pieces come in order, without gaps; an empty content is one empty piece.
    /// `true` when the content is whole and its digest is right. A content that is here already is passed over, and
    /// so is one that a plan may not keep.
    pub fn take_in(&mut self, content: Content, offset: u64, piece: &[u8]) -> Result<bool, BlobFault> {
        if self.has(&content) {
            return Ok(true);
        }
        let mut incoming = match self.incoming.remove(&content) {
            Some(incoming) => incoming,
            None if offset > 0 && self.spill.is_none() => return Ok(false),
            None if self.incoming.len() >= INCOMING_MAX => return Err(BlobFault::TooMany),
            None => match self.begin(&content)? {
                Some(incoming) => incoming,
                None => return Ok(false),
            },
        };
        let room = content.bytes - incoming.at;
        if offset != incoming.at || piece.len() as u64 > room || piece.is_empty() && room > 0 {
            return Err(BlobFault::Gap { due: incoming.at, came: offset });
        }
        incoming.add(piece)?;
        if incoming.at < content.bytes {
            self.incoming.insert(content, incoming);
            return Ok(false);
        }
        self.end(content, incoming).map(|()| true)
    }

    /// Begins to take a content in, if it may be kept.
    fn begin(&self, content: &Content) -> io::Result<Option<Incoming>> {
        let sink = match self.spill_path(content) {
            Some(path) if content.bytes > MEMORY_BYTES_EACH_MAX => Sink::File(create(&path)?, path),
            None if content.bytes > MEMORY_BYTES_EACH_MAX => return Ok(None),
            None if self.memory_bytes + content.bytes > MEMORY_BYTES_MAX => return Ok(None),
            _ => Sink::Memory(Vec::new()),
        };
        Ok(Some(Incoming { hasher: Hasher::default(), at: 0, sink }))
    }

    fn end(&mut self, content: Content, incoming: Incoming) -> Result<(), BlobFault> {
        let (digest, _) = incoming.hasher.finish();
        if digest != content.digest {
            if let Sink::File(_, path) = incoming.sink {
                fs::remove_file(path)?;
            }
            return Err(BlobFault::WrongDigest);
        }
        let held = match incoming.sink {
            Sink::Memory(bytes) => {
                self.memory_bytes += content.bytes;
                Held::Heard(bytes.into())
            }
            Sink::File(_, path) => Held::Sent(path),
        };
        self.given.get_mut().retain(|given| *given != content);
        self.held.insert(content, held);
        Ok(())
    }

    fn spill_path(&self, content: &Content) -> Option<PathBuf> {
        self.spill.as_ref().map(|folder| folder.join(content.digest.to_string()))
    }
}

/// A private copy of a content.
#[derive(Debug)]
pub struct PrivateCopy(PathBuf);

impl PrivateCopy {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PrivateCopy {
    fn drop(&mut self) {
        let _goes_with_the_journal = fs::remove_file(&self.0);
    }
}

impl Incoming {
    fn add(&mut self, piece: &[u8]) -> io::Result<()> {
        self.hasher.update(piece);
        self.at += piece.len() as u64;
        match &mut self.sink {
            Sink::Memory(bytes) => {
                bytes.extend_from_slice(piece);
                Ok(())
            }
            Sink::File(file, _) => fault!("blobs.write", io).and_then(|()| file.write_all(piece)),
        }
    }
}

/// A new private file, in place of a half-written one of an earlier try.
fn create(path: &Path) -> io::Result<fs::File> {
    fault!("blobs.create", io)?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(blobs: &mut Blobs, bytes: &[u8], piece: usize) -> Result<bool, BlobFault> {
        let content = Content::of(bytes);
        let mut whole = false;
        for (n, chunk) in bytes.chunks(piece).enumerate() {
            whole = blobs.take_in(content, (n * piece) as u64, chunk)?;
        }
        Ok(whole)
    }

    #[test]
    fn long_contents_are_spilled_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut blobs = Blobs::spilling(folder.path().to_owned());
        let long: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        assert!(send(&mut blobs, &long, 100_000).unwrap());
        assert_eq!(blobs.bytes(&Content::of(&long)).unwrap().unwrap(), long);
        let mut read = Vec::new();
        blobs.reader(&Content::of(&long)).unwrap().unwrap().read_to_end(&mut read).unwrap();
        assert_eq!(read, long);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(send(&mut blobs, b"short", 2).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let other = [long, vec![1]].concat();
        let content = blobs.put(other.clone());
        assert_eq!(blobs.bytes(&content).unwrap().unwrap(), other);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn gaps_doubles_overruns_and_wrong_bytes_are_refused() {
        let content = Content::of(b"abcdef");
        let mut blobs = Blobs::default();
        assert!(!blobs.take_in(content, 0, b"abc").unwrap());
        assert!(matches!(blobs.take_in(content, 0, b"abc"), Err(BlobFault::Gap { due: 3, came: 0 })));
        assert!(!blobs.take_in(content, 0, b"abc").unwrap());
        assert!(matches!(blobs.take_in(content, 3, b"defg"), Err(BlobFault::Gap { .. })));
        assert!(matches!(blobs.take_in(content, 0, b""), Err(BlobFault::Gap { .. })));
        assert!(matches!(blobs.take_in(content, 0, b"abcdeF"), Err(BlobFault::WrongDigest)));
        assert!(!blobs.has(&content));
        assert!(blobs.take_in(Content::of(b""), 0, b"").unwrap());
    }

    #[test]
    fn what_is_given_away_can_be_sent_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut blobs = Blobs::spilling(folder.path().join("blobs"));
        let (long, place) = (vec![7u8; MEMORY_BYTES_EACH_MAX as usize + 1], folder.path().join("place"));
        let content = Content::of(&long);
        for is_taken in [false, true] {
            send(&mut blobs, &long, 100_000).unwrap();
            let take = |sent: &Path| if is_taken { fs::rename(sent, &place).map(|()| true) } else { Ok(false) };
            assert_eq!(blobs.give(&content, take).unwrap(), is_taken);
            assert_eq!(blobs.has(&content), !is_taken);
        }
        assert!(blobs.bytes(&content).is_none() && blobs.reader(&content).is_none());
        assert!(!blobs.give(&content, |_| panic!("there is nothing to be taken")).unwrap());
        assert!(send(&mut blobs, &long, 100_000).unwrap());
        assert_eq!(blobs.bytes(&content).unwrap().unwrap(), long);
        // What a step has made is not given away: nobody else could make it again.
        let made = blobs.put(vec![8; long.len()]);
        assert!(!blobs.give(&made, |_| panic!("it was not sent")).unwrap());
    }

    #[test]
    fn a_plan_keeps_nothing_long() {
        let mut blobs = Blobs::default();
        let long = vec![7u8; MEMORY_BYTES_EACH_MAX as usize + 1];
        assert!(!send(&mut blobs, &long, 100_000).unwrap());
        assert!(!blobs.has(&Content::of(&long)));
    }
}
