//! Every pair of path states, forward and back, on a folder that stands for a machine.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use rollbook::{
    base::{ByteText, Digest},
    model::{
        change::{Change, Deed},
        event::HostOutcome,
        facts::Facts,
        ids::{RunId, TaskNo},
        lease::{Bid, Stand},
        state::{Content, Id, Meta, PathState, Resource, State},
    },
    resources,
    target::{Blobs, Journal, Probe, journal::Store, process::Running},
};

const TASK: TaskNo = TaskNo { step: 0, item: 0 };

struct Machine {
    folder: tempfile::TempDir,
    probe: Probe,
    blobs: Blobs,
}

fn bid(letter: u32, operator: &str) -> Bid {
    let run = RunId::from_parts("20261123-051034", letter);
    Bid { run, operator: operator.into(), reason: None, job: None }
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        let probe = Probe::new(root, Facts::default(), Running::default());
        Machine { folder, probe, blobs: Blobs::default() }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn store(&self) -> Store {
        Store::at(self.folder.path().join("store"))
    }

    fn begin(&self, letter: u32) -> Journal {
        self.store().begin(&bid(letter, "ann"), None).unwrap()
    }

    fn observe(&self, path: &str) -> State {
        resources::observe(&self.probe, &Resource::Path(path.into())).unwrap()
    }

    fn change(&self, path: &str, after: PathState) -> Deed {
        let resource = Resource::Path(path.into());
        let before = self.observe(path);
        Deed::Change(Change { resource, before, after: State::Path(after) })
    }

    fn file(&mut self, bytes: &[u8], mode: u32) -> PathState {
        PathState::File { content: self.blobs.put(bytes.to_vec()), meta: meta(mode) }
    }

    /// Arms and does deeds one by one, as the agent does.
    fn apply(&self, journal: &mut Journal, deeds: &[Deed]) {
        for (deed, armed) in deeds.iter().zip(journal.arm(&self.probe, TASK, false, deeds).unwrap()) {
            let Deed::Change(change) = deed else { panic!("only changes here") };
            let armed = [armed];
            resources::converge(&journal.tools(&self.probe, &self.blobs, &armed), std::slice::from_ref(change))
                .unwrap();
            journal.seal(&armed[0]).unwrap();
            assert_eq!(resources::observe(&self.probe, &change.resource).unwrap(), change.after);
        }
    }

    fn undo(&self, journal: &Journal) {
        for (entry, _) in journal.entries().iter().rev() {
            let Deed::Change(change) = &entry.deed else { panic!("only changes here") };
            let nothing = Blobs::default();
            let tools = journal.tools_back(&self.probe, &nothing, &[entry.no]);
            resources::converge(&tools, &[change.reversed()]).unwrap();
        }
    }
}

fn meta(mode: u32) -> Meta {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Meta { mode, uid: Id::Number(uid), gid: Id::Number(gid), xattrs: BTreeMap::new() }
}

/// Everything below a folder, by a way of looking that shares no code with the agent's.
fn picture(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let seen = fs::symlink_metadata(&path).unwrap();
            let what = if seen.is_dir() {
                todo.push(path.clone());
                "folder".to_owned()
            } else if seen.is_symlink() {
                format!("link {:?}", fs::read_link(&path).unwrap())
            } else {
                let times = (seen.mtime(), seen.mtime_nsec());
                format!(
                    "file {} {times:?} inode {} links {}",
                    Digest::of(&fs::read(&path).unwrap()),
                    seen.ino(),
                    seen.nlink()
                )
            };
            let attributes = attributes(&path);
            found.insert(path, format!("{what} {:o} {}:{} {attributes:?}", seen.mode(), seen.uid(), seen.gid()));
        }
    }
    found
}

/// The `user.*` attributes of what is at a path itself.
fn attributes(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = [0u8; 4096];
    let Ok(length) = rustix::fs::llistxattr(path, &mut names[..]) else { return BTreeMap::new() };
    let own = names[..length].split(|byte| *byte == 0).filter(|name| name.starts_with(b"user."));
    own.map(|name| {
        let mut value = [0u8; 4096];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        (name.to_vec(), value[..length].to_vec())
    })
    .collect()
}

