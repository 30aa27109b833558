//! The way back: the write-ahead list of a run's deeds on the target's disk (docs/journal-format.md).
//!
//! A deed is armed before it is begun: what it takes to undo it is on the disk, synced, when [`Journal::arm`] returns.
//! Only then are there [`Tools`] for it. It is sealed when it is done. A run that ends closes its journal; one that is
//! cut off leaves it open, and whoever comes next settles it by looking at each resource.

mod boot;
mod claim;
mod fault;
mod image;
mod keep;
mod kept;
mod lock;
mod log;
mod program;
mod record;
mod space;
mod store;
mod story;
mod witnesses;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    fs, io,
    path::PathBuf,
};

use crate::{
    base::{ByteText, point::fault},
    model::{
        change::{Act, Deed, Undo},
        event::{HostOutcome, Undone},
        ids::{RunId, TaskNo},
        state::Resource,
        witness::Witness,
    },
    target::{
        Blobs, Probe, Tools, disk,
        folder::{Spot, sync_folder},
        journal::{image::Keep, lock::Lock, log::Log, record::Record, story::Story},
        tools::FileId,
    },
};

pub use fault::JournalFault;
pub(in crate::target) use image::{copy_checked, times_of};
pub use kept::Kept;
pub(in crate::target) use program::MARK;
pub use record::{Entry, Image, Opened, WayOfHandlers};
pub use store::{Store, token};
pub use story::{Attempts, Status};
pub use witnesses::WITNESSES_MAX;

/// Handlers that take more than about so many bytes are not kept.
const HANDLERS_BYTES_MAX: usize = 1024 * 1024;

/// Files that are held open to be brought onto the disk together.
const HELD_MAX: usize = 64;

/// The journal of one run. It holds the host's lock until it is dropped.
#[derive(Debug)]
pub struct Journal {
    store: Store,
    lock: Option<Lock>,
    opened: Opened,
    folder: PathBuf,
    /// None until the first deed is armed.
    log: Option<Log>,
    story: Story,
    /// What is to be written with the first entry.
    ahead: Vec<Record>,
    /// Folders whose names must be on the disk before the run is closed.
    unsynced: RefCell<BTreeSet<ByteText>>,
    /// Files that are on the disk beside their places, by their entries.
    staged: RefCell<BTreeMap<u32, FileId>>,
}

/// The proof that a deed may be begun: what undoes it is on the disk. Only [`Journal::arm`] makes one.
///
/// ```compile_fail
/// let armed = rollbook::target::journal::Armed { entry: 0 };
/// ```
#[derive(Debug)]
pub struct Armed {
    entry: u32,
}

impl Armed {
    /// The entry's number.
    pub fn entry(&self) -> u32 {
        self.entry
    }
}

impl Journal {
    fn new(store: Store, lock: Lock, opened: Opened) -> Self {
        let folder = store.open_folder(&opened.lease.bid.run);
        let story = Story::default();
        Journal {
            store,
            lock: Some(lock),
            opened,
            folder,
            log: None,
            story,
            ahead: Vec::new(),
            unsynced: RefCell::default(),
            staged: RefCell::default(),
        }
    }

    fn taken_up(store: Store, lock: Lock, folder: PathBuf, log: Log, story: Story) -> Self {
        let opened = story.opened.clone().expect("only what was opened is taken up");
        Journal {
            store,
            lock: Some(lock),
            opened,
            folder,
            log: Some(log),
            story,
            ahead: Vec::new(),
            unsynced: RefCell::default(),
            staged: RefCell::default(),
        }
    }

    /// The run.
    pub fn run(&self) -> &RunId {
        &self.opened.lease.bid.run
    }

    /// Whether something was done, or may have been.
    pub fn is_begun(&self) -> bool {
        self.log.is_some()
    }

    /// Who opened it.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// This run undoes another one. To be said before its first deed.
    pub fn undoes(&mut self, run: RunId) {
        self.ahead.push(Record::Undoes { run });
    }

    /// Where long contents of this run may be spilled. Gone when the run is settled.
    pub fn blobs_folder(&self) -> PathBuf {
        self.folder.join(store::BLOBS)
    }

    /// Makes the undo of a task's deeds durable: see [`Journal::arm_all`].
    pub fn arm(
        &mut self,
        probe: &Probe,
        task: TaskNo,
        sensitive: bool,
        deeds: &[Deed],
    ) -> Result<Vec<Armed>, JournalFault> {
        let due: Vec<Due<'_>> = deeds.iter().map(|deed| Due { task, sensitive, deed }).collect();
        self.arm_all(probe, &Blobs::default(), &due)
    }

