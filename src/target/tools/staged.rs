//! New files that are made ahead of their turn, beside their places: one wait for the disk serves all of them.

use std::{io, os::fd::AsFd};

use crate::{
    base::{ByteText, point::fault},
    model::{
        change::Deed,
        state::{Content, Meta},
    },
    target::{Tools, attributes, blobs::MEMORY_BYTES_EACH_MAX, disk},
};

/// Files that are made ahead with one wait.
const STAGED_MAX: usize = 64;

/// Which file it is, whatever name it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::target) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(file: &impl AsFd) -> io::Result<FileId> {
        Ok(FileId::from(&rustix::fs::fstat(file)?))
    }
}

impl From<&rustix::fs::Stat> for FileId {
    fn from(stat: &rustix::fs::Stat) -> FileId {
        FileId { device: stat.st_dev, inode: stat.st_ino }
    }
}

impl Tools<'_> {
    /// Makes the files that the entries are to place, beside their places, and brings them onto the disk together: then each
    /// of them takes its place without another wait. It ends where a folder is not there yet. What cannot be made now is
    /// made, or said to be impossible, when its turn comes.
    pub(in crate::target) fn stage(&self) -> io::Result<Vec<(u32, FileId)>> {
        let (mut made, mut files) = (Vec::new(), Vec::new());
        for entry in self.entries.iter().filter(|entry| !self.journal.has_staged(entry.no)) {
            let Some((path, content, meta)) = short_content(&entry.deed) else { continue };
            let Ok((spot, _)) = self.spot(path) else { break };
            if files.len() == STAGED_MAX {
                break;
            }
            // What is made where files get labels may get another one when its turn comes.
            if !self.blobs.has(content) || attributes::labels_new_files(&spot.folder).unwrap_or(true) {
                continue;
            }
            let Ok(temporary) = spot.beside(&self.journal.temporary_name(entry.no)) else { break };
            let file = self.fill(entry, content, meta, &spot, &temporary);
            made.push((entry.no, temporary));
            match file {
                Ok(file) => files.push(file),
                Err(_) => break,
            }
        }
        let ids = files.iter().map(FileId::of).collect::<io::Result<Vec<_>>>();
        let synced = ids.and_then(|ids| {
            fault!("tools.staged", sync)?;
            disk::sync_all(&files).map(|()| ids)
        });
        let kept = if synced.is_ok() { files.len() } else { 0 };
        made[kept..].iter().try_for_each(|(_, temporary)| temporary.clear())?;
        synced.map(|ids| made.iter().map(|(no, _)| *no).zip(ids).collect())
    }

    /// Removes what was made ahead for the entries: they will not be done.
    pub(in crate::target) fn clear_staged(&self) -> io::Result<()> {
        let staged = self.entries.iter().filter(|entry| self.journal.has_staged(entry.no));
        staged.filter_map(|entry| short_content(&entry.deed)).try_for_each(|(path, ..)| self.clear_temporary(path))
    }
}

/// The file that a deed makes anew, where its content is short.
fn short_content(deed: &Deed) -> Option<(&ByteText, &Content, &Meta)> {
    deed.new_file().filter(|(_, content, _)| content.bytes <= MEMORY_BYTES_EACH_MAX)
}
