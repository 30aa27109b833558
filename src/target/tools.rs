//! What may be written of the machine.

mod accounts;
mod staged;

use std::{
    fs, io,
    io::{Read, Seek},
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, OFlags, RenameFlags};

use crate::{
    base::{ByteText, point::fault},
    model::{
        change::{Change, CommandSpec, Deed},
        event::Output,
        state::{Content, Id, Meta, PathState, Resource, State},
    },
    target::{
        Blobs, Journal, Probe,
        attributes::{self, Owner},
        disk,
        folder::{Spot, path_of},
        journal::{Entry, Image, MARK, copy_checked, times_of},
        process::{self, Hold},
    },
};

pub use accounts::{AccountFile, AccountLock};
pub(in crate::target) use staged::FileId;

/// Everything that can change the machine. Minted by the journal alone, for entries that are already durable, and good
/// for what these entries change and nothing else.
///
/// No undo on disk, no tools in hand: there is no other way to get them.
///
/// ```compile_fail
/// let tools = rollbook::target::Tools::mint(todo!(), todo!(), todo!(), vec![], false);
/// ```
///
/// Folders on the way to a path are never reached through a symbolic link.
#[derive(Debug)]
pub struct Tools<'journal> {
    probe: &'journal Probe,
    blobs: &'journal Blobs,
    journal: &'journal Journal,
    entries: Vec<&'journal Entry>,
    back: bool,
}

impl<'journal> Tools<'journal> {
    pub(in crate::target) fn mint(
        probe: &'journal Probe,
        blobs: &'journal Blobs,
        journal: &'journal Journal,
        entries: Vec<&'journal Entry>,
        back: bool,
    ) -> Self {
        Tools { probe, blobs, journal, entries, back }
    }

    /// What may be read.
    pub fn probe(&self) -> &Probe {
        self.probe
    }

    /// Where packages that go are kept for the way back; none on the way back itself.
    pub fn packages_to_keep(&self) -> Option<PathBuf> {
        (!self.back).then(|| self.journal.packages_folder())
    }

    /// Where packages that are to come back may have been kept.
    pub fn packages_kept(&self) -> Option<PathBuf> {
        if self.back { Some(self.journal.packages_folder()) } else { self.blobs.packages().map(Path::to_owned) }
    }

    /// Runs a program that changes what the entries are about (`apt-get`, `useradd`, `systemctl`). A lost controller
    /// does not end it: what it brings about should not be left half done.
    pub fn run(&self, command: &CommandSpec) -> io::Result<Output> {
        self.start(command, Hold::Firm)
    }

    /// Runs a command of the runbook's. A lost controller ends it.
    pub fn act(&self, command: &CommandSpec) -> io::Result<Output> {
        self.start(command, Hold::Loose)
    }

    fn start(&self, command: &CommandSpec, hold: Hold) -> io::Result<Output> {
        fault!("tools.run", io)?;
        let mut command = command.clone();
        if let [first, ..] = self.entries[..] {
            command.environment.insert(MARK.to_owned(), self.journal.mark(first.no, self.back));
        }
        let ran = process::run_held(&command, self.probe.running(), hold);
        fault!("tools.ran");
        ran
    }

    /// Puts a file there, in one step: whoever looks sees what was there before, or all of it. On the way back the
    /// file that was there before is itself put back where it was kept by a second name, so that its times and its
    /// other names are as before.
    pub fn write_file(&self, path: &ByteText, content: &Content, meta: &Meta) -> io::Result<()> {
        let (spot, entry) = self.spot(path)?;
        let temporary = spot.beside(&self.journal.temporary_name(entry.no))?;
        let made = match self.image_of(entry, content) {
            _ if !self.back && self.journal.is_staged(entry.no, &temporary)? => Ok(()),
            Some(Image::Link) => temporary.clear().and_then(|()| self.link_image(entry, content, &temporary)),
            _ => self
                .fill(entry, content, meta, &spot, &temporary)
                .and_then(|file| fault!("tools.temporary_sync", sync).and_then(|()| disk::sync(&file))),
        };
        let placed =
            made.and_then(|()| fault!("tools.place", io)).and_then(|()| place(&temporary, &spot, content, meta));
        fault!("tools.placed");
        // After renaming over another name of the same file, both names are still there.
        let cleared = temporary.clear();
        placed.and(cleared)?;
        self.journal.owe_sync(path);
        Ok(())
    }

