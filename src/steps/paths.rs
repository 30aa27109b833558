//! What the kinds that make or edit files decide alike: which path is meant, and whose what they make is.

use std::{
    collections::VecDeque,
    ffi::OsString,
    path::{Component, Path, PathBuf},
};

use crate::{
    base::ByteText,
    model::state::{Id, Meta, PathState, Resource, State},
    resources::{Halt, View},
    steps::{
        Decision,
        fields::{AbsolutePath, Mode, Word},
    },
};

/// Permission bits of a new file where the step gives none.
const FILE_MODE: u32 = 0o644;

/// Permission bits of a new directory where the step gives none.
const DIRECTORY_MODE: u32 = 0o755;

/// Links that are followed on the way to one path, as in the kernel.
const LINKS_MAX: usize = 40;

/// A path with every link on the way to it resolved: one thing on the host has one name in plan, journal and record,
/// whatever detour the runbook takes.
pub(super) struct Spot {
    /// The path itself. No part before its last is a link.
    pub(super) path: ByteText,
    /// What stands there.
    pub(super) state: PathState,
    /// The nearest directory above it that exists.
    folder: Meta,
    /// The directories that are missing between the two, outermost first.
    missing: Vec<ByteText>,
}

impl Spot {
    /// Finds `path`. A link at the very end is what is meant itself, unless it is to be followed.
    pub(super) fn find(view: &mut dyn View, path: &AbsolutePath, follow: bool) -> Result<Spot, Halt> {
        Spot::reach(view, path.0.as_path(), follow)
    }

    /// As [`Spot::find`], for any absolute path, `..` in it allowed.
    pub(super) fn reach(view: &mut dyn View, path: &Path, follow: bool) -> Result<Spot, Halt> {
        let mut walk = Walk::to(view, path)?;
        loop {
            let (path, missing) = walk.on(view)?;
            let state = if missing.is_empty() { view.path(&path)? } else { PathState::Absent };
            match &state {
                PathState::Link { target, .. } if follow => walk.turn(view, &path, target)?,
                _ => return Ok(Spot { path, state, folder: walk.folder, missing }),
            }
        }
    }

    /// Wants the missing directories above the path to be made, if they may be.
    pub(super) fn with_parents(&mut self, view: &mut dyn View, parents: bool) -> Result<Decision, Halt> {
        let mut decision = Decision::nothing();
        if let Some(first) = self.missing.first()
            && !parents
        {
            return Err(Halt::Failed(format!(
                "the directory {first} does not exist; make it in an earlier step, or say parents: true"
            )));
        }
        for path in std::mem::take(&mut self.missing) {
            self.folder = self.fresh_directory(view, &Attributes::default())?;
            let state = State::Path(PathState::Directory { meta: self.folder.clone() });
            decision = decision.bring(Resource::Path(path), state);
        }
        Ok(decision)
    }

    /// Whose a new file at this path is, and who may do what.
    pub(super) fn fresh_file(&self, view: &mut dyn View, attributes: &Attributes<'_>) -> Result<Meta, Halt> {
        let mut meta = attributes.fresh(view, &self.folder, FILE_MODE)?;
        inherit_acl(&mut meta, &self.folder);
        Ok(meta)
    }

    /// Whose a new directory at this path is, and who may do what. As the kernel does it, the set-group-id bit is
    /// handed down.
    pub(super) fn fresh_directory(&self, view: &mut dyn View, attributes: &Attributes<'_>) -> Result<Meta, Halt> {
        let mut meta = attributes.fresh(view, &self.folder, DIRECTORY_MODE | self.folder.mode & 0o2000)?;
        inherit_acl(&mut meta, &self.folder);
        let default = self.folder.xattrs.get_key_value(&ByteText::from(ACL_DEFAULT));
        meta.xattrs.extend(default.map(|(name, acl)| (name.clone(), acl.clone())));
        Ok(meta)
    }

    /// Whose a new link at this path is.
    pub(super) fn fresh_link(&self, view: &mut dyn View, attributes: &Attributes<'_>) -> Result<(Id, Id), Halt> {
        attributes.fresh(view, &self.folder, 0o777).map(|meta| (meta.uid, meta.gid))
    }

