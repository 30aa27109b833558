//! Whether there is room for the change and for the way back, asked before the first byte is written.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    base::ByteText,
    model::change::Deed,
    target::{
        Probe,
        folder::{Spot, path_of},
        journal::{fault::JournalFault, image::Keep},
    },
};

/// What must stay free for records and folders.
const SLACK_BYTES: u64 = 1024 * 1024;

/// Checks that the copies that `keeps` need fit beside the journal in `home`, and that on every file system that the
/// deeds write to the new contents fit, and the old ones beside them on the way back.
pub(super) fn check(probe: &Probe, home: &Path, deeds: &[&Deed], keeps: &[Option<Keep>]) -> Result<(), JournalFault> {
    let doing = || JournalFault::io("asking for free space");
    let own = rustix::fs::stat(home).map_err(|error| doing()(error.into()))?.st_dev;
    let copied = |keep: &&Keep| keep.in_place || keep.device != own;
    let copies: u64 = keeps.iter().flatten().filter(copied).map(|keep| keep.content.bytes).sum();
    let free = free_bytes(home).map_err(doing())?;
    if free < copies + SLACK_BYTES {
        return Err(JournalFault::NoSpace { what: "the way back", needed: copies + SLACK_BYTES, free });
    }
    let mut disks: Vec<Disk> = Vec::new();
    // Steps that come together go into few folders, one after another.
    let mut last: (Option<&Path>, Option<usize>) = (None, None);
    for (deed, keep) in deeds.iter().zip(keeps) {
        let Some((path, content, _)) = deed.new_file() else { continue };
        let folder = path.as_path().parent();
        if last.0 != folder {
            last = (folder, disk_of(probe, path, &mut disks).map_err(doing())?);
        }
        if let Some(at) = last.1 {
            disks[at].bytes += content.bytes + keep.as_ref().filter(copied).map_or(0, |keep| keep.content.bytes);
        }
    }
    for Disk { device, folder, bytes } in disks {
        let free = free_bytes(&folder).map_err(doing())?;
        let needed = bytes + if device == own { copies + SLACK_BYTES } else { 0 };
        if free < needed {
            return Err(JournalFault::NoSpace { what: "the new contents and the way back", needed, free });
        }
    }
    Ok(())
}

/// A file system that is written to.
struct Disk {
    device: u64,
    /// A folder on it.
    folder: PathBuf,
    /// How many bytes it will get.
    bytes: u64,
}

/// Which of the disks a path is on, or will be on: a folder that is not there yet will be on that of the one above it.
fn disk_of(probe: &Probe, path: &ByteText, disks: &mut Vec<Disk>) -> io::Result<Option<usize>> {
    let root = probe.locate(&"/".into());
    let nearest = path.as_path().ancestors().find_map(|path| Spot::find(&root, &path.into()).ok());
    let Some(spot) = nearest else { return Ok(None) };
    let device = rustix::fs::fstat(&spot.folder)?.st_dev;
    if let Some(at) = disks.iter().position(|disk| disk.device == device) {
        return Ok(Some(at));
    }
    disks.push(Disk { device, folder: std::fs::read_link(path_of(&spot.folder))?, bytes: 0 });
    Ok(Some(disks.len() - 1))
}

fn free_bytes(path: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}
