//! Trees of files as the cases write them down, and as they stand on disk. Shares no code with the agent: what it
//! restores is judged by other eyes.
//!
//! One line a thing, sorted by path; contents and attributes are JSON texts:
//! ```text
//! d 0755 /etc
//! f 0644 /etc/motd "hello\n"
//!   user.note "kept"
//! l /etc/issue -> motd
//! p 0600 /run/pipe
//! ```

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{MetadataExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
};

/// Everything below a folder, by path.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Tree(pub(crate) BTreeMap<PathBuf, Thing>);

/// One thing, with all that can be observed of it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Thing {
    what: What,
    mode: u32,
    owner: (u32, u32),
    modified_ns: i128,
    xattrs: BTreeMap<OsString, Vec<u8>>,
}

#[derive(Clone, PartialEq, Eq)]
enum What {
    File(Vec<u8>),
    Folder,
    Link(OsString),
    Pipe,
    Else(u32),
}

impl Tree {
    /// What stands below `root`, the root itself included.
    pub(crate) fn read(root: &Path) -> Tree {
        let mut tree = BTreeMap::new();
        let mut todo = vec![root.to_owned()];
        while let Some(path) = todo.pop() {
            let thing = Thing::read(&path);
            if thing.what == What::Folder {
                todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
            tree.insert(Path::new("/").join(path.strip_prefix(root).unwrap()), thing);
        }
        Tree(tree)
    }

    /// The tree in the cases' own form, without owners and times. The root's own line is left out.
    pub(crate) fn text(&self) -> String {
        let things = self.0.iter().filter(|(path, _)| path.parent().is_some());
        things.map(|(path, thing)| thing.text(path)).collect()
    }

    /// The paths at which two trees differ, and how. Times count where `times` says so.
    pub(crate) fn differences(&self, other: &Tree, times: impl Fn(&Path, &Thing) -> bool) -> Vec<String> {
        let mut paths: Vec<&PathBuf> = self.0.keys().chain(other.0.keys()).collect();
        paths.sort();
        paths.dedup();
        let mut found = Vec::new();
        for path in paths {
            match (self.0.get(path), other.0.get(path)) {
                (Some(a), Some(b)) => {
                    if (&a.what, a.mode, a.owner, &a.xattrs) != (&b.what, b.mode, b.owner, &b.xattrs) {
                        found.push(format!("was {} is {}", a.text(path), b.text(path)));
                    } else if times(path, a) && a.modified_ns != b.modified_ns {
                        found.push(format!("{}: its time has changed", path.display()));
                    }
                }
                (Some(a), None) => found.push(format!("gone: {}", a.text(path))),
                (None, Some(b)) => found.push(format!("new: {}", b.text(path))),
                (None, None) => unreachable!("the path is of one of them"),
            }
        }
        found
    }
}

impl Thing {
    fn read(path: &Path) -> Thing {
        let found = fs::symlink_metadata(path).unwrap();
        let what = match found.mode() & 0o170_000 {
            0o100_000 => What::File(fs::read(path).unwrap()),
            0o040_000 => What::Folder,
            0o120_000 => What::Link(fs::read_link(path).unwrap().into_os_string()),
            0o010_000 => What::Pipe,
            kind => What::Else(kind),
        };
        Thing {
            what,
            mode: found.mode() & 0o7777,
            owner: (found.uid(), found.gid()),
            modified_ns: i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec()),
            xattrs: xattrs(path),
        }
    }

    pub(crate) fn is_folder(&self) -> bool {
        self.what == What::Folder
    }

    fn text(&self, path: &Path) -> String {
        let path = path.display();
        let mode = self.mode;
        let mut text = match &self.what {
            What::File(bytes) => format!("f {mode:04o} {path} {}\n", json(bytes)),
            What::Folder => format!("d {mode:04o} {path}\n"),
            What::Link(target) => format!("l {path} -> {}\n", target.to_str().unwrap()),
            What::Pipe => format!("p {mode:04o} {path}\n"),
            What::Else(kind) => format!("? {kind:o} {path}\n"),
        };
        for (name, value) in &self.xattrs {
            text.push_str(&format!("  {} {}\n", name.to_str().unwrap(), json(value)));
        }
        text
    }
}

fn json(bytes: &[u8]) -> String {
    serde_json::to_string(&String::from_utf8_lossy(bytes)).unwrap()
}

/// Security labels are the kernel's business, not a case's.
fn xattrs(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let mut names = vec![0; 64 * 1024];
    let used = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = names[..used].split(|byte| *byte == 0).filter(|name| !name.is_empty() && *name != b"security.selinux");
    let read = |name: &[u8]| {
        let mut value = vec![0; 64 * 1024];
        let used = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).unwrap();
        (OsString::from_vec(name.to_vec()), value[..used].to_vec())
    };
    names.map(read).collect()
}

/// Makes the things that a text describes below `root`. All get the same old time, so that a write shows.
pub(crate) fn build(root: &Path, text: &str) {
    let mut last = root.to_owned();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        match line.strip_prefix("  ") {
            Some(attribute) => {
                let (name, value) = attribute.split_once(' ').unwrap();
                let value: String = serde_json::from_str(value).unwrap();
                rustix::fs::lsetxattr(&last, name, value.as_bytes(), rustix::fs::XattrFlags::empty())
                    .unwrap_or_else(|error| panic!("{}: the tests need extended attributes: {error}", last.display()));
            }
            None => last = make(root, line),
        }
    }
    age(root);
}

fn make(root: &Path, line: &str) -> PathBuf {
    let mut words = line.splitn(if line.starts_with("l ") { 3 } else { 4 }, ' ');
    let mut word = || words.next().unwrap_or_else(|| panic!("no thing: {line:?}"));
    let kind = word();
    let bits = if kind == "l" { 0 } else { u32::from_str_radix(word(), 8).unwrap() };
    let path = root.join(word().strip_prefix('/').unwrap());
    match kind {
        "f" => fs::write(&path, serde_json::from_str::<String>(word()).unwrap()).unwrap(),
        "d" => fs::create_dir(&path).unwrap(),
        "l" => symlink(word().strip_prefix("-> ").unwrap(), &path).unwrap(),
        "p" => {
            let kind = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, &path, kind, rustix::fs::Mode::RUSR, 0).unwrap();
        }
        kind => panic!("no kind of thing: {kind:?}"),
    }
    if kind != "l" {
        fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
    }
    path
}

/// Gives everything an old time.
fn age(path: &Path) {
    if fs::symlink_metadata(path).unwrap().is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| age(&entry.unwrap().path()));
    }
    let then = rustix::fs::Timespec { tv_sec: 1_000_000_000, tv_nsec: 123_456_789 };
    let times = rustix::fs::Timestamps { last_access: then, last_modification: then };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

#[test]
fn a_tree_is_built_as_it_is_written() {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let text = "d 0750 /a\nf 4600 /a/b \"x y\\n\"\n  user.note \"kept\"\nl /a/c -> ../none\np 0622 /d\n";
    build(place.path(), text);
    let tree = Tree::read(place.path());
    assert_eq!(tree.text(), text);
    fs::write(place.path().join("a/b"), "x y\n").unwrap();
    let later = Tree::read(place.path());
    assert_eq!(tree.differences(&later, |_, _| true).len(), 1, "its time at least");
    rustix::fs::lremovexattr(place.path().join("a/b"), "user.note").unwrap();
    assert!(tree.differences(&Tree::read(place.path()), |_, _| false)[0].starts_with("was f 4600 /a/b"));
}
