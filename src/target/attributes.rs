//! Owner, mode and extended attributes: brought to what is wanted, in the order in which none undoes another.
//!
//! Changing the owner clears the set-id bits and file capabilities, so it comes first; setting an ACL sets the mode's
//! middle bits, and states hold both in agreement. What is as wanted is not touched, so that an agent without root
//! needs no permission for it.

use std::{
    fs, io,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::Path,
    sync::OnceLock,
};

use rustix::{
    fs::{AtFlags, Gid, Mode, Uid, XattrFlags},
    io::Errno,
};

use crate::{
    model::state::{Id, Meta},
    target::{
        folder::{Spot, path_of},
        xattr::{self, Link},
    },
};

/// An owner and a group, both by number.
pub(super) struct Owner {
    uid: u32,
    gid: u32,
}

impl Owner {
    /// The numbers. In an apply, every name has one.
    pub(super) fn of(uid: &Id, gid: &Id) -> io::Result<Owner> {
        let number = |id: &Id, noun: &str| match id {
            Id::Number(u32::MAX) => Err(io::Error::other(format!("{} is no {noun}'s number", u32::MAX))),
            Id::Number(number) => Ok(*number),
            Id::ToBe(name) => Err(io::Error::other(format!("there is no {noun} {name:?} yet"))),
        };
        Ok(Owner { uid: number(uid, "user")?, gid: number(gid, "group")? })
    }
}

/// Brings the attributes of what `held` holds, a file or directory. Whether any was not as it should be.
pub(super) fn bring(held: &impl AsRawFd, meta: &Meta) -> io::Result<bool> {
    let path = path_of(held);
    let owner = Owner::of(&meta.uid, &meta.gid)?;
    let found = fs::metadata(&path)?;
    let has_owner = found.uid() == owner.uid && found.gid() == owner.gid;
    if !has_owner {
        let uid = (found.uid() != owner.uid).then(|| Uid::from_raw(owner.uid));
        let gid = (found.gid() != owner.gid).then(|| Gid::from_raw(owner.gid));
        rustix::fs::chown(&path, uid, gid).map_err(|error| refused("setting owner and group", error))?;
    }
    let dropped = drop_xattrs(&path, meta)?;
    let mode = if has_owner && !dropped { found.mode() } else { fs::metadata(&path)?.mode() };
    let has_mode = mode & 0o7777 == meta.mode;
    if !has_mode {
        rustix::fs::chmod(&path, Mode::from_raw_mode(meta.mode)).map_err(|error| refused("setting the mode", error))?;
    }
    let added = !meta.xattrs.is_empty() && add_xattrs(&path, meta)?;
    Ok(!has_owner || dropped || !has_mode || added)
}

/// Removes the attributes that are not wanted, such as an ACL inherited from the folder.
fn drop_xattrs(path: &Path, meta: &Meta) -> io::Result<bool> {
    let mut dropped = false;
    for name in xattr::read(path, Link::Follow)?.into_keys().filter(|name| !meta.xattrs.contains_key(name)) {
        rustix::fs::removexattr(path, name.0.as_slice())
            .map_err(|error| refused(&format!("removing the attribute {name}"), error))?;
        dropped = true;
    }
    Ok(dropped)
}

fn add_xattrs(path: &Path, meta: &Meta) -> io::Result<bool> {
    let found = xattr::read(path, Link::Follow)?;
    let mut added = false;
    for (name, value) in meta.xattrs.iter().filter(|(name, value)| found.get(name) != Some(value)) {
        rustix::fs::setxattr(path, name.0.as_slice(), &value.0, XattrFlags::empty())
            .map_err(|error| refused(&format!("setting the attribute {name}"), error))?;
        added = true;
    }
    Ok(added)
}

/// Brings owner and group of what is at `spot` itself, links not followed.
pub(super) fn bring_owner(spot: &Spot, owner: &Owner) -> io::Result<()> {
    let found = spot.stat()?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    if found.st_uid == owner.uid && found.st_gid == owner.gid {
        return Ok(());
    }
    let uid = (found.st_uid != owner.uid).then(|| Uid::from_raw(owner.uid));
    let gid = (found.st_gid != owner.gid).then(|| Gid::from_raw(owner.gid));
    rustix::fs::chownat(&spot.folder, &spot.name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| refused("setting owner and group", error))
}

/// The label of SELinux.
const LABEL: &[u8] = b"security.selinux";

/// Whether what is made in a folder may get a security label that what is moved there would not.
pub(super) fn labels_new_files(folder: &impl AsRawFd) -> io::Result<bool> {
    if !gives_labels() {
        return Ok(false);
    }
    let folder = path_of(folder);
    let has = |label| xattr::value(&folder, label, Link::Follow).map(|label| label.is_some());
    Ok(has(LABEL)? || has(b"security.SMACK64")?)
}

/// Whether the kernel has a security module that labels files, asked once.
fn gives_labels() -> bool {
    static GIVES: OnceLock<bool> = OnceLock::new();
    *GIVES.get_or_init(|| {
        // Who cannot ask looks at the folders.
        let known = fs::read_to_string("/proc/filesystems");
        known.map_or(true, |known| known.contains("selinuxfs") || known.contains("smackfs"))
    })
}

/// Gives a new file the security label of the file whose place it takes, where there is one and it may be given.
pub(super) fn keep_label(old: &Spot, new: &impl AsRawFd) -> io::Result<()> {
    let Ok(held) = old.hold() else { return Ok(()) };
    if !fs::metadata(path_of(&held))?.is_file() {
        return Ok(());
    }
    let Some(label) = xattr::value(&path_of(&held), LABEL, Link::Follow)? else { return Ok(()) };
    match rustix::fs::setxattr(path_of(new), LABEL, &label, XattrFlags::empty()) {
        Ok(()) | Err(Errno::PERM | Errno::ACCESS | Errno::NOTSUP | Errno::INVAL) => Ok(()),
        Err(error) => Err(refused("setting the security label", error)),
    }
}

fn refused(doing: &str, error: Errno) -> io::Error {
    let error = io::Error::from(error);
    io::Error::new(error.kind(), format!("{doing}: {error}"))
}