    /// The directory that the path is in, links resolved.
    pub(super) fn folder_path(&self) -> &Path {
        self.path.as_path().parent().unwrap_or(Path::new("/"))
    }
}

/// Whether anything is at `path`, if only a link to nothing. Contents are not read.
pub(super) fn exists(view: &mut dyn View, path: &AbsolutePath) -> Result<bool, Halt> {
    let (path, missing) = Walk::to(view, path.0.as_path())?.on(view)?;
    Ok(missing.is_empty() && view.is_there(&path)?)
}

/// A walk along a path, link by link.
struct Walk {
    /// What is ahead.
    todo: VecDeque<OsString>,
    /// The directory that was reached.
    real: PathBuf,
    /// What is known of it.
    folder: Meta,
    /// How many links were followed.
    links: usize,
}

impl Walk {
    fn to(view: &mut dyn View, path: &Path) -> Result<Walk, Halt> {
        let mut todo = parts(path);
        let mut real = PathBuf::from("/");
        // Nearly every path is as it is written: that is asked once, not part by part.
        if let Some(last) = todo.pop_back() {
            let above = real.join(todo.iter().collect::<PathBuf>());
            if !todo.contains(&OsString::from("..")) && view.is_plain(&above) {
                (real, todo) = (above, VecDeque::new());
            }
            todo.push_back(last);
        }
        Ok(Walk { todo, folder: directory(view, &real)?, real, links: 0 })
    }

    /// Goes on to the last part: its path, and the directories on the way to it that are missing, outermost first.
    fn on(&mut self, view: &mut dyn View) -> Result<(ByteText, Vec<ByteText>), Halt> {
        while let Some(part) = self.todo.pop_front() {
            if part == ".." {
                self.real.pop();
                self.folder = directory(view, &self.real)?;
                continue;
            }
            let next = ByteText::from(self.real.join(&part));
            if self.todo.is_empty() {
                return Ok((next, Vec::new()));
            }
            match view.path(&next)? {
                PathState::Link { target, .. } => self.turn(view, &next, &target)?,
                PathState::Absent => return self.beyond(&next),
                PathState::Directory { meta } => {
                    self.real.push(part);
                    self.folder = meta;
                }
                _ => return Err(Halt::Failed(format!("{next} is no directory"))),
            }
        }
        Ok((ByteText::from(self.real.as_path()), Vec::new()))
    }

    /// Turns to where a link points.
    fn turn(&mut self, view: &mut dyn View, link: &ByteText, target: &ByteText) -> Result<(), Halt> {
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(Halt::Failed(format!("{link}: more than {LINKS_MAX} links, or links in a circle")));
        }
        if target.as_path().is_absolute() {
            self.real = PathBuf::from("/");
            self.folder = directory(view, &self.real)?;
        }
        let mut ahead = parts(target.as_path());
        ahead.append(&mut self.todo);
        self.todo = ahead;
        Ok(())
    }

    /// The rest of the way beyond a directory that is missing.
    fn beyond(&mut self, first: &ByteText) -> Result<(ByteText, Vec<ByteText>), Halt> {
        let (mut at, mut missing) = (first.as_path().to_owned(), Vec::new());
        for part in self.todo.drain(..) {
            if part == ".." {
                return Err(Halt::Failed(format!("a link leads through {first}, which does not exist")));
            }
            missing.push(ByteText::from(at.as_path()));
            at.push(part);
        }
        Ok((at.into(), missing))
    }
}

/// The parts of a path that lead anywhere.
fn parts(path: &Path) -> VecDeque<OsString> {
    let part = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    };
    path.components().filter_map(part).collect()
}

fn directory(view: &mut dyn View, path: &Path) -> Result<Meta, Halt> {
    match view.path(&path.into())? {
        PathState::Directory { meta } => Ok(meta),
        _ => Err(Halt::Failed(format!("{} is no directory", path.display()))),
    }
}

/// What a step says of whose a path is and who may do what. What it leaves open stays as it is.
#[derive(Default)]
pub(super) struct Attributes<'a> {
    /// The permission bits.
    pub(super) mode: Option<Mode>,
    /// The owner's name or number.
    pub(super) owner: Option<&'a Word>,
    /// The group's name or number.
    pub(super) group: Option<&'a Word>,
}

