//! Where journals are kept: one private folder on the target's disk, one folder in it for each run.
//!
//! ```text
//! lock                   held by the agent whose run holds the host
//! keep_runs              which settled runs are kept, where somebody has said so
//! holder                 who that is, and how it stands
//! claim                  names a run whose agent is asked to let go
//! confirmed              the token of a run that waits to be confirmed
//! agent-<digest>         settles open runs at boot
//! witnesses              what this target has seen of the record's chain
//! runs/<run>.open/       a run that is not settled
//! runs/<run>/            a run that is
//!     journal            the records
//!     images/<entry>     before-images
//!     blobs/<digest>     long contents that were sent for the run; gone when it is settled
//! ```

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::{
    base::{Timestamp, point::fault},
    model::{
        event::HostOutcome,
        ids::RunId,
        lease::{Bid, OpenRun, Stand},
        witness::Witness,
    },
    target::{
        folder::sync_folder,
        journal::{
            Journal,
            boot::BootEntry,
            claim::{self, Claim},
            fault::JournalFault,
            keep,
            lock::{self, Lock},
            log::Log,
            program,
            record::Opened,
            story::Story,
            witnesses,
        },
    },
};

/// How long an agent that was asked to let go may take: it finishes the resource at hand first.
const CLAIM_PATIENCE: Duration = Duration::from_secs(30);

/// What the folder of a run that is not settled ends in.
const OPEN: &str = ".open";

/// The place where a target's journals are kept.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    boot: Option<BootEntry>,
}