#[test]
fn every_pair_of_states_goes_forward_and_exactly_back() {
    let makers: [fn(&Path); 5] = [
        |_| {},
        |path| {
            fs::write(path, "old content").unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o4751)).unwrap();
            fs::hard_link(path, path.with_extension("second")).unwrap();
            fs::File::open(path)
                .unwrap()
                .set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000, 777))
                .unwrap();
        },
        |path| fs::create_dir(path).unwrap(),
        |path| symlink("some/where", path).unwrap(),
        |path| symlink("else/where", path).unwrap(),
    ];
    for (nth, make) in makers.iter().enumerate() {
        for kind in 0..6 {
            let mut machine = Machine::new();
            make(&machine.root().join("it"));
            let before = picture(&machine.root());
            let own = meta(0);
            let after = match kind {
                0 => PathState::Absent,
                1 => machine.file(b"new content", 0o640),
                2 => PathState::File { content: machine.blobs.put(b"old content".to_vec()), meta: meta(0o2604) },
                3 => PathState::Directory { meta: meta(0o1711) },
                4 => PathState::Link { target: "some/where".into(), uid: own.uid, gid: own.gid },
                _ => PathState::Link { target: "third".into(), uid: own.uid, gid: own.gid },
            };
            let mut journal = machine.begin(0);
            let deed = machine.change("/it", after);
            let Deed::Change(change) = &deed else { unreachable!() };
            if resources::differences(&change.before, &change.after).is_empty() {
                continue;
            }
            machine.apply(&mut journal, &[deed]);
            machine.undo(&journal);
            journal.close(&machine.probe, HostOutcome::RolledBack, None).unwrap();
            assert_eq!(picture(&machine.root()), before, "case {nth} to {kind}");
        }
    }
}

#[test]
fn tools_write_to_what_is_armed_and_to_nothing_else() {
    let mut machine = Machine::new();
    let state = machine.file(b"x", 0o600);
    let mut journal = machine.begin(0);
    let deed = machine.change("/armed", state.clone());
    let armed = journal.arm(&machine.probe, TASK, false, &[deed]).unwrap();
    let tools = journal.tools(&machine.probe, &machine.blobs, &armed);
    let other = Change {
        resource: Resource::Path("/other".into()),
        before: State::Path(PathState::Absent),
        after: State::Path(state),
    };
    let refused = resources::converge(&tools, &[other]).unwrap_err();
    assert!(refused.message().contains("was not armed"), "{refused}");
    assert!(picture(&machine.root()).is_empty());
}

#[test]
fn a_link_on_the_way_is_not_followed() {
    let mut machine = Machine::new();
    let outside = machine.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::create_dir(machine.root().join("dir")).unwrap();
    let deed = {
        let state = machine.file(b"x", 0o600);
        machine.change("/dir/file", state)
    };
    let Deed::Change(change) = &deed else { unreachable!() };
    let mut journal = machine.begin(0);
    let armed = journal.arm(&machine.probe, TASK, false, std::slice::from_ref(&deed)).unwrap();
    fs::remove_dir(machine.root().join("dir")).unwrap();
    symlink(&outside, machine.root().join("dir")).unwrap();
    let tools = journal.tools(&machine.probe, &machine.blobs, &armed);
    let refused = resources::converge(&tools, std::slice::from_ref(change)).unwrap_err();
    assert!(refused.message().contains("symbolic link"), "{refused}");
    assert!(picture(&outside).is_empty());
}

