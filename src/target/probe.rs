//! What may be read of the machine. Nothing here can write.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{
    base::ByteText,
    model::{change::CommandSpec, event::Output, facts::Facts},
    target::{
        folder,
        process::{self, Running},
        xattr,
    },
};

/// Files that steps edit as a whole (line edits, blocks) are read up to this many bytes.
pub const WHOLE_FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The machine as far as it can be read: the files below a root folder (`/` but in tests) and the programs that
/// only look.
#[derive(Clone, Debug)]
pub struct Probe {
    root: PathBuf,
    facts: Facts,
    running: Running,
}

impl Probe {
    /// The machine itself, or in tests a folder that stands for it.
    pub fn new(root: impl Into<PathBuf>, facts: Facts, running: Running) -> Self {
        Probe { root: root.into(), facts, running }
    }

    /// What is true of the host.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Where `path` of the machine is found from here.
    pub fn locate(&self, path: &ByteText) -> PathBuf {
        let path = path.as_path();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// What stands at `path` itself (links are not followed); `None` if nothing does, or if a parent is no folder.
    pub fn lstat(&self, path: &ByteText) -> io::Result<Option<fs::Metadata>> {
        absent_as_none(fs::symlink_metadata(self.locate(path)))
    }

    /// Whether a folder is there, and no part of the path to it is a link. It may say no where that is so.
    pub fn is_plain(&self, path: &Path) -> bool {
        folder::is_plain(&self.locate(&path.into()))
    }

    /// What stands at `path`, links followed.
    pub fn stat(&self, path: &ByteText) -> io::Result<Option<fs::Metadata>> {
        absent_as_none(fs::metadata(self.locate(path)))
    }

    /// Opens a regular file for reading; never a pipe or device, on which reading could hang.
    pub fn open(&self, path: &ByteText) -> io::Result<fs::File> {
        open_regular(&self.locate(path))
    }

    /// A regular file's whole content, at most [`WHOLE_FILE_BYTES_MAX`].
    pub fn read(&self, path: &ByteText) -> io::Result<Vec<u8>> {
        use io::Read;
        let mut bytes = Vec::new();
        self.open(path)?.take(WHOLE_FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > WHOLE_FILE_BYTES_MAX {
            return Err(io::Error::other(format!("larger than {} MiB", WHOLE_FILE_BYTES_MAX >> 20)));
        }
        Ok(bytes)
    }

    /// The extended attributes at `path` itself that are part of a file's state: `user.*`, `trusted.*`, POSIX ACLs and
    /// file capabilities.
    pub fn xattrs(&self, path: &ByteText) -> io::Result<BTreeMap<ByteText, ByteText>> {
        xattr::read(&self.locate(path), xattr::Link::Stay)
    }

    /// Where a link points.
    pub fn read_link(&self, path: &ByteText) -> io::Result<ByteText> {
        fs::read_link(self.locate(path)).map(ByteText::from)
    }

    /// The full paths of what is in a folder, sorted.
    pub fn list(&self, path: &ByteText) -> io::Result<Vec<ByteText>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.locate(path))? {
            found.push(ByteText::from(path.as_path().join(entry?.file_name())));
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Runs a program that the runbook or a resource declares to be a mere look (a guard, `dpkg-query`). This is a
    /// promise of the caller's; the kernel is not asked to hold it.
    pub fn ask(&self, command: &CommandSpec) -> io::Result<Output> {
        process::run(command, &self.running)
    }

    /// The handle by which a cancellation ends what runs now.
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// The device number that `path` is on: a hard link works within one.
    pub fn device(&self, path: &ByteText) -> io::Result<u64> {
        fs::symlink_metadata(self.locate(path)).map(|found| found.dev())
    }
}

/// Opens a file that is regular, without waiting for the other end of a pipe.
pub(super) fn open_regular(path: &Path) -> io::Result<fs::File> {
    use rustix::fs::{Mode, OFlags};
    let file: fs::File =
        rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())?
            .into();
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok(file)
}

fn absent_as_none(found: io::Result<fs::Metadata>) -> io::Result<Option<fs::Metadata>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}