impl Attributes<'_> {
    /// The attributes of something that is there.
    pub(super) fn over(&self, view: &mut dyn View, old: &Meta) -> Result<Meta, Halt> {
        let mut meta = old.clone();
        (meta.uid, meta.gid) = self.owners(view, &old.uid, &old.gid)?;
        if let Some(Mode(mode)) = self.mode {
            set_mode(&mut meta, mode);
        }
        Ok(meta)
    }

    /// The owner and group of something that is there.
    pub(super) fn owners(&self, view: &mut dyn View, uid: &Id, gid: &Id) -> Result<(Id, Id), Halt> {
        let uid = self.owner.map_or_else(|| Ok(uid.clone()), |Word(name)| view.uid(name))?;
        let gid = self.group.map_or_else(|| Ok(gid.clone()), |Word(name)| view.gid(name))?;
        Ok((uid, gid))
    }

    /// The attributes of something new in `folder`.
    fn fresh(&self, view: &mut dyn View, folder: &Meta, mode: u32) -> Result<Meta, Halt> {
        let (uid, mut gid) = view.own();
        if folder.mode & 0o2000 != 0 {
            gid = folder.gid.clone();
        }
        let (uid, gid) = self.owners(view, &uid, &gid)?;
        Ok(Meta { mode: self.mode.map_or(mode, |Mode(mode)| mode), uid, gid, xattrs: Default::default() })
    }
}

/// The attributes that hold a POSIX ACL, and what new things in a directory inherit.
const ACL: &str = "system.posix_acl_access";
const ACL_DEFAULT: &str = "system.posix_acl_default";

/// Sets permission bits as `chmod` does: a POSIX ACL holds three of them, and follows.
pub(super) fn set_mode(meta: &mut Meta, mode: u32) {
    meta.mode = mode;
    if let Some(acl) = meta.xattrs.get_mut(&ByteText::from(ACL)) {
        acl_follow(&mut acl.0, mode);
    }
}

/// Gives something new the ACL that its directory hands down, with the permission bits that it has.
fn inherit_acl(meta: &mut Meta, folder: &Meta) {
    let Some(acl) = folder.xattrs.get(&ByteText::from(ACL_DEFAULT)) else { return };
    // One without a mask says no more than permission bits do, and the kernel keeps none.
    if entries(&acl.0).any(|entry| tag(entry) == ACL_MASK) {
        let mut acl = acl.clone();
        acl_follow(&mut acl.0, meta.mode);
        meta.xattrs.insert(ByteText::from(ACL), acl);
    }
}

const ACL_OWNER: u16 = 0x01;
const ACL_GROUP: u16 = 0x04;
const ACL_MASK: u16 = 0x10;
const ACL_OTHER: u16 = 0x20;

/// The entries of an ACL as an extended attribute: `version u32 LE`, then `tag u16 | permissions u16 | id u32` each
/// (linux/posix_acl_xattr.h). None of what is no ACL.
fn entries(acl: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_acl = acl.len() % 8 == 4 && acl[..4] == 2u32.to_le_bytes();
    acl.get(4..).filter(|_| is_acl).unwrap_or_default().chunks(8)
}

fn tag(entry: &[u8]) -> u16 {
    u16::from_le_bytes([entry[0], entry[1]])
}

/// The mode's middle bits are the mask's where there is one, else the owning group's.
fn acl_follow(acl: &mut [u8], mode: u32) {
    let middle = if entries(acl).any(|entry| tag(entry) == ACL_MASK) { ACL_MASK } else { ACL_GROUP };
    if entries(acl).next().is_none() {
        return;
    }
    for entry in acl[4..].chunks_mut(8) {
        let bits = match tag(entry) {
            ACL_OWNER => mode >> 6,
            tag if tag == middle => mode >> 3,
            ACL_OTHER => mode,
            _ => continue,
        };
        entry[2..4].copy_from_slice(&((bits & 0o7) as u16).to_le_bytes());
    }
}