#[test]
fn one_run_holds_a_host_and_an_open_one_bars_the_next() {
    let mut machine = Machine::new();
    let state = machine.file(b"x", 0o600);
    let mut first = machine.begin(1);
    let refused = machine.store().begin(&bid(2, "bob"), None).unwrap_err().to_string();
    assert!(refused.contains("of ann is at work"), "{refused}");
    let deed = machine.change("/file", state);
    machine.apply(&mut first, &[deed]);
    let run = first.run().clone();
    assert_eq!(machine.store().unsettled().unwrap().unwrap().stand, Stand::Working);
    drop(first);
    assert_eq!(machine.store().unsettled().unwrap().unwrap().stand, Stand::CutOff { attempts: 0 });
    let refused = machine.store().begin(&bid(2, "bob"), None).unwrap_err().to_string();
    assert!(refused.contains(&format!("rollbook recover {run}")), "{refused}");
    let mut taken = machine.store().take_up(None).unwrap().unwrap();
    assert_eq!((taken.run(), taken.entries().len()), (&run, 1));
    machine.undo(&taken);
    taken.close(&machine.probe, HostOutcome::RolledBack, None).unwrap();
    assert_eq!(machine.store().unsettled().unwrap(), None);
    machine.begin(2).close(&machine.probe, HostOutcome::Succeeded, None).unwrap();
}

#[test]
fn a_full_disk_keeps_nobody_from_taking_a_run_up() {
    let mut machine = Machine::new();
    let state = machine.file(b"x", 0o600);
    let mut first = machine.begin(1);
    let deed = machine.change("/file", state);
    machine.apply(&mut first, &[deed]);
    let run = first.run().clone();
    drop(first);
    // A new note finds no space.
    std::os::unix::fs::symlink("/dev/full", machine.folder.path().join("store/holder.new")).unwrap();
    let mut taken = machine.store().take_up(None).unwrap().unwrap();
    assert_eq!(machine.store().unsettled().unwrap().unwrap().run(), &run, "the note is whole");
    machine.undo(&taken);
    taken.close(&machine.probe, HostOutcome::RolledBack, None).unwrap();
    assert_eq!(machine.store().outcome(&run).unwrap(), Some(HostOutcome::RolledBack));
}

#[test]
fn a_torn_tail_is_cut_off_and_the_rest_is_believed() {
    let mut machine = Machine::new();
    let state = machine.file(b"x", 0o600);
    let mut journal = machine.begin(1);
    let deed = machine.change("/file", state);
    machine.apply(&mut journal, &[deed]);
    let path = machine.folder.path().join(format!("store/runs/{}.open/journal", journal.run()));
    drop(journal);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, [&whole[..], &[40, 0, 0, 0, 1, 2, 3, 4, b'{']].concat()).unwrap();
    let taken = machine.store().take_up(None).unwrap().unwrap();
    assert_eq!(taken.entries().len(), 1);
    assert_eq!(fs::read(&path).unwrap(), whole);
    drop(taken);
    let mut damaged = whole;
    damaged[20] ^= 1;
    fs::write(&path, damaged).unwrap();
    let fault = machine.store().take_up(None).unwrap_err().to_string();
    assert!(fault.contains("is damaged at record 0"), "{fault}");
}

#[test]
fn only_twenty_settled_runs_are_kept() {
    let mut machine = Machine::new();
    for nth in 0..23 {
        let state = machine.file(nth.to_string().as_bytes(), 0o600);
        let mut journal = machine.begin(nth);
        let deed = machine.change("/file", state);
        machine.apply(&mut journal, &[deed]);
        journal.close(&machine.probe, HostOutcome::Succeeded, None).unwrap();
    }
    assert_eq!(fs::read_dir(machine.folder.path().join("store/runs")).unwrap().count(), 20);
}

#[test]
fn the_run_of_an_operator_whose_clock_is_slow_is_kept_too() {
    let mut machine = Machine::new();
    for nth in (0..22).rev() {
        let state = machine.file(nth.to_string().as_bytes(), 0o600);
        let mut journal = machine.begin(nth);
        let deed = machine.change("/file", state);
        machine.apply(&mut journal, &[deed]);
        journal.close(&machine.probe, HostOutcome::Succeeded, None).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(10));
        assert!(machine.store().kept(&bid(nth, "ann").run).unwrap().is_some(), "run {nth} has just ended");
    }
}

