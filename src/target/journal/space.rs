//! Whether there is room for the change and for the way back, asked before the first byte is written.

use std::{collections::HashMap, io, path::Path};

use crate::{
    model::{
        change::{Change, Deed},
        state::{PathState, Resource, State},
    },
    target::{
        Probe,
        folder::Spot,
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
    let mut needs: HashMap<u64, (u64, std::path::PathBuf)> = HashMap::new();
    for (deed, keep) in deeds.iter().zip(keeps) {
        let Some((folder, device, new)) = new_bytes(probe, deed).map_err(doing())? else { continue };
        let back = keep.as_ref().filter(copied).map_or(0, |keep| keep.content.bytes);
        needs.entry(device).or_insert((0, folder)).0 += new + back;
    }
    for (device, (bytes, folder)) in needs {
        let free = free_bytes(&folder).map_err(doing())?;
        let needed = bytes + if device == own { copies + SLACK_BYTES } else { 0 };
        if free < needed {
            return Err(JournalFault::NoSpace { what: "the new contents and the way back", needed, free });
        }
    }
    Ok(())
}

/// How many bytes a deed writes anew, and where: the nearest folder that exists.
fn new_bytes(probe: &Probe, deed: &Deed) -> io::Result<Option<(std::path::PathBuf, u64, u64)>> {
    let Deed::Change(Change { resource: Resource::Path(path), before, after }) = deed else { return Ok(None) };
    let State::Path(PathState::File { content, .. }) = after else { return Ok(None) };
    if matches!(before, State::Path(PathState::File { content: old, .. }) if old == content) {
        return Ok(None);
    }
    // A folder that an earlier deed of the same step makes is not there yet: the one above it is on the same disk.
    let root = probe.locate(&"/".into());
    let nearest = path.as_path().ancestors().find_map(|path| Spot::find(&root, &path.into()).ok());
    let Some(spot) = nearest else { return Ok(None) };
    let folder = crate::target::folder::path_of(&spot.folder);
    let device = rustix::fs::fstat(&spot.folder)?.st_dev;
    let real = std::fs::read_link(folder)?;
    Ok(Some((real, device, content.bytes)))
}

fn free_bytes(path: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}