    /// Makes a directory, whole with its attributes in one step.
    pub fn make_directory(&self, path: &ByteText, meta: &Meta) -> io::Result<()> {
        let (spot, entry) = self.spot(path)?;
        let temporary = spot.beside(&self.journal.temporary_name(entry.no))?;
        remove_directory_at(&temporary)?;
        fault!("tools.directory", io)?;
        // One that is made as it should be has no moment at which it is something else.
        rustix::fs::mkdirat(&temporary.folder, &temporary.name, (meta.mode & 0o777).into())?;
        let made = fault!("tools.directory_made", io)
            .and_then(|()| dress(&temporary, meta))
            .and_then(|()| fault!("tools.directory_dressed", io))
            .and_then(|()| rename_new(&temporary, &spot));
        fault!("tools.directory_placed");
        if made.is_err() {
            remove_directory_at(&temporary)?;
        }
        self.journal.owe_sync(path);
        made
    }

    /// Makes a symbolic link, or puts one in the place of a file or link.
    pub fn make_link(&self, path: &ByteText, target: &ByteText, uid: &Id, gid: &Id) -> io::Result<()> {
        let (spot, entry) = self.spot(path)?;
        let temporary = spot.beside(&self.journal.temporary_name(entry.no))?;
        temporary.clear()?;
        fault!("tools.link", io)?;
        rustix::fs::symlinkat(target.as_path(), &temporary.folder, &temporary.name)?;
        let made = fault!("tools.link_made", io)
            .and_then(|()| attributes::bring_owner(&temporary, &Owner::of(uid, gid)?))
            .and_then(|()| Ok(rustix::fs::renameat(&temporary.folder, &temporary.name, &spot.folder, &spot.name)?));
        fault!("tools.link_placed");
        if made.is_err() {
            temporary.clear()?;
        }
        self.journal.owe_sync(path);
        made
    }

    /// Brings mode, owner, group and extended attributes of a file or directory that is there.
    pub fn set_meta(&self, path: &ByteText, meta: &Meta) -> io::Result<()> {
        let (spot, _) = self.spot(path)?;
        let held = spot.hold()?;
        fault!("tools.meta", io)?;
        attributes::bring(&held, meta)?;
        sync_held(&held)
    }

    /// Brings owner and group of a symbolic link itself.
    pub fn set_link_owner(&self, path: &ByteText, uid: &Id, gid: &Id) -> io::Result<()> {
        let (spot, _) = self.spot(path)?;
        self.journal.owe_sync(path);
        fault!("tools.link_owner", io)?;
        attributes::bring_owner(&spot, &Owner::of(uid, gid)?)
    }

    /// Removes a file or symbolic link.
    pub fn remove_file(&self, path: &ByteText) -> io::Result<()> {
        let (spot, _) = self.spot(path)?;
        fault!("tools.remove", io)?;
        rustix::fs::unlinkat(&spot.folder, &spot.name, AtFlags::empty())?;
        fault!("tools.removed");
        self.journal.owe_sync(path);
        Ok(())
    }

    /// Removes a directory, which must be empty.
    pub fn remove_directory(&self, path: &ByteText) -> io::Result<()> {
        let (spot, _) = self.spot(path)?;
        fault!("tools.remove_directory", io)?;
        rustix::fs::unlinkat(&spot.folder, &spot.name, AtFlags::REMOVEDIR)?;
        fault!("tools.directory_removed");
        self.journal.owe_sync(path);
        Ok(())
    }

