//! A disk that loses what it was not told to keep: what stands on it, what of that is durable, and what is pending.
//!
//! What is assumed of it is in docs/journal-format.md: a sync of a file keeps all that was done to it; a sync of a folder
//! keeps its names, and what they stand for but for contents; a rename is kept as a whole or not. All else that is
//! pending may be kept or lost: names and attributes in any order or in their own, contents each by itself, but of the
//! writes to one sector not the later ones alone.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ffi::{OsStr, OsString},
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown, symlink},
    },
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use rustix::fs::XattrFlags;

use crate::sample::Dice;

/// Bytes that a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A thing on the disk, whatever its names.
pub(super) type Id = usize;

#[derive(Clone)]
struct Thing {
    what: What,
    mode: u32,
    owner: (u32, u32),
    attributes: BTreeMap<OsString, Vec<u8>>,
    /// When it was written, if that was before all this.
    modified: Option<Duration>,
}

#[derive(Clone)]
enum What {
    File(Vec<u8>),
    Folder(BTreeMap<OsString, Id>),
    Link(PathBuf),
}

/// What is done to a disk.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Write { id: Id, at: usize, bytes: Vec<u8> },
    Length { id: Id, bytes: usize },
    Mode { id: Id, mode: u32 },
    Owner { id: Id, owner: (Option<u32>, Option<u32>) },
    Attribute { id: Id, name: OsString, value: Option<Vec<u8>> },
    Name { folder: Id, name: OsString, to: Option<Id> },
    Move { from: (Id, OsString), to: (Id, OsString), id: Id },
}

/// All that stands on a disk. The first thing is its root.
#[derive(Clone)]
pub(super) struct Disk(Vec<Thing>);

impl Disk {
    /// What stands below a folder.
    pub(super) fn read(root: &Path) -> Disk {
        let mut disk = Disk(Vec::new());
        disk.take_in(root, &mut HashMap::new());
        disk
    }

    fn take_in(&mut self, path: &Path, known: &mut HashMap<u64, Id>) -> Id {
        let found = fs::symlink_metadata(path).unwrap();
        if let Some(id) = known.get(&found.ino()) {
            return *id;
        }
        let modified = Duration::new(u64::try_from(found.mtime()).unwrap(), u32::try_from(found.mtime_nsec()).unwrap());
        let id = self.0.len();
        known.insert(found.ino(), id);
        self.0.push(Thing {
            what: What::Folder(BTreeMap::new()),
            mode: found.mode() & 0o7777,
            owner: (found.uid(), found.gid()),
            attributes: attributes(path),
            modified: found.is_file().then_some(modified),
        });
        let what = if found.is_dir() {
            let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
            What::Folder(entries.map(|entry| (entry.file_name(), self.take_in(&entry.path(), known))).collect())
        } else if found.is_symlink() {
            What::Link(fs::read_link(path).unwrap())
        } else {
            assert!(found.is_file(), "{} is of no kind that is known here", path.display());
            What::File(fs::read(path).unwrap())
        };
        self.0[id].what = what;
        id
    }

    /// What stands at a path below the root.
    pub(super) fn find(&self, path: &Path) -> Option<Id> {
        path.components().try_fold(0, |at, part| match &self.0[at].what {
            What::Folder(names) => names.get(part.as_os_str()).copied(),
            _ => None,
        })
    }

    pub(super) fn length(&self, id: Id) -> usize {
        match &self.0[id].what {
            What::File(bytes) => bytes.len(),
            _ => panic!("no file"),
        }
    }

    fn names(&mut self, folder: Id) -> &mut BTreeMap<OsString, Id> {
        match &mut self.0[folder].what {
            What::Folder(names) => names,
            _ => panic!("no folder"),
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Write { id, at, bytes } => {
                let (id, end) = (*id, at + bytes.len());
                let What::File(content) = &mut self.0[id].what else { panic!("no file") };
                // What was to stand before it and was lost leaves zeros.
                content.resize(content.len().max(end), 0);
                content[*at..end].copy_from_slice(bytes);
                self.0[id].modified = None;
            }
            Op::Length { id, bytes } => {
                let What::File(content) = &mut self.0[*id].what else { panic!("no file") };
                content.resize(*bytes, 0);
                self.0[*id].modified = None;
            }
            Op::Mode { id, mode } => self.0[*id].mode = *mode,
            Op::Owner { id, owner } => {
                let own = &mut self.0[*id].owner;
                *own = (owner.0.unwrap_or(own.0), owner.1.unwrap_or(own.1));
            }
            Op::Attribute { id, name, value } => {
                let attributes = &mut self.0[*id].attributes;
                match value {
                    Some(value) => drop(attributes.insert(name.clone(), value.clone())),
                    None => drop(attributes.remove(name)),
                }
            }
            Op::Name { folder, name, to: Some(id) } => drop(self.names(*folder).insert(name.clone(), *id)),
            Op::Name { folder, name, to: None } => drop(self.names(*folder).remove(name)),
            Op::Move { from, to, id } => {
                if self.names(from.0).get(&from.1) == Some(id) {
                    self.names(from.0).remove(&from.1);
                }
                self.names(to.0).insert(to.1.clone(), *id);
            }
        }
    }