    /// Makes the undo of deeds durable, before any of them is begun: keeps the contents that they replace or remove,
    /// appends an entry for each, and brings all of it onto the disk with one sync of the journal. Where a deed replaces
    /// what an earlier one of them will make, that is kept from `blobs`.
    ///
    /// # Errors
    /// When it cannot be made durable. Then nothing may be changed, and nothing was.
    pub fn arm_all(&mut self, probe: &Probe, blobs: &Blobs, due: &[Due<'_>]) -> Result<Vec<Armed>, JournalFault> {
        if !self.lock.as_ref().is_some_and(Lock::is_ours) {
            return Err(JournalFault::TakenOver);
        }
        self.begin()?;
        fault!("journal.arm");
        let keeps = keeps(probe, due)?;
        let deeds: Vec<&Deed> = due.iter().map(|due| due.deed).collect();
        space::check(probe, &self.folder, &deeds, &keeps)?;
        let first = self.story.entries.len();
        let (mut records, mut images) = (Vec::with_capacity(due.len()), Vec::new());
        for ((no, due), keep) in (first..).zip(due).zip(&keeps) {
            let no = u32::try_from(no).map_err(|_| JournalFault::TooLong { bytes: usize::MAX })?;
            let path = self.image_path(no);
            if keep.is_some() {
                // Left by an earlier try of the same entry that could not be armed.
                let _none_there = fs::remove_file(&path);
            }
            let saved = keep.as_ref().map(|keep| image::save(keep, blobs, &path)).transpose();
            let saved = saved.map_err(JournalFault::io(format!("keeping what {} holds", subject(due.deed))))?;
            let image = saved.map(|(image, file)| {
                images.push(file);
                image
            });
            if images.len() == HELD_MAX {
                sync_images(&mut images)?;
            }
            let in_place = keep.as_ref().is_some_and(|keep| keep.in_place);
            let (task, sensitive, deed) = (due.task, due.sensitive, kept(due.deed));
            records.push(Record::Armed(Box::new(Entry { no, task, sensitive, deed, image, in_place })));
        }
        sync_images(&mut images)?;
        if keeps.iter().any(Option::is_some) {
            fault!("journal.images", sync)
                .and_then(|()| sync_folder(&self.folder.join(store::IMAGES)))
                .map_err(JournalFault::io("syncing the before-images"))?;
        }
        self.write(&records)?;
        self.log.as_mut().expect("begun above").sync()?;
        fault!("journal.armed");
        Ok((first..first + due.len()).map(|no| Armed { entry: no as u32 }).collect())
    }

    /// Makes the new files of deeds that are armed, beside their places, with one wait for the disk. Only what is short is
    /// made so, and only as far as the folders are there.
    ///
    /// # Errors
    /// When they cannot be brought onto the disk.
    pub fn stage<'a>(&self, probe: &Probe, blobs: &Blobs, armed: impl Iterator<Item = &'a Armed>) -> io::Result<()> {
        let entries = armed.map(|armed| &self.story.entries[armed.entry as usize].0).collect();
        let staged = Tools::mint(probe, blobs, self, entries, false).stage()?;
        self.staged.borrow_mut().extend(staged);
        Ok(())
    }

    /// Whether the new file of an entry stands on the disk beside its place.
    pub(in crate::target) fn has_staged(&self, entry: u32) -> bool {
        self.staged.borrow().contains_key(&entry)
    }

    /// The same, and it is still the file that was made.
    pub(in crate::target) fn is_staged(&self, entry: u32, temporary: &Spot) -> io::Result<bool> {
        let Some(made) = self.staged.borrow().get(&entry).copied() else { return Ok(false) };
        Ok(temporary.stat()?.is_some_and(|found| FileId::from(&found) == made))
    }

    /// Deeds that were armed will not be done. Nothing of them was begun, and what was made ahead goes: an entry whose file
    /// cannot be removed stays armed, for whoever undoes the run to clear up.
    pub fn drop_armed(&mut self, probe: &Probe, blobs: &Blobs, armed: &[Armed]) -> Result<(), JournalFault> {
        if self.tools(probe, blobs, armed).clear_staged().is_err() {
            return Ok(());
        }
        let records: Vec<Record> = armed.iter().map(|armed| Record::Dropped { entry: armed.entry }).collect();
        self.write(&records)
    }