    /// Gives a directory its place that has lost it to the power, while what was made in it since was kept: then all of
    /// it is found where it is looked for.
    pub fn place_again(&self, path: &ByteText) -> io::Result<()> {
        let Ok((spot, entry)) = self.spot(path) else { return Ok(()) };
        let temporary = spot.beside(&self.journal.temporary_name(entry.no))?;
        match rustix::fs::unlinkat(&temporary.folder, &temporary.name, AtFlags::REMOVEDIR) {
            Err(rustix::io::Errno::NOTEMPTY) => rename_new(&temporary, &spot),
            _ => Ok(()),
        }
    }

    /// Clears up what a crash has left beside the paths of the entries.
    pub fn clear_temporary(&self, path: &ByteText) -> io::Result<()> {
        let (spot, entry) = match self.spot(path) {
            Ok(found) => found,
            // Where there is no folder, nothing is in it.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let temporary = spot.beside(&self.journal.temporary_name(entry.no))?;
        fault!("tools.clear", io)?;
        match temporary.clear() {
            Err(_) => remove_directory_at(&temporary),
            cleared => cleared,
        }
    }

    /// The entry that allows writing to `path`, and the folder of it.
    fn spot(&self, path: &ByteText) -> io::Result<(Spot, &'journal Entry)> {
        let is_of = |entry: &&&Entry| match &entry.deed {
            Deed::Change(change) => matches!(&change.resource, Resource::Path(own) if own == path),
            Deed::Act { .. } => false,
        };
        let entry = self.entries.iter().find(is_of).ok_or_else(|| {
            io::Error::other(format!("{path} was not armed in the journal, and must not be written to"))
        })?;
        Ok((Spot::find(&self.probe.locate(&"/".into()), path)?, entry))
    }

    /// How the file that held `content` before `entry` is kept, on the way back.
    fn image_of(&self, entry: &Entry, content: &Content) -> Option<Image> {
        match &entry.deed {
            Deed::Change(Change { before: State::Path(PathState::File { content: before, .. }), .. })
                if self.back && before == content =>
            {
                entry.image
            }
            _ => None,
        }
    }

    /// Gives the file that was kept by a second name a third one. It must not have been written to since.
    fn link_image(&self, entry: &Entry, content: &Content, temporary: &Spot) -> io::Result<()> {
        let image = self.journal.image_path(entry.no);
        copy_checked(fs::File::open(&image)?, &mut io::sink(), content)?;
        fault!("tools.image", io)?;
        Ok(rustix::fs::linkat(CWD, &image, &temporary.folder, &temporary.name, AtFlags::empty())?)
    }

    /// Makes a file of a content beside its place. It is not on the disk yet.
    fn fill(
        &self,
        entry: &Entry,
        content: &Content,
        meta: &Meta,
        old: &Spot,
        temporary: &Spot,
    ) -> io::Result<fs::File> {
        temporary.clear()?;
        fault!("tools.temporary", io)?;
        let is_moved = self.move_sent(content, temporary)?;
        let mut file = if is_moved { temporary.open(OFlags::RDWR)? } else { temporary.create()? };
        fault!("tools.temporary_made", io)?;
        if !is_moved {
            self.copy(entry, content, &mut file)?;
        }
        fault!("tools.temporary_written", io)?;
        attributes::bring(&file, meta)?;
        attributes::keep_label(old, &file)?;
        let kept = match self.image_of(entry, content) {
            Some(_) => Some(self.journal.image_path(entry.no)),
            None => self.blobs.lent(content).map(Path::to_owned),
        };
        if let Some(kept) = kept {
            rustix::fs::futimens(&file, &times_of(&rustix::fs::stat(kept)?))?;
        }
        Ok(file)
    }

    /// Copies a content. What was sent was hashed as it came into a folder that is ours alone, and the step looks at the
    /// file again in its place; all else is hashed on the way.
    fn copy(&self, entry: &Entry, content: &Content, to: &mut fs::File) -> io::Result<()> {
        match self.blobs.sent(content).filter(|_| !self.back) {
            None => copy_checked(self.content(entry, content)?, to, content),
            Some(path) => io::copy(&mut fs::File::open(path)?, to).map(|_| ()),
        }
    }

    /// Moves the file that the controller has sent beside its place; whether it could. It stays where a file that is made
    /// there would get another security label, and where the place is in another file system.
    fn move_sent(&self, content: &Content, temporary: &Spot) -> io::Result<bool> {
        if self.back || attributes::labels_new_files(&temporary.folder)? {
            return Ok(false);
        }
        self.blobs.give(content, |sent| {
            let flags = RenameFlags::NOREPLACE;
            Ok(rustix::fs::renameat_with(CWD, sent, &temporary.folder, &temporary.name, flags).is_ok())
        })
    }

    /// A content's bytes: from the run's blobs, or from a before-image of the run.
    fn content(&self, entry: &Entry, content: &Content) -> io::Result<Box<dyn Read>> {
        if self.image_of(entry, content).is_some() {
            return Ok(Box::new(fs::File::open(self.journal.image_path(entry.no))?));
        }
        if let Some(reader) = self.blobs.reader(content) {
            return reader;
        }
        let holds = |entry: &Entry| match &entry.deed {
            Deed::Change(Change { before: State::Path(PathState::File { content: kept, .. }), .. }) => {
                kept == content && entry.image.is_some()
            }
            _ => false,
        };
        match self.journal.entries().iter().find(|(entry, _)| holds(entry)) {
            Some((entry, _)) => Ok(Box::new(fs::File::open(self.journal.image_path(entry.no))?)),
            None => Err(io::Error::other(format!("the content {} is not on this host", content.digest.short()))),
        }
    }
}

/// Moves a file to its place; where that is a mount point, which cannot be moved over, writes it in place.
fn place(temporary: &Spot, spot: &Spot, content: &Content, meta: &Meta) -> io::Result<()> {
    match rustix::fs::renameat(&temporary.folder, &temporary.name, &spot.folder, &spot.name) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::BUSY | rustix::io::Errno::XDEV) => write_in_place(temporary, spot, content, meta),
        Err(error) => Err(error.into()),
    }
}