    /// What can be seen of it, in one text: two disks with the same text are the same.
    pub(super) fn text(&self) -> String {
        let (mut text, mut met) = (String::new(), HashMap::new());
        self.tell(0, OsStr::new("/"), &mut text, &mut met);
        text
    }

    /// The same without the times of files.
    pub(super) fn text_without_times(&self) -> String {
        let mut disk = self.clone();
        disk.0.iter_mut().for_each(|thing| thing.modified = None);
        disk.text()
    }

    fn tell(&self, id: Id, name: &OsStr, text: &mut String, met: &mut HashMap<Id, usize>) {
        use std::fmt::Write;
        let count = met.len();
        let number = *met.entry(id).or_insert(count);
        let Thing { what, mode, owner, attributes, modified } = &self.0[id];
        write!(text, "{name:?} {number} {mode:o} {owner:?} {attributes:?} {modified:?} ").unwrap();
        match what {
            What::File(bytes) => writeln!(text, "{bytes:?}").unwrap(),
            What::Link(target) => writeln!(text, "{target:?}").unwrap(),
            What::Folder(names) => {
                text.push_str("{\n");
                names.iter().for_each(|(name, id)| self.tell(*id, name, text, met));
                text.push_str("}\n");
            }
        }
    }

    /// Makes all of it below a folder that is there.
    pub(super) fn make(&self, root: &Path) {
        self.make_thing(0, root, &mut HashMap::new());
    }

    fn make_thing(&self, id: Id, path: &Path, made: &mut HashMap<Id, PathBuf>) {
        if let Some(first) = made.get(&id) {
            return fs::hard_link(first, path).unwrap();
        }
        made.insert(id, path.to_owned());
        let Thing { what, mode, owner, attributes, modified } = &self.0[id];
        match what {
            What::Link(target) => symlink(target, path).unwrap(),
            What::File(bytes) => fs::write(path, bytes).unwrap(),
            What::Folder(names) => {
                if id != 0 {
                    fs::DirBuilder::new().mode(0o700).create(path).unwrap();
                }
                names.iter().for_each(|(name, id)| self.make_thing(*id, &path.join(name), made));
            }
        }
        let found = fs::symlink_metadata(path).unwrap();
        if (found.uid(), found.gid()) != *owner {
            lchown(path, Some(owner.0), Some(owner.1)).unwrap();
        }
        if matches!(what, What::Link(_)) {
            return;
        }
        for (name, value) in attributes {
            rustix::fs::lsetxattr(path, name.as_bytes(), value, XattrFlags::empty()).unwrap();
        }
        fs::set_permissions(path, fs::Permissions::from_mode(*mode)).unwrap();
        if let Some(modified) = modified {
            let file = fs::File::open(path).unwrap();
            file.set_modified(UNIX_EPOCH + *modified).unwrap();
        }
    }
}

fn attributes(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let mut names = vec![0; 4096];
    let used = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = names[..used].split(|byte| *byte == 0).filter(|name| name.starts_with(b"user."));
    let value = |name: &[u8]| {
        let mut value = vec![0; 4096];
        let used = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).unwrap();
        value[..used].to_vec()
    };
    names.map(|name| (OsStr::from_bytes(name).to_owned(), value(name))).collect()
}

/// So many pending operations are kept and lost in all ways; more of them by chance.
const EXHAUSTIVE: usize = 12;

/// In which order names and attributes reach the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// In that in which they were made.
    Kept,
    /// In any.
    Any,
}

/// A machine whose power may go.
pub(super) struct Machine {
    /// What its programs see.
    pub(super) seen: Disk,
    durable: Disk,
    pending: Vec<Op>,
}

impl Machine {
    pub(super) fn with(disk: Disk) -> Machine {
        Machine { seen: disk.clone(), durable: disk, pending: Vec::new() }
    }

    /// A new thing without a name.
    pub(super) fn new_file(&mut self, mode: u32) -> Id {
        self.new_thing(What::File(Vec::new()), mode)
    }

    pub(super) fn new_folder(&mut self, mode: u32) -> Id {
        self.new_thing(What::Folder(BTreeMap::new()), mode)
    }

    pub(super) fn new_link(&mut self, target: PathBuf) -> Id {
        self.new_thing(What::Link(target), 0o777)
    }

    fn new_thing(&mut self, what: What, mode: u32) -> Id {
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let thing = Thing { what, mode, owner: own, attributes: BTreeMap::new(), modified: None };
        self.seen.0.push(thing.clone());
        self.durable.0.push(thing);
        self.seen.0.len() - 1
    }