    /// The tools for deeds that are armed: they write to what these deeds change, and to nothing else.
    pub fn tools<'a>(&'a self, probe: &'a Probe, blobs: &'a Blobs, armed: &[Armed]) -> Tools<'a> {
        let entries = armed.iter().map(|armed| &self.story.entries[armed.entry as usize].0).collect();
        Tools::mint(probe, blobs, self, entries, false)
    }

    /// The tools for the way back of entries of this journal, which are on the disk since they were armed.
    pub fn tools_back<'a>(&'a self, probe: &'a Probe, blobs: &'a Blobs, entries: &[u32]) -> Tools<'a> {
        let entries = entries.iter().map(|entry| &self.story.entries[*entry as usize].0).collect();
        Tools::mint(probe, blobs, self, entries, true)
    }

    /// The deed is done.
    pub fn seal(&mut self, armed: &Armed) -> Result<(), JournalFault> {
        self.write(&[Record::Sealed { entry: armed.entry }])
    }

    /// The deed was tried and failed by itself.
    pub fn miss(&mut self, armed: &Armed) -> Result<(), JournalFault> {
        self.write(&[Record::Missed { entry: armed.entry }])
    }

    /// What handlers do. To be said before the first deed; very much of it is not kept.
    pub fn keep_handlers(&mut self, handlers: WayOfHandlers) {
        let words = handlers.acts.values().flatten().map(|act| format!("{act:?}").len()).sum::<usize>();
        self.ahead.extend((words <= HANDLERS_BYTES_MAX).then_some(Record::Handlers(handlers)));
    }

    /// What handlers do, as far as it was said.
    pub fn handlers(&self) -> &WayOfHandlers {
        &self.story.handlers
    }

    /// The entry was undone, or could not be.
    pub fn undone(&mut self, entry: u32, how: Undone) -> Result<(), JournalFault> {
        self.write(&[Record::Undone { entry, how }])
    }

    /// An attempt to put everything back begins. It is counted by that: it may take the machine down.
    pub fn attempt(&mut self) -> Result<(), JournalFault> {
        self.attempted("")
    }

    /// Putting everything back was tried in vain. The journal stays open.
    pub fn attempted(&mut self, message: &str) -> Result<(), JournalFault> {
        self.write(&[Record::Attempted { message: message.to_owned() }])?;
        self.sync()
    }

    /// Attempts to put everything back that were in vain.
    pub fn attempts(&self) -> &Attempts {
        &self.story.attempts
    }

    /// The entries and how far each has come, in the order in which they were armed.
    pub fn entries(&self) -> &[(Entry, Status)] {
        &self.story.entries
    }

    /// Ends the run: all that it did is on the disk, then its last record, then it is settled and the host is free for
    /// the next. Where that fails, the run can still be undone.
    pub fn close(
        &mut self,
        probe: &Probe,
        outcome: HostOutcome,
        witness: Option<&Witness>,
    ) -> Result<(), JournalFault> {
        fault!("journal.close");
        self.settle_folders(probe)?;
        if let Some(witness) = witness {
            self.store.keep_witness(witness)?;
        }
        if self.log.is_none() {
            let was_made = self.folder.is_dir();
            store::remove_tree(&self.folder).map_err(JournalFault::io("removing what was sent for the run"))?;
            if was_made {
                // Made before the journal, which could not be.
                self.store.forget_boot()?;
            }
        } else {
            self.end(outcome)?;
        }
        self.lock = None;
        Ok(())
    }

    fn end(&mut self, outcome: HostOutcome) -> Result<(), JournalFault> {
        self.write(&[Record::Closed { outcome }])?;
        self.log.as_mut().map_or(Ok(()), Log::sync)?;
        fault!("journal.closed");
        // From here on the run has ended. What cannot be tidied up now is by the next run.
        let _tidied_later = self.store.settle(&self.folder, outcome);
        Ok(())
    }

    /// Whether its last record is written. Where that could not be synced, the disk decides whether the run has ended so
    /// or is still open, and nothing may be changed any more that would make either untrue.
    pub fn is_closed(&self) -> bool {
        self.story.closed.is_some()
    }

    /// Brings the records so far onto the disk.
    pub fn sync(&mut self) -> Result<(), JournalFault> {
        self.log.as_mut().map_or(Ok(()), Log::sync)
    }

    /// Brings the names in all folders that were written to onto the disk.
    fn settle_folders(&self, probe: &Probe) -> Result<(), JournalFault> {
        let root = probe.locate(&"/".into());
        let unsynced: Vec<ByteText> = std::mem::take(&mut *self.unsynced.borrow_mut()).into_iter().collect();
        for some in unsynced.chunks(HELD_MAX) {
            // One that was removed since needs no sync of its own: the folder above it is among them.
            let found = some.iter().filter_map(|folder| Spot::find(&root, &folder.as_path().join("name").into()).ok());
            found
                .filter_map(|spot| spot.readable_folder().transpose())
                .collect::<io::Result<Vec<_>>>()
                .and_then(|folders| fault!("journal.folder", sync).and_then(|()| disk::sync_all(&folders)))
                .map_err(JournalFault::io("syncing the folders that were written to"))?;
        }
        Ok(())
    }

    /// The names in the folder of `path` must be on the disk before the run is closed.
    pub(in crate::target) fn owe_sync(&self, path: &ByteText) {
        if let Some(folder) = path.as_path().parent() {
            self.unsynced.borrow_mut().insert(folder.into());
        }
    }

    /// What temporary names of an entry are: nobody can guess them, and recovery knows them.
    pub(in crate::target) fn temporary_name(&self, entry: u32) -> String {
        format!(".rollbook-{}-{entry}", self.opened.token)
    }

    /// By what a program that is started for an entry is known, should its agent be killed.
    pub(in crate::target) fn mark(&self, entry: u32, back: bool) -> String {
        program::mark(&self.opened.lease, entry, back)
    }

    /// Where an entry's before-image is kept.
    pub(in crate::target) fn image_path(&self, entry: u32) -> PathBuf {
        self.folder.join(store::IMAGES).join(entry.to_string())
    }

    /// Where packages are kept that go: as long as the before-images are.
    pub(in crate::target) fn packages_folder(&self) -> PathBuf {
        self.folder.join(store::IMAGES).join(store::PACKAGES)
    }

    /// Makes the folder and the file, with the first entry.
    fn begin(&mut self) -> Result<(), JournalFault> {
        if self.log.is_none() {
            let folder = self.store.make_run(self.run())?;
            self.store.make_boot_entry()?;
            let log = Log::create(&folder.join(store::JOURNAL))?;
            fault!("journal.begun", sync)
                .and_then(|()| sync_folder(&folder))
                .map_err(JournalFault::io("syncing the journal's folder"))?;
            self.log = Some(log);
            let mut first = vec![Record::Opened(self.opened.clone())];
            first.extend(self.ahead.iter().cloned());
            // Without them there is no journal: nothing else may be written to it.
            self.write(&first).inspect_err(|_| self.log = None)?;
            self.ahead.clear();
        }
        Ok(())
    }

    fn write(&mut self, records: &[Record]) -> Result<(), JournalFault> {
        let Some(log) = &mut self.log else { return Ok(()) };
        log.append(records)?;
        for record in records {
            self.story.tell(record).map_err(|_| JournalFault::Damaged {
                path: self.folder.join(store::JOURNAL),
                why: format!("was given a record that does not follow: {record:?}"),
            })?;
        }
        Ok(())
    }
}

