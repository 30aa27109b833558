//! Before-images: the contents that deeds replace or remove, kept for the way back.

use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
};

use rustix::fs::{AtFlags, CWD, OFlags, Timestamps};

use crate::{
    base::{ByteText, digest::Hasher, point::fault},
    model::{
        change::{Change, Deed},
        state::{Content, PathState, Resource, State},
    },
    target::{Blobs, Probe, folder::Spot, journal::record::Image},
};

/// A content that must be kept, and where it is.
pub(super) struct Keep {
    /// The file; none where an earlier deed of those that are armed together will make it.
    pub(super) spot: Option<Spot>,
    /// Its content as it was observed.
    pub(super) content: Content,
    /// The device that it is on.
    pub(super) device: u64,
    /// It is a mount point: it cannot be renamed over, so it will be written in place, and a second name of it would
    /// not keep the content.
    pub(super) in_place: bool,
}

/// The content that a deed replaces or removes, if it does.
pub(super) fn keep(probe: &Probe, deed: &Deed) -> io::Result<Option<Keep>> {
    let Some((path, content)) = replaced(deed) else { return Ok(None) };
    let spot = Spot::find(&probe.locate(&"/".into()), path)?;
    let stat = spot.stat()?.ok_or_else(|| io::Error::other("it has just disappeared"))?;
    if stat.st_size as u64 != content.bytes {
        return Err(io::Error::other("it has just been changed by someone else"));
    }
    let in_place = is_mount_point(&spot)?;
    Ok(Some(Keep { spot: Some(spot), content: *content, device: stat.st_dev, in_place }))
}

/// The content that a deed replaces or removes, where an earlier deed of those that are armed together makes it first.
pub(super) fn keep_made(deed: &Deed, in_place: bool) -> Option<Keep> {
    let (_, content) = replaced(deed)?;
    // It is on no device yet.
    Some(Keep { spot: None, content: *content, device: u64::MAX, in_place })
}

fn replaced(deed: &Deed) -> Option<(&ByteText, &Content)> {
    let Deed::Change(Change { resource: Resource::Path(path), before, after }) = deed else { return None };
    let State::Path(PathState::File { content, .. }) = before else { return None };
    let stays = matches!(after, State::Path(PathState::File { content: new, .. }) if new == content);
    (!stays).then_some((path, content))
}

/// Whether a file is mounted over its own name. Kernels before 5.8 do not say; there, a file on another device than
/// its folder is one.
fn is_mount_point(spot: &Spot) -> io::Result<bool> {
    use rustix::fs::{StatxAttributes, StatxFlags, statx};
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    if let Ok(found) = statx(&spot.folder, &spot.name, flags, StatxFlags::empty())
        && found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)
    {
        return Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
    }
    let folder = rustix::fs::fstat(&spot.folder)?;
    Ok(spot.stat()?.is_some_and(|file| file.st_dev != folder.st_dev))
}

/// Keeps a content as `image`: by a second name of the file where that can be done, else as a reflink, else as a copy. The
/// file is to be brought onto the disk: also one with a second name, for what another program has just written must not be
/// lost with the power. It is an error if the content is not the one that was observed: what someone has written since would
/// be lost.
pub(super) fn save(keep: &Keep, blobs: &Blobs, image: &Path) -> io::Result<(Image, fs::File)> {
    fault!("image.save", io)?;
    let Some(spot) = &keep.spot else { return save_made(keep, blobs, image) };
    if !keep.in_place {
        let linked = rustix::fs::linkat(&spot.folder, &spot.name, CWD, image, AtFlags::empty());
        if linked.is_ok() {
            let file = open_image(image)?;
            copy_checked(&file, &mut io::sink(), &keep.content)?;
            return Ok((Image::Link, file));
        }
    }
    let source = spot.open(OFlags::RDONLY)?;
    let mut copy = private_file(image)?;
    fault!("image.copy", io)?;
    if rustix::fs::ioctl_ficlone(&copy, &source).is_err() {
        copy_checked(&source, &mut copy, &keep.content)?;
    }
    let stat = rustix::fs::fstat(&source)?;
    rustix::fs::futimens(&copy, &times_of(&stat))?;
    Ok((Image::Copy, copy))
}

/// The file that has got a second name. Should a link have taken its place just before, it is not followed.
fn open_image(image: &Path) -> io::Result<fs::File> {
    let (Some(folder), Some(name)) = (image.parent(), image.file_name()) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    Spot::find(folder, &Path::new("/").join(name).into())?.open(OFlags::RDONLY)
}

/// Keeps a content that is only about to be made.
fn save_made(keep: &Keep, blobs: &Blobs, image: &Path) -> io::Result<(Image, fs::File)> {
    let missing = || io::Error::other(format!("the content {} is not on this host", keep.content.digest.short()));
    let source = blobs.reader(&keep.content).ok_or_else(missing)??;
    let mut copy = private_file(image)?;
    copy_checked(source, &mut copy, &keep.content)?;
    Ok((Image::Copy, copy))
}

/// A file's times, to be given to another.
pub(in crate::target) fn times_of(stat: &rustix::fs::Stat) -> Timestamps {
    let time = |seconds, nanoseconds| rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec as i64),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec as i64),
    }
}

/// Copies a content, and says if it was another.
pub(in crate::target) fn copy_checked(mut from: impl Read, to: &mut impl Write, content: &Content) -> io::Result<()> {
    let at_once = content.bytes.clamp(1, 128 * 1024) as usize;
    let (mut hasher, mut buffer) = (Hasher::default(), vec![0u8; at_once]);
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                hasher.update(&buffer[..n]);
                to.write_all(&buffer[..n])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let (digest, bytes) = hasher.finish();
    match (Content { digest, bytes }) == *content {
        true => Ok(()),
        false => Err(io::Error::other("its content was changed by someone else")),
    }
}

fn private_file(path: &Path) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_someone_has_written_meanwhile_is_not_taken_for_what_was_observed() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        for (written, in_place) in [("seen", false), ("SEEN", false), ("SEEN", true)] {
            fs::write(folder.path().join("file"), written).unwrap();
            let spot = Spot::find(folder.path(), &"/file".into()).unwrap();
            let content = Content::of(b"seen");
            let kept = save(&Keep { spot: Some(spot), content, device: 0, in_place }, &Blobs::default(), &image);
            assert_eq!(kept.is_ok(), written == "seen", "{kept:?}");
            fs::remove_file(&image).unwrap();
        }
    }
}