impl Store {
    /// The store in `root`, which is made when the first run begins: nothing is written before that.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Store { root: root.into(), boot: None }
    }

    /// Makes a folder in a place where everybody may write, or makes sure that it is ours alone: what lies in it is
    /// believed.
    pub fn claim_folder(folder: &Path) -> io::Result<()> {
        make_private(folder)?;
        check_private(folder, 0o022).map_err(|fault| io::Error::other(fault.to_string()))
    }

    /// The same, of a machine that can be told to settle at boot what is open in it: `machine` is its root folder.
    pub fn settled_at_boot(mut self, machine: &Path, init: &str) -> Self {
        self.boot = BootEntry::of(machine, init, &self.root);
        self
    }

    /// What is open is settled at the machine's next boot. On the disk when this returns.
    pub(super) fn make_boot_entry(&self) -> Result<(), JournalFault> {
        let made = self.boot.as_ref().map_or(Ok(()), BootEntry::make);
        made.map_err(JournalFault::io("making the entry that settles the run at boot"))
    }

    /// Removes the entry that settles at boot, where nothing is open.
    pub fn forget_boot(&self) -> Result<(), JournalFault> {
        if let Some(boot) = self.boot.as_ref()
            && self.open_folders()?.is_empty()
        {
            boot.remove();
        }
        Ok(())
    }

    /// A run that holds the host or was never settled, if there is one. Only looks.
    pub fn unsettled(&self) -> Result<Option<OpenRun>, JournalFault> {
        match lock::holder(&self.root) {
            Some(holder) => Ok(Some(holder)),
            None => self.first_open(),
        }
    }

    /// Whether somebody comes to settle a run that waits alone.
    pub fn is_claimed(&self, run: &RunId) -> bool {
        claim::words(&self.root, run).is_some()
    }

    /// In what words somebody takes over a run that is at work, if somebody does.
    pub fn thief(&self, run: &RunId) -> Option<String> {
        claim::words(&self.root, run).filter(|words| !words.is_empty())
    }

    /// Confirms the run that knows this token.
    pub fn confirm(&self, token: &str) -> Result<(), JournalFault> {
        claim::confirm(&self.root, token).map_err(JournalFault::io("confirming the run"))
    }

    /// Whether the token was given.
    pub fn is_confirmed(&self, token: &str) -> bool {
        claim::is_confirmed(&self.root, token)
    }

    /// Whether the run has taken the token that it was given last.
    pub fn is_token_taken(&self) -> bool {
        claim::is_taken(&self.root)
    }

    /// How a run ended that is settled and still kept.
    pub fn outcome(&self, run: &RunId) -> Result<Option<HostOutcome>, JournalFault> {
        Ok(read_story(&self.runs().join(run.to_string()))?.and_then(|story| story.closed))
    }

    /// Notes for whoever meets the host that the run with this fencing number has lost its controller, and when it
    /// goes back by itself.
    pub fn note_alone(&self, fence: u64, until: Timestamp) -> Result<(), JournalFault> {
        lock::note_alone(&self.root, fence, until).map_err(JournalFault::io("noting that the controller is lost"))
    }

    /// Begins a run: takes the lock, and refuses while another run is not settled. The journal's folder is made with
    /// its first entry: a run that changes nothing leaves nothing.
    pub fn begin(&self, bid: &Bid, witness: Option<Witness>) -> Result<Journal, JournalFault> {
        self.make_root()?;
        fault!("store.begin");
        let lock = Lock::take(&self.root, bid, lock::GLANCE)?;
        self.tidy()?;
        if let Some(open) = self.first_open()? {
            return Err(JournalFault::Unsettled(Box::new(open)));
        }
        if let Some(witness) = &witness {
            // What is done stands in a journal that begins with it, and is synced.
            witnesses::note(&self.witnesses_path(), witness)?;
        }
        let opened = Opened { lease: lock.lease().clone(), token: token()?, witness };
        Ok(Journal::new(self.clone(), lock, opened))
    }

    /// Takes up a run that was never settled, or has lost its controller, if there is one; only this one, where one is
    /// meant.
    pub fn take_up(&self, run: Option<&RunId>) -> Result<Option<Journal>, JournalFault> {
        self.take(run, None)
    }

    /// The same of a run that is at work: its agent is told these words, and lets go.
    pub fn take_over(&self, run: &RunId, words: &str) -> Result<Option<Journal>, JournalFault> {
        self.take(Some(run), Some(words))
    }

    fn take(&self, run: Option<&RunId>, words: Option<&str>) -> Result<Option<Journal>, JournalFault> {
        if !self.root.is_dir() {
            return Ok(None);
        }
        self.make_root()?;
        let is_meant = |found: &RunId| run.is_none_or(|run| run == found);
        let Some(found) = self.unsettled()? else { return self.tidy_left().map(|()| None) };
        if !is_meant(found.run()) {
            return Ok(None);
        }
        let claim = self.claim(found.run(), words)?;
        let patience = if claim.is_some() { CLAIM_PATIENCE } else { lock::GLANCE };
        let lock = Lock::take(&self.root, &found.lease.bid, patience)?;
        self.tidy()?;
        let Some(folder) = self.open_folders()?.into_iter().next() else { return Ok(None) };
        fault!("store.take_up");
        let (log, story) = reopen(&folder)?;
        // What was found may have ended before the lock was had, and another been cut off since.
        if story.opened.as_ref().is_some_and(|opened| !is_meant(&opened.lease.bid.run)) {
            return Ok(None);
        }
        program::end(&story);
        Ok(Some(Journal::taken_up(self.clone(), lock, folder, log, story)))
    }

    /// Asks the agent of a run that waits alone, or with words, to let go, if there is one. It may take a moment to find
    /// itself alone.
    fn claim(&self, run: &RunId, words: Option<&str>) -> Result<Option<Claim>, JournalFault> {
        let until = Instant::now() + lock::GLANCE;
        while let Some(holder) = lock::holder(&self.root).filter(|holder| holder.run() == run) {
            if words.is_some() || matches!(holder.stand, Stand::Alone { .. }) {
                let claimed = Claim::place(&self.root, run, words);
                return claimed.map(Some).map_err(JournalFault::io(format!("claiming run {run}")));
            }
            if Instant::now() >= until {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(None)
    }

    /// A run that was never settled, whoever holds the host.
    fn first_open(&self) -> Result<Option<OpenRun>, JournalFault> {
        for folder in self.open_folders()? {
            if let Some(Story { opened: Some(opened), attempts, closed: None, .. }) = read_story(&folder)? {
                let stand = Stand::CutOff { attempts: attempts.count };
                return Ok(Some(OpenRun { lease: opened.lease, stand }));
            }
        }
        Ok(None)
    }

    /// Keeps a witness of the record's chain.
    pub fn keep_witness(&self, witness: &Witness) -> Result<(), JournalFault> {
        witnesses::keep(&self.witnesses_path(), witness)
    }

    fn witnesses_path(&self) -> PathBuf {
        self.root.join("witnesses")
    }

    /// The newest witnesses, at most [`witnesses::WITNESSES_MAX`], oldest first.
    pub fn witnesses(&self) -> Result<Vec<Witness>, JournalFault> {
        let mut all = witnesses::read(&self.witnesses_path())?;
        let surplus = all.len().saturating_sub(witnesses::WITNESSES_MAX);
        Ok(all.split_off(surplus))
    }

    /// Where the folder of a run that is not settled stands.
    pub(super) fn open_folder(&self, run: &RunId) -> PathBuf {
        self.runs().join(format!("{run}{OPEN}"))
    }

    /// Makes a run's folder, for its first entry.
    pub(super) fn make_run(&self, run: &RunId) -> Result<PathBuf, JournalFault> {
        let folder = self.open_folder(run);
        let doing = || JournalFault::io(format!("making the journal's folder {}", folder.display()));
        fault!("store.run", io).and_then(|()| make_private(&folder)).map_err(doing())?;
        fault!("store.folder", io).and_then(|()| make_private(&folder.join(IMAGES))).map_err(doing())?;
        fault!("store.synced", sync).map_err(doing())?;
        sync_folder(&folder).and_then(|()| sync_folder(&self.runs())).map_err(doing())?;
        Ok(folder)
    }

    /// A run is settled: its folder gets its settled name, and the oldest ones go.
    pub(super) fn settle(&self, folder: &Path, outcome: HostOutcome) -> Result<(), JournalFault> {
        let doing = || JournalFault::io(format!("settling {}", folder.display()));
        fault!("settle.blobs", io).and_then(|()| remove_tree(&folder.join(BLOBS))).map_err(doing())?;
        if outcome == HostOutcome::RolledBack {
            // Everything is back: nothing can be undone any more.
            fault!("settle.images", io).and_then(|()| remove_tree(&folder.join(IMAGES))).map_err(doing())?;
        }
        let name = folder.file_name().and_then(|name| name.to_str()?.strip_suffix(OPEN));
        let settled = self.runs().join(name.expect("an open folder's name ends so"));
        fault!("settle.rename", io).and_then(|()| fs::rename(folder, settled)).map_err(doing())?;
        fault!("settle.renamed", sync).and_then(|()| sync_folder(&self.runs())).map_err(doing())?;
        self.forget_boot()?;
        keep::collect(&self.root, &self.runs()).map_err(doing())
    }

    /// Clears up where nothing is to be settled: else what a crash has left would be looked at at each boot.
    fn tidy_left(&self) -> Result<(), JournalFault> {
        let left = self.open_folders()?.into_iter().next();
        let run = left.and_then(|folder| folder.file_stem()?.to_str()?.parse().ok());
        let Some(run) = run else { return Ok(()) };
        let bid = Bid { run, operator: String::new(), reason: None, job: None };
        let _lock = Lock::take(&self.root, &bid, lock::GLANCE)?;
        self.tidy()
    }

    /// Clears up what a crash has left of runs that had ended, or had not begun.
    fn tidy(&self) -> Result<(), JournalFault> {
        for folder in self.open_folders()? {
            match read_story(&folder)? {
                Some(Story { closed: Some(outcome), .. }) => self.settle(&folder, outcome)?,
                Some(Story { opened: Some(_), .. }) => {}
                _ => fault!("store.tidy", io)
                    .and_then(|()| remove_tree(&folder))
                    .map_err(JournalFault::io(format!("removing {}, where nothing was begun", folder.display())))?,
            }
        }
        Ok(())
    }

    fn open_folders(&self) -> Result<Vec<PathBuf>, JournalFault> {
        let doing = || JournalFault::io(format!("looking for open runs in {}", self.runs().display()));
        let entries = match fs::read_dir(self.runs()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(doing()(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(doing())?;
            let run = entry.file_name().to_str().and_then(|name| name.strip_suffix(OPEN)?.parse::<RunId>().ok());
            found.extend(run.map(|_| entry.path()));
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Makes the store where it is missing, and checks that nobody else may write in it.
    fn make_root(&self) -> Result<(), JournalFault> {
        let doing = || JournalFault::io(format!("making {}", self.root.display()));
        if !self.root.is_dir() {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o700).create(&self.root).map_err(doing())?;
            if let Some(above) = self.root.parent() {
                fault!("store.root", sync).and_then(|()| sync_folder(above)).map_err(doing())?;
            }
        }
        check_private(&self.root, 0o022)?;
        match fs::DirBuilder::new().mode(0o700).create(self.runs()) {
            Ok(()) => fault!("store.runs", sync).and_then(|()| sync_folder(&self.root)).map_err(doing())?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(doing()(error)),
        }
        check_private(&self.runs(), 0o077)
    }

    pub(super) fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }
}

pub(super) const JOURNAL: &str = "journal";
pub(super) const IMAGES: &str = "images";
pub(super) const BLOBS: &str = "blobs";

/// Among the images: packages that cannot be had elsewhere, and their settings.
pub(super) const PACKAGES: &str = "packages";

/// What the journal in `folder` tells, if it was begun.
pub(super) fn read_story(folder: &Path) -> Result<Option<Story>, JournalFault> {
    match Log::read(&folder.join(JOURNAL)) {
        Ok(records) => tell(folder, &records).map(Some),
        Err(JournalFault::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// Opens the journal in `folder` to write on.
fn reopen(folder: &Path) -> Result<(Log, Story), JournalFault> {
    let (log, records) = Log::reopen(&folder.join(JOURNAL))?;
    Ok((log, tell(folder, &records)?))
}

fn tell(folder: &Path, records: &[super::record::Record]) -> Result<Story, JournalFault> {
    let mut story = Story::default();
    for (no, record) in records.iter().enumerate() {
        story.tell(record).map_err(|_| JournalFault::Damaged {
            path: folder.join(JOURNAL),
            why: format!("makes no sense at record {no}"),
        })?;
    }
    Ok(story)
}

/// Checks that a folder is one, is ours, and that others have none of the `forbidden` permissions.
fn check_private(path: &Path, forbidden: u32) -> Result<(), JournalFault> {
    let not_private = |why: String| JournalFault::NotPrivate { path: path.to_owned(), why };
    let found = fs::symlink_metadata(path).map_err(JournalFault::io(format!("looking at {}", path.display())))?;
    if !found.is_dir() {
        return Err(not_private("is no directory".into()));
    }
    let own = rustix::process::geteuid().as_raw();
    if found.uid() != own {
        return Err(not_private(format!("belongs to user {}, and not to {own}", found.uid())));
    }
    match found.mode() & forbidden {
        0 => Ok(()),
        _ => Err(not_private(format!("has mode {:04o}, which lets others in", found.mode() & 0o7777))),
    }
}

/// Makes a private folder, if it is not there.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Sixteen random hex digits, for names and words that nobody can guess.
pub fn token() -> Result<String, JournalFault> {
    use std::io::Read;
    let mut bytes = [0; 8];
    fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(JournalFault::io("reading /dev/urandom"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