    pub(super) fn does(&mut self, op: Op) {
        self.seen.apply(&op);
        self.pending.push(op);
    }

    /// A sync of one thing has returned.
    pub(super) fn keeps(&mut self, synced: Id) {
        let named: Vec<Id> = self.pending.iter().filter_map(|op| op.named_in(synced)).collect();
        let durable = &mut self.durable;
        self.pending.retain(|op| {
            let is_kept = op.is_of(synced) || named.iter().any(|id| op.is_attribute_of(*id));
            if is_kept {
                durable.apply(op);
            }
            !is_kept
        });
    }

    pub(super) fn keeps_all(&mut self) {
        self.durable = self.seen.clone();
        self.pending.clear();
    }

    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// How many operations the disk may keep or lose each by itself.
    fn choices(&self, order: Order) -> usize {
        self.pending.iter().filter(|op| order == Order::Any || op.is_content()).count()
    }

    /// Whether all disks are tried that may be found if the power goes now.
    pub(super) fn is_tried_whole(&self, order: Order) -> bool {
        let choices = self.choices(order);
        choices <= EXHAUSTIVE && (self.pending.len() - choices + 1) << choices <= 1 << EXHAUSTIVE
    }

    /// The disks that may be found if the power goes now: all of them, or some by chance where there are too many. With
    /// them come those that have kept beginnings, all but one operation, and one alone.
    pub(super) fn after_a_cut(&self, order: Order, sampled: usize, dice: &mut Dice) -> Vec<Disk> {
        let choices = self.choices(order);
        let in_order = self.pending.len() - choices;
        let mut disks = Vec::new();
        for kept_in_order in 0..=in_order {
            let mut add = |is_kept: &mut dyn FnMut(usize) -> bool| disks.push(self.cut(order, kept_in_order, is_kept));
            if self.is_tried_whole(order) {
                (0..1_usize << choices).for_each(|bits| add(&mut |at| bits >> at & 1 == 1));
                continue;
            }
            (0..=choices).for_each(|end| add(&mut |at| at < end));
            (0..choices).for_each(|lost| add(&mut |at| at != lost));
            (0..choices).for_each(|kept| add(&mut |at| at == kept));
            for _ in 0..sampled.div_ceil(in_order + 1) {
                let share = 1 + dice.below(9);
                add(&mut |_| dice.below(10) < share);
            }
        }
        disks
    }

    /// The disk that has kept so many of the operations that are kept in order, and of the others those that are said.
    fn cut(&self, order: Order, kept_in_order: usize, is_kept: &mut dyn FnMut(usize) -> bool) -> Disk {
        let (mut disk, mut lost) = (self.durable.clone(), HashSet::new());
        let (mut choice, mut nth) = (0, 0);
        for op in &self.pending {
            let is_choice = order == Order::Any || op.is_content();
            let kept = if is_choice { is_kept(choice) } else { nth < kept_in_order };
            choice += usize::from(is_choice);
            nth += usize::from(!is_choice);
            // A sector is on the disk as it was at some moment: what came to it later does not stand there alone.
            match kept && op.sectors().all(|sector| !lost.contains(&sector)) {
                true => disk.apply(op),
                false => lost.extend(op.sectors()),
            }
        }
        disk
    }
}

impl Op {
    /// Whether it is about a file's content, and not about names and attributes.
    fn is_content(&self) -> bool {
        matches!(self, Op::Write { .. } | Op::Length { .. })
    }

    /// The sectors that it writes.
    fn sectors(&self) -> impl Iterator<Item = (Id, usize)> {
        let (id, sectors) = match self {
            Op::Write { id, at, bytes } => (*id, at / SECTOR..(at + bytes.len()).div_ceil(SECTOR)),
            Op::Length { id, bytes } => (*id, bytes / SECTOR..bytes / SECTOR + 1),
            _ => (0, 0..0),
        };
        sectors.map(move |sector| (id, sector))
    }

    /// Whether a sync of that thing keeps it.
    fn is_of(&self, synced: Id) -> bool {
        match self {
            Op::Write { id, .. } | Op::Length { id, .. } => *id == synced,
            Op::Name { folder, .. } => *folder == synced,
            Op::Move { from, to, .. } => from.0 == synced || to.0 == synced,
            _ => self.is_attribute_of(synced),
        }
    }

    fn is_attribute_of(&self, thing: Id) -> bool {
        matches!(self, Op::Mode { id, .. } | Op::Owner { id, .. } | Op::Attribute { id, .. } if *id == thing)
    }

    /// What gets a name in that folder.
    fn named_in(&self, of: Id) -> Option<Id> {
        match self {
            Op::Name { folder, to, .. } if *folder == of => *to,
            Op::Move { to, id, .. } if to.0 == of => Some(*id),
            _ => None,
        }
    }
}
