//! A path's folder, held open, reached without following a single link: nobody who may write somewhere on the way
//! can turn a write of ours elsewhere by a link put there at the right moment.

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
};

use crate::{base::ByteText, target::disk};

/// A folder that is held open, and a name in it.
#[derive(Debug)]
pub(super) struct Spot {
    /// The folder.
    pub(super) folder: OwnedFd,
    /// The name in it.
    pub(super) name: OsString,
}

impl Spot {
    /// Finds the folder of `path`, below the folder that stands for the machine's root.
    pub(super) fn find(root: &Path, path: &ByteText) -> io::Result<Spot> {
        let mut parts: Vec<Component<'_>> =
            path.as_path().components().filter(|part| *part != Component::RootDir).collect();
        if parts.iter().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(io::Error::other("a path with \".\" or \"..\" in it"));
        }
        let name = parts.pop().map_or_else(|| OsString::from("."), |part| part.as_os_str().to_owned());
        let mut whole = root.to_owned();
        whole.extend(&parts);
        let folder = match at_once(&whole) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return Err(Errno::NOENT.into()),
            // Whoever goes part by part finds out why.
            Err(_) => part_by_part(open_folder_path(root)?, &parts)?,
        };
        Ok(Spot { folder, name })
    }

    /// Another name in the same folder.
    pub(super) fn beside(&self, name: &str) -> io::Result<Spot> {
        Ok(Spot { folder: self.folder.try_clone()?, name: name.into() })
    }

    /// What stands there, links not followed; `None` if nothing does.
    pub(super) fn stat(&self) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a file or link that may be there.
    pub(super) fn clear(&self) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.folder, &self.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Holds on to what stands there, whatever it is, without opening it.
    pub(super) fn hold(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.folder, &self.name, flags, Mode::empty())?)
    }

    /// Opens the regular file that stands there.
    pub(super) fn open(&self, access: OFlags) -> io::Result<File> {
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file: File = rustix::fs::openat(&self.folder, &self.name, flags, Mode::empty())?.into();
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::other("not a regular file")),
        }
    }

    /// Makes a new private file there.
    pub(super) fn create(&self) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.folder, &self.name, flags, Mode::from_raw_mode(0o600))?.into())
    }

    /// The folder, to bring its names onto the disk. One that the agent's user may not read is left to the kernel.
    pub(super) fn readable_folder(&self) -> io::Result<Option<File>> {
        readable(&self.folder)
    }
}

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn open_folder_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, FOLDER, Mode::empty())?)
}

/// The folder at `path`, where the kernel can be told to follow no link (since 5.6).
fn at_once(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::openat2(CWD, path, FOLDER, Mode::empty(), ResolveFlags::NO_SYMLINKS)
}

/// Whether a folder is there, and no part of the path to it is a link. It is not, too, where the kernel cannot tell.
pub(super) fn is_plain(path: &Path) -> bool {
    at_once(path).is_ok()
}

fn part_by_part(root: OwnedFd, parts: &[Component<'_>]) -> io::Result<OwnedFd> {
    let (mut folder, mut at) = (root, PathBuf::from("/"));
    for part in parts {
        at.push(part);
        folder = rustix::fs::openat(&folder, part.as_os_str(), FOLDER | OFlags::NOFOLLOW, Mode::empty())
            .map_err(|error| on_the_way(error.into(), &at))?;
    }
    Ok(folder)
}

fn on_the_way(error: io::Error, at: &Path) -> io::Error {
    match error.raw_os_error() {
        Some(code) if code == Errno::NOTDIR.raw_os_error() => {
            io::Error::new(error.kind(), format!("{} is no directory, or a symbolic link to one", at.display()))
        }
        _ => error,
    }
}

/// Brings a folder's names onto the disk.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    readable(&open_folder_path(path)?)?.map_or(Ok(()), |folder| disk::sync(&folder))
}

fn readable(folder: &OwnedFd) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(folder, ".", flags, Mode::empty()) {
        Ok(readable) => Ok(Some(readable.into())),
        Err(Errno::ACCESS) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A path that names what a descriptor holds, also one that was opened without access.
pub(super) fn path_of(fd: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}