/// A deed that is to be armed.
#[derive(Clone, Copy, Debug)]
pub struct Due<'a> {
    /// Which task does it.
    pub task: TaskNo,
    /// Nothing of it is shown.
    pub sensitive: bool,
    /// What is done.
    pub deed: &'a Deed,
}

/// Brings before-images onto the disk.
fn sync_images(images: &mut Vec<fs::File>) -> Result<(), JournalFault> {
    let synced = fault!("image.sync", sync).and_then(|()| disk::sync_all(images));
    images.clear();
    synced.map_err(JournalFault::io("bringing the before-images onto the disk"))
}

/// What deeds that are armed together replace or remove.
fn keeps(probe: &Probe, due: &[Due<'_>]) -> Result<Vec<Option<Keep>>, JournalFault> {
    let mut changed: HashMap<&Resource, bool> = HashMap::new();
    let mut keeps = Vec::with_capacity(due.len());
    for Due { deed, .. } in due {
        let resource = match deed {
            Deed::Change(change) => Some(&change.resource),
            Deed::Act { .. } => None,
        };
        let keep = match resource.and_then(|resource| changed.get(resource)) {
            Some(in_place) => image::keep_made(deed, *in_place),
            None => image::keep(probe, deed)
                .map_err(JournalFault::io(format!("looking at what {} holds", subject(deed))))?,
        };
        if let Some(resource) = resource {
            let in_place = keep.as_ref().is_some_and(|keep| keep.in_place);
            *changed.entry(resource).or_default() |= in_place;
        }
        keeps.push(keep);
    }
    Ok(keeps)
}

/// A deed as the journal keeps it: without what a command was told in private, unless it may be done again.
fn kept(deed: &Deed) -> Deed {
    let mut deed = deed.clone();
    if let Deed::Act { act: Act::Run(command), undo: Undo::Run(_) | Undo::Irreversible } = &mut deed {
        command.stdin = None;
        command.environment.clear();
    }
    deed
}

fn subject(deed: &Deed) -> String {
    match deed {
        Deed::Change(change) => change.resource.to_string(),
        Deed::Act { .. } => "an act".into(),
    }
}