/// What stands where a file is wanted, for messages.
pub(super) fn noun(state: &PathState) -> String {
    match state {
        PathState::Absent => "nothing".into(),
        PathState::File { .. } => "a file".into(),
        PathState::Directory { .. } => "a directory".into(),
        PathState::Link { target, .. } => format!("a link to {target}"),
        PathState::Other { kind } => format!("a {kind}"),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use super::*;
    use crate::{
        model::{change::CommandSpec, event::Output, facts::Facts, state::Content},
        resources::{
            HostView,
            view::{Overlay, Seen},
        },
        steps::fake::{Fake, meta},
        target::{Blobs, Probe, process::Running},
    };

    fn find(fake: &mut Fake, path: &str, follow: bool) -> Result<(String, String), String> {
        let spot = Spot::find(fake, &AbsolutePath::parse(path).unwrap(), follow);
        spot.map(|spot| (spot.path.to_string(), noun(&spot.state))).map_err(|halt| halt.message().to_owned())
    }

    #[test]
    fn links_on_the_way_are_resolved_and_the_last_one_only_if_asked() {
        let mut fake = Fake::with(&[
            "/run/",
            "/run/lock/",
            "/var/",
            "/var/run -> /run",
            "/var/lock -> run/lock",
            "/run/a",
            "/run/up -> ../run/./a",
            "/loop -> /pool",
            "/pool -> /loop",
            "/dangling -> /none/x",
            "/home -> ..",
        ]);
        let own = |path: &str, noun: &str| Ok((path.to_owned(), noun.to_owned()));
        assert_eq!(find(&mut fake, "/var/run/a", false), own("/run/a", "a file"));
        assert_eq!(find(&mut fake, "/var/lock/x", false), own("/run/lock/x", "nothing"));
        assert_eq!(find(&mut fake, "/run/up", false), own("/run/up", "a link to ../run/./a"));
        assert_eq!(find(&mut fake, "/run/up", true), own("/run/a", "a file"));
        assert_eq!(find(&mut fake, "/home/run", false), own("/run", "a directory"));
        assert_eq!(find(&mut fake, "/", true), own("/", "a directory"));
        assert_eq!(find(&mut fake, "/dangling", true), own("/none/x", "nothing"));
        assert!(find(&mut fake, "/loop/x", false).unwrap_err().contains("circle"));
        assert!(find(&mut fake, "/run/a/x", false).unwrap_err().contains("/run/a is no directory"));
    }

    /// A view that says of no path that it is as it is written: every walk goes part by part.
    struct PartByPart<'a>(HostView<'a>);

    impl View for PartByPart<'_> {
        fn observe(&mut self, resource: &Resource) -> Result<State, Halt> {
            self.0.observe(resource)
        }
        fn bytes(&mut self, path: &ByteText, content: &Content) -> Result<Vec<u8>, Halt> {
            self.0.bytes(path, content)
        }
        fn list(&mut self, path: &ByteText) -> Result<Vec<ByteText>, Halt> {
            self.0.list(path)
        }
        fn ask(&mut self, command: &CommandSpec) -> Result<Output, Halt> {
            self.0.ask(command)
        }
        fn put(&mut self, bytes: Vec<u8>) -> Content {
            self.0.put(bytes)
        }
        fn facts(&self) -> &Facts {
            self.0.facts()
        }
        fn planning(&self) -> bool {
            self.0.planning()
        }
        fn staged(&self) -> bool {
            self.0.staged()
        }
    }

    /// Every path of up to four parts: whether it is asked for at once or part by part, the same is found.
    #[test]
    fn a_path_that_is_as_it_is_written_leads_where_its_parts_lead() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("a/b/c")).unwrap();
        fs::write(at("a/file"), "").unwrap();
        for (link, target) in [("l", "a"), ("a/l", "b"), ("a/b/l", "/a"), ("n", "none")] {
            std::os::unix::fs::symlink(target, at(link)).unwrap();
        }
        let laid = |paths: &[(&str, PathState)]| {
            let mut overlay = Overlay::default();
            for (path, state) in paths {
                overlay.lay(Resource::Path((*path).into()), State::Path(state.clone()));
            }
            overlay
        };
        let is = || PathState::Directory { meta: meta(0o711) };
        let link = || PathState::Link { target: "/a/b".into(), uid: Id::Number(0), gid: Id::Number(0) };
        let overlays = [
            laid(&[]),
            laid(&[("/a", is()), ("/new", is()), ("/new/a", is())]),
            laid(&[("/a/b", PathState::Absent), ("/a/b/c", PathState::Absent)]),
            laid(&[("/a/b", link()), ("/l", is()), ("/l/b", is())]),
            laid(&[("/a/b/c", is()), ("/a/file", is()), ("/a/file/c", is())]),
        ];
        let probe = Probe::new(folder.path(), Facts::default(), Running::default());
        let names = ["a", "b", "c", "l", "n", "new", "file", "..", "."];
        let mut paths = vec![PathBuf::from("/")];
        for deep in 1..=4 {
            let longer: Vec<PathBuf> = paths
                .iter()
                .filter(|path| path.components().count() == deep)
                .flat_map(|path| names.map(|name| path.join(name)))
                .collect();
            paths.extend(longer);
        }
        let (environment, mut plain) = (BTreeMap::new(), 0);
        for overlay in &overlays {
            for (path, follow) in paths.iter().flat_map(|path| [(path, false), (path, true)]) {
                let found = |slowly: bool| {
                    let (mut blobs, mut seen, mut slow) = (Blobs::default(), Seen::default(), || ());
                    let mut view = HostView::new(&probe, &mut blobs, overlay, &environment, true, &mut seen, &mut slow);
                    let is_plain = view.is_plain(path);
                    let spot = match slowly {
                        true => Spot::reach(&mut PartByPart(view), path, follow),
                        false => Spot::reach(&mut view, path, follow),
                    };
                    let told = spot.map(|spot| (spot.path, spot.state, spot.folder, spot.missing));
                    (is_plain, told.map_err(|halt| halt.to_string()))
                };
                let (is_plain, at_once) = found(false);
                assert_eq!(at_once, found(true).1, "{}", path.display());
                plain += usize::from(is_plain);
            }
        }
        assert!(plain > 100, "{plain} are as they are written");
    }

    #[test]
    fn missing_parents_are_named_outermost_first() {
        let mut fake = Fake::with(&["/srv/"]);
        let spot = Spot::find(&mut fake, &AbsolutePath::parse("/srv/a/b/c").unwrap(), false).unwrap();
        assert_eq!(spot.missing, ["/srv/a".into(), "/srv/a/b".into()]);
        assert!(!exists(&mut fake, &AbsolutePath::parse("/srv/a/b/c").unwrap()).unwrap());
        assert!(exists(&mut fake, &AbsolutePath::parse("/srv").unwrap()).unwrap());
    }

    #[test]
    fn an_acl_follows_the_mode_as_in_the_kernel() {
        let entry =
            |tag: u16, bits: u16, id: u32| [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat();
        let acl = |owner, mask, other| {
            let none = u32::MAX;
            [
                2u32.to_le_bytes().to_vec(),
                entry(0x01, owner, none),
                entry(0x02, 7, 1000),
                entry(0x04, 5, none),
                entry(0x10, mask, none),
                entry(0x20, other, none),
            ]
            .concat()
        };
        let name = ByteText::from("system.posix_acl_access");
        let mut meta = meta(0o775);
        meta.xattrs.insert(name.clone(), ByteText(acl(7, 7, 5)));
        set_mode(&mut meta, 0o640);
        assert_eq!((meta.mode, &meta.xattrs[&name].0), (0o640, &acl(6, 4, 0)));
        let mut folder = crate::steps::fake::meta(0o755);
        folder.xattrs.insert(ByteText::from(ACL_DEFAULT), ByteText(acl(7, 7, 5)));
        let mut new = crate::steps::fake::meta(0o640);
        inherit_acl(&mut new, &folder);
        assert_eq!(new.xattrs[&name].0, acl(6, 4, 0));
        let mut odd = vec![2, 0, 0, 0, 1];
        acl_follow(&mut odd, 0o777);
        assert_eq!(odd, [2, 0, 0, 0, 1]);
    }
}