fn write_in_place(temporary: &Spot, spot: &Spot, content: &Content, meta: &Meta) -> io::Result<()> {
    let mut source = temporary.open(OFlags::RDONLY)?;
    let mut file = spot.open(OFlags::WRONLY)?;
    file.rewind()?;
    fault!("tools.in_place", io)?;
    copy_checked(&mut source, &mut file, content)?;
    fault!("tools.in_place_written", io)?;
    file.set_len(content.bytes)?;
    fault!("tools.in_place_cut", io)?;
    attributes::bring(&file, meta)?;
    rustix::fs::futimens(&file, &times_of(&rustix::fs::fstat(source.as_fd())?))?;
    fault!("tools.in_place_sync", sync)?;
    disk::sync(&file)
}

/// Brings the attributes of a new directory. They are on the disk before it gets its name: without them it would be
/// somebody else's.
fn dress(temporary: &Spot, meta: &Meta) -> io::Result<()> {
    let held = temporary.hold()?;
    match attributes::bring(&held, meta)? {
        true => sync_held(&held),
        false => Ok(()),
    }
}

/// Brings what is held, a file or directory, onto the disk. What the agent's own user may not read is left to the kernel.
fn sync_held(held: &impl AsRawFd) -> io::Result<()> {
    match fs::File::open(path_of(held)) {
        Ok(file) => fault!("tools.meta_set", sync).and_then(|()| disk::sync(&file)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

/// Gives a directory its place, which must be free.
fn rename_new(temporary: &Spot, spot: &Spot) -> io::Result<()> {
    use rustix::{fs::renameat_with, io::Errno};
    match renameat_with(&temporary.folder, &temporary.name, &spot.folder, &spot.name, RenameFlags::NOREPLACE) {
        // A file system that cannot promise not to replace: it can still only replace an empty directory.
        Err(Errno::INVAL | Errno::NOSYS) => {
            Ok(rustix::fs::renameat(&temporary.folder, &temporary.name, &spot.folder, &spot.name)?)
        }
        renamed => Ok(renamed?),
    }
}

fn remove_directory_at(spot: &Spot) -> io::Result<()> {
    match rustix::fs::unlinkat(&spot.folder, &spot.name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