#[test]
fn nothing_is_left_to_start_at_boot_where_nothing_is_open() {
    let mut machine = Machine::new();
    let entry = machine.root().join("etc/cron.d/rollbook-settle");
    fs::create_dir_all(entry.parent().unwrap()).unwrap();
    let store = machine.store().settled_at_boot(&machine.root(), "sysvinit");
    let runs = machine.folder.path().join("store/runs");
    let open = |run: &RunId| runs.join(format!("{run}.open"));
    let state = machine.file(b"x", 0o600);
    let deed = machine.change("/file", state);

    // The journal could not be made.
    let mut journal = store.begin(&bid(1, "ann"), None).unwrap();
    fs::create_dir(open(journal.run())).unwrap();
    fs::write(open(journal.run()).join("journal"), "").unwrap();
    journal.arm(&machine.probe, TASK, false, std::slice::from_ref(&deed)).unwrap_err();
    assert!(entry.exists());
    journal.close(&machine.probe, HostOutcome::RolledBack, None).unwrap();
    assert!(!entry.exists());

    // The power went when the journal was closed, and before its folder got its settled name.
    let mut journal = store.begin(&bid(2, "ann"), None).unwrap();
    machine.apply(&mut journal, &[deed]);
    let kept = fs::read(&entry).unwrap();
    journal.close(&machine.probe, HostOutcome::Succeeded, None).unwrap();
    let run = journal.run().clone();
    drop(journal);
    assert!(!entry.exists());
    // And when nothing was begun yet.
    for begun in [true, false] {
        fs::write(&entry, &kept).unwrap();
        match begun {
            true => fs::rename(runs.join(run.as_str()), open(&run)).unwrap(),
            false => fs::create_dir(open(&bid(3, "ann").run)).unwrap(),
        }
        assert!(store.take_up(None).unwrap().is_none());
        store.forget_boot().unwrap();
        assert!(!entry.exists(), "begun: {begun}");
    }
    assert!(store.kept(&run).unwrap().is_some());
}

#[test]
fn a_store_that_others_can_write_to_is_refused() {
    let machine = Machine::new();
    let store = machine.folder.path().join("store");
    fs::create_dir(&store).unwrap();
    fs::set_permissions(&store, fs::Permissions::from_mode(0o777)).unwrap();
    let fault = machine.store().begin(&bid(1, "ann"), None).unwrap_err().to_string();
    assert!(fault.contains("lets others in"), "{fault}");
}

#[test]
fn a_before_image_that_was_written_to_is_not_put_back() {
    let mut machine = Machine::new();
    let path = machine.root().join("file");
    fs::write(&path, "old").unwrap();
    let mut old = fs::OpenOptions::new().append(true).open(&path).unwrap();
    let state = machine.file(b"new", 0o600);
    let mut journal = machine.begin(1);
    let deed = machine.change("/file", state);
    machine.apply(&mut journal, &[deed]);
    std::io::Write::write_all(&mut old, b" and more").unwrap();
    let Deed::Change(change) = &journal.entries()[0].0.deed else { unreachable!() };
    let tools = journal.tools_back(&machine.probe, &machine.blobs, &[0]);
    let refused = resources::converge(&tools, &[change.reversed()]).unwrap_err();
    assert!(refused.message().contains("was changed by someone else"), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(fs::read_dir(machine.root()).unwrap().count(), 1);
}

#[test]
fn attributes_of_every_sort_come_back() {
    let mut machine = Machine::new();
    let path = machine.root().join("file");
    fs::write(&path, "old").unwrap();
    let set = rustix::fs::setxattr(&path, "user.note", b"kept \xff", rustix::fs::XattrFlags::empty());
    if set == Err(rustix::io::Errno::NOTSUP) {
        panic!("the temporary folder's file system has no extended attributes; set TMPDIR to one that has");
    }
    let before = machine.observe("/file");
    let new = machine.blobs.put(b"new".to_vec());
    let mut wanted = meta(0o600);
    wanted.xattrs.insert("user.other".into(), "1".into());
    let mut journal = machine.begin(1);
    let deed = machine.change("/file", PathState::File { content: new, meta: wanted.clone() });
    machine.apply(&mut journal, &[deed]);
    wanted.xattrs.remove(&ByteText::from("user.other"));
    let deed = machine.change("/file", PathState::File { content: Content::of(b"new"), meta: wanted });
    machine.apply(&mut journal, &[deed]);
    machine.undo(&journal);
    assert_eq!(machine.observe("/file"), before);
}
