//! Extended attributes: which of them are a file's state, and how they are read.

use std::{collections::BTreeMap, io, path::Path};

use rustix::{buffer::spare_capacity, io::Errno};

use crate::base::ByteText;

/// Bytes of names and values together that one file may have; the kernel allows 64 KiB for one value.
const BYTES_MAX: usize = 256 * 1024;

/// Whether an attribute is part of a file's state: `user.*`, `trusted.*` (root sees those), POSIX ACLs and file
/// capabilities. The rest belongs to the kernel: labels of security modules, which follow from policy and place;
/// signatures; the bookkeeping of overlay and network file systems.
pub(super) fn is_state(name: &[u8]) -> bool {
    match name {
        b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default" => true,
        _ => {
            let overlay = name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
            !overlay && (name.starts_with(b"user.") || name.starts_with(b"trusted."))
        }
    }
}

/// Whether the last part of a path is followed if it is a link.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// It is.
    Follow,
    /// It is not.
    Stay,
}

/// The attributes that are part of the state of what is at `path`. None where the file system has none.
pub(super) fn read(path: &Path, link: Link) -> io::Result<BTreeMap<ByteText, ByteText>> {
    let mut found = BTreeMap::new();
    let mut bytes = 0;
    for name in names(path, link)?.split(|byte| *byte == 0).filter(|name| is_state(name)) {
        // One that was removed in between is not there.
        let Some(value) = value(path, name, link)? else { continue };
        bytes += name.len() + value.len();
        if bytes > BYTES_MAX {
            return Err(io::Error::other("too many extended attributes"));
        }
        found.insert(ByteText(name.to_vec()), ByteText(value));
    }
    Ok(found)
}

fn names(path: &Path, link: Link) -> io::Result<Vec<u8>> {
    grow(|buffer| match link {
        Link::Follow => rustix::fs::listxattr(path, spare_capacity(buffer)),
        Link::Stay => rustix::fs::llistxattr(path, spare_capacity(buffer)),
    })
    .map(Option::unwrap_or_default)
}

/// One attribute's value, if it is there.
pub(super) fn value(path: &Path, name: &[u8], link: Link) -> io::Result<Option<Vec<u8>>> {
    grow(|buffer| match link {
        Link::Follow => rustix::fs::getxattr(path, name, spare_capacity(buffer)),
        Link::Stay => rustix::fs::lgetxattr(path, name, spare_capacity(buffer)),
    })
}

/// Reads with a buffer that grows until it is large enough; `None` where there is nothing of the kind.
fn grow(mut read: impl FnMut(&mut Vec<u8>) -> Result<usize, Errno>) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = Vec::with_capacity(512);
    loop {
        buffer.clear();
        match read(&mut buffer) {
            Ok(_) => return Ok(Some(buffer)),
            Err(Errno::NOTSUP | Errno::NODATA | Errno::NOSYS) => return Ok(None),
            Err(Errno::RANGE) if buffer.capacity() < BYTES_MAX => buffer.reserve(buffer.capacity() * 2),
            Err(error) => return Err(error.into()),
        }
    }
}
