//! `file`: directories, links, attributes, absence.

use serde::{Deserialize, Serialize};

use crate::{
    base::{ByteText, Fault},
    model::state::{PathState, Resource, State},
    resources::{Halt, View},
    steps::{
        Decision, Desk, Kind,
        fields::{AbsolutePath, Mode, Word},
        paths::{Attributes, Spot, noun},
        tree,
    },
};

/// Makes a directory, a symbolic link or an empty file; sets mode, owner and group; or removes what is there.
///
/// For a file with content use `copy`, `template`, `lineinfile` or `blockinfile`.
///
/// Other than in Ansible: `touch` leaves the times of a file that is there alone, so that a second run changes nothing;
/// directories made on the way get mode 0755 and not the mode of the last one; `recurse` gives execute permission only
/// to directories and to files that have it already; a link is not followed unless `follow` says so.
///
/// Sockets, pipes and devices are never touched. A removed directory is kept, with everything in it, for the way back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "controller", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The absolute path.
    pub path: AbsolutePath,
    /// What should be there. Default: whatever is there, which must be something.
    #[serde(default)]
    pub state: Option<Presence>,
    /// What a link points to, as it is to be written into the link (`state: link` only).
    #[serde(default)]
    pub src: Option<String>,
    /// Permission bits. Default: as they are; 0755 for a new directory, 0644 for a new file.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// The owner, by name or number. Default: as it is; the user that the steps run as for what is new.
    #[serde(default)]
    pub owner: Option<Word>,
    /// The group, by name or number. Default: as it is; for what is new that user's group, or the directory's where the
    /// directory has the set-group-id bit.
    #[serde(default)]
    pub group: Option<Word>,
    /// Whether mode, owner and group hold for everything below a directory too (`state: directory` only). Default:
    /// false.
    #[serde(default)]
    pub recurse: bool,
    /// Whether missing directories above `path` are made, with mode 0755. Default: true for `state: directory`, else
    /// false.
    #[serde(default)]
    pub parents: Option<bool>,
    /// Whether a symbolic link at `path` is followed. Default: false, and a link there is a failure, unless a link or
    /// nothing is wanted.
    #[serde(default)]
    pub follow: bool,
    /// Whether a link may take the place of a file, and may point to nothing (`state: link` only). Default: false.
    #[serde(default)]
    pub force: bool,
}

/// What should be at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "controller", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// Nothing: it is removed, a directory with everything in it.
    Absent,
    /// A directory.
    Directory,
    /// A file, which must be there already.
    File,
    /// A symbolic link to `src`.
    Link,
    /// A file; an empty one is made where there is none.
    Touch,
}

impl Kind for File {
    const NAME: &'static str = "file";
    const FORESEEABLE: bool = true;
    const EXAMPLE: &'static str = "\
- name: the app has a directory
  file: {path: /srv/app/releases, state: directory, owner: root, mode: \"0755\"}

- name: the current release is live
  file: {path: /srv/app/current, state: link, src: \"releases/{{ params.version }}\"}

- name: the old configuration is gone
  file: {path: /etc/app.conf.old, state: absent}
";

    fn prepare(&mut self, _desk: &mut dyn Desk) -> Result<(), Fault> {
        let state = self.state;
        let only = |wanted: Presence, given: bool, field: &str, word: &str| match given && state != Some(wanted) {
            true => Err(Fault::input(format!("{field} goes with state: {word} only"))),
            false => Ok(()),
        };
        only(Presence::Link, self.src.is_some(), "src", "link")?;
        only(Presence::Link, self.force, "force", "link")?;
        only(Presence::Directory, self.recurse, "recurse", "directory")?;
        match (state, &self.src) {
            (Some(Presence::Link), None) => Err(Fault::input("state: link needs src, what the link points to")),
            (Some(Presence::Link), Some(src)) if src.is_empty() || src.len() > 4095 || src.contains('\0') => {
                Err(Fault::input("src is no path: empty, too long, or with a NUL in it"))
            }
            (Some(Presence::Link), _) if self.mode.is_some() => Err(Fault::input("a symbolic link has no mode")),
            (Some(Presence::Absent), _) if self.mode.is_some() || self.owner.is_some() || self.group.is_some() => {
                Err(Fault::input("mode, owner and group do not go with state: absent"))
            }
            _ => Ok(()),
        }
    }

    fn want(&self, now: &mut dyn View) -> Result<Decision, Halt> {
        let mut spot = Spot::find(now, &self.path, self.follow)?;
        if self.state == Some(Presence::Absent) {
            return tree::remove(now, &spot);
        }
        let parents = self.parents.unwrap_or(self.state == Some(Presence::Directory));
        let decision = spot.with_parents(now, parents)?;
        match self.state {
            Some(Presence::Absent) => unreachable!("answered above"),
            Some(Presence::Directory) => self.directory(now, spot, decision),
            Some(Presence::Link) => self.link(now, spot, decision),
            Some(Presence::Touch) if spot.state == PathState::Absent => {
                let meta = spot.fresh_file(now, &self.attributes())?;
                let state = PathState::File { content: now.put(Vec::new()), meta };
                Ok(decision.bring(Resource::Path(spot.path), State::Path(state)))
            }
            None | Some(Presence::File | Presence::Touch) => self.adjust(now, spot, decision),
        }
    }
}

impl File {
    fn attributes(&self) -> Attributes<'_> {
        Attributes { mode: self.mode, owner: self.owner.as_ref(), group: self.group.as_ref() }
    }

    /// The attributes of what is there.
    fn adjust(&self, now: &mut dyn View, spot: Spot, decision: Decision) -> Result<Decision, Halt> {
        let attributes = self.attributes();
        let state = match &spot.state {
            PathState::File { content, meta } => {
                PathState::File { content: *content, meta: attributes.over(now, meta)? }
            }
            PathState::Directory { meta } if self.state.is_none() => {
                PathState::Directory { meta: attributes.over(now, meta)? }
            }
            PathState::Absent => {
                let hint = "say which state it should have, or make it in an earlier step";
                return Err(Halt::Failed(format!("{} does not exist; {hint}", spot.path)));
            }
            other => return Err(unfit(&spot.path, other, "a file")),
        };
        Ok(decision.bring(Resource::Path(spot.path), State::Path(state)))
    }

    fn directory(&self, now: &mut dyn View, spot: Spot, decision: Decision) -> Result<Decision, Halt> {
        let attributes = self.attributes();
        let meta = match &spot.state {
            PathState::Directory { meta } => attributes.over(now, meta)?,
            PathState::Absent => spot.fresh_directory(now, &attributes)?,
            other => return Err(unfit(&spot.path, other, "a directory")),
        };
        let path = spot.path.clone();
        let decision = decision.bring(Resource::Path(spot.path), State::Path(PathState::Directory { meta }));
        match (self.recurse, spot.state) {
            (true, PathState::Directory { .. }) => tree::adjust(now, &path, &attributes, decision),
            _ => Ok(decision),
        }
    }

    fn link(&self, now: &mut dyn View, spot: Spot, decision: Decision) -> Result<Decision, Halt> {
        let src = self.src.as_deref().ok_or_else(|| Halt::Failed("a link without src was sent".into()))?;
        let target = ByteText::from(src);
        let (uid, gid) = match &spot.state {
            PathState::Link { uid, gid, .. } => self.attributes().owners(now, uid, gid)?,
            PathState::Absent => spot.fresh_link(now, &self.attributes())?,
            PathState::File { .. } if self.force => spot.fresh_link(now, &self.attributes())?,
            PathState::File { .. } => {
                let path = &spot.path;
                return Err(Halt::Failed(format!("{path} is a file; say force: true to let a link take its place")));
            }
            other => return Err(unfit(&spot.path, other, "a link")),
        };
        let is_there = matches!(&spot.state, PathState::Link { target: old, .. } if *old == target);
        if !is_there && !self.force {
            let end = Spot::reach(now, &spot.folder_path().join(target.as_path()), true)?;
            if end.state == PathState::Absent {
                let hint = "say force: true if that is meant";
                return Err(Halt::Failed(format!("the link would point to nothing: there is no {}; {hint}", end.path)));
            }
        }
        Ok(decision.bring(Resource::Path(spot.path), State::Path(PathState::Link { target, uid, gid })))
    }
}

/// Something else is in the way.
fn unfit(path: &ByteText, state: &PathState, wanted: &str) -> Halt {
    let hint = match state {
        PathState::Link { .. } => "; say follow: true if what it points to is meant",
        PathState::Other { .. } => ", which is never touched",
        _ => "; remove it in an earlier step (state: absent) if that is meant",
    };
    Halt::Failed(format!("{path} should be {wanted} and is {}{hint}", noun(state)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::facts::Mount, steps::fake::Fake};

    fn told(fake: &mut Fake, fields: &str) -> Result<Vec<String>, String> {
        fake.told::<File>(fields)
    }

    #[test]
    fn directories_are_made_with_those_above_them() {
        let mut fake = Fake::with(&["/srv/"]);
        let made =
            told(&mut fake, r#"{"path": "/srv/a/b", "state": "directory", "mode": "0700", "owner": 9}"#).unwrap();
        assert_eq!(made, ["/srv/a: directory 0755 1:2", "/srv/a/b: directory 0700 9:2"]);
        let not = told(&mut fake, r#"{"path": "/srv/a/b", "state": "directory", "parents": false}"#).unwrap_err();
        assert!(not.contains("/srv/a does not exist"), "{not}");
        if let Some(PathState::Directory { meta }) = fake.paths.get_mut(&"/srv".into()) {
            meta.mode = 0o2775;
        }
        let made = told(&mut fake, r#"{"path": "/srv/a/b", "state": "directory"}"#).unwrap();
        assert_eq!(made, ["/srv/a: directory 2755 1:8", "/srv/a/b: directory 2755 1:8"]);
    }

    #[test]
    fn what_is_left_open_stays() {
        let mut fake = Fake::with(&["/f", "/d/"]);
        assert_eq!(told(&mut fake, r#"{"path": "/f", "group": "9"}"#).unwrap(), ["/f: file 0600 7:9"]);
        assert_eq!(told(&mut fake, r#"{"path": "/d", "mode": "0700"}"#).unwrap(), ["/d: directory 0700 7:8"]);
        assert_eq!(told(&mut fake, r#"{"path": "/f", "state": "touch"}"#).unwrap(), ["/f: file 0600 7:8"]);
        assert_eq!(told(&mut fake, r#"{"path": "/n", "state": "touch"}"#).unwrap(), ["/n: file 0644 1:2"]);
        assert!(told(&mut fake, r#"{"path": "/n"}"#).unwrap_err().contains("does not exist"));
        assert!(told(&mut fake, r#"{"path": "/f", "owner": "nobody-here"}"#).unwrap_err().contains("no user"));
    }

    #[test]
    fn links_point_to_something_unless_forced() {
        let mut fake = Fake::with(&["/r/", "/r/1/", "/cur -> r/0", "/f"]);
        let link = |path: &str, src: &str, more: &str| {
            format!(r#"{{"path": "{path}", "state": "link", "src": "{src}"{more}}}"#)
        };
        assert_eq!(told(&mut fake, &link("/cur", "r/1", "")).unwrap(), ["/cur: link to r/1 7:8"]);
        assert_eq!(told(&mut fake, &link("/cur", "r/0", "")).unwrap(), ["/cur: link to r/0 7:8"]);
        assert!(told(&mut fake, &link("/cur", "r/2", "")).unwrap_err().contains("there is no /r/2"));
        let force = r#", "force": true"#;
        assert_eq!(told(&mut fake, &link("/new", "r/2", force)).unwrap(), ["/new: link to r/2 1:2"]);
        assert!(told(&mut fake, &link("/f", "r/1", "")).unwrap_err().contains("force: true"));
        assert_eq!(told(&mut fake, &link("/f", "r/1", force)).unwrap(), ["/f: link to r/1 1:2"]);
        assert!(told(&mut fake, &link("/r", "f", force)).unwrap_err().contains("is a directory"));
    }

    #[test]
    fn removal_begins_at_the_leaves_and_spares_what_cannot_come_back() {
        let mut fake = Fake::with(&["/d/", "/d/e/", "/d/e/f", "/d/l -> /etc"]);
        let gone = told(&mut fake, r#"{"path": "/d", "state": "absent"}"#).unwrap();
        assert_eq!(gone.last().unwrap(), "/d: absent");
        let at = |name: &str| gone.iter().position(|told| told.starts_with(name)).unwrap();
        assert!(gone.len() == 4 && at("/d/e/f:") < at("/d/e:"), "{gone:?}");
        assert_eq!(told(&mut fake, r#"{"path": "/none/x", "state": "absent"}"#).unwrap(), ["/none/x: absent"]);
        assert!(told(&mut fake, r#"{"path": "/", "state": "absent"}"#).unwrap_err().contains("root"));
        fake.facts.mounts.push(Mount { path: "/d/e".into(), ..Default::default() });
        assert!(told(&mut fake, r#"{"path": "/d", "state": "absent"}"#).unwrap_err().contains("mounted at /d/e"));
        fake.facts.mounts.clear();
        fake.paths.insert("/d/s".into(), PathState::Other { kind: "socket".into() });
        assert!(told(&mut fake, r#"{"path": "/d", "state": "absent"}"#).unwrap_err().contains("socket"));
    }

    #[test]
    fn recursion_gives_execute_permission_only_where_there_is_some() {
        let mut fake = Fake::with(&["/d/", "/d/f", "/d/x", "/d/l -> f"]);
        if let Some(PathState::File { meta, .. }) = fake.paths.get_mut(&"/d/x".into()) {
            meta.mode = 0o700;
        }
        let fields = r#"{"path": "/d", "state": "directory", "recurse": true, "mode": "0755", "owner": 3}"#;
        assert_eq!(
            told(&mut fake, fields).unwrap(),
            ["/d: directory 0755 3:8", "/d/f: file 0644 3:8", "/d/l: link to f 3:8", "/d/x: file 0755 3:8"]
        );
    }

    #[test]
    fn a_link_in_the_way_is_never_followed_unasked() {
        let mut fake = Fake::with(&["/d/", "/l -> d"]);
        let refused = told(&mut fake, r#"{"path": "/l", "state": "directory", "mode": "0700"}"#).unwrap_err();
        assert!(refused.contains("follow: true"), "{refused}");
        let followed = told(&mut fake, r#"{"path": "/l", "state": "directory", "mode": "0700", "follow": true}"#);
        assert_eq!(followed.unwrap(), ["/d: directory 0700 7:8"]);
    }

    #[test]
    fn fields_that_do_not_go_together_are_mistakes() {
        for fields in [
            r#"{"path": "/x", "src": "y"}"#,
            r#"{"path": "/x", "state": "link"}"#,
            r#"{"path": "/x", "state": "link", "src": "y", "mode": "0644"}"#,
            r#"{"path": "/x", "state": "absent", "owner": "root"}"#,
            r#"{"path": "/x", "recurse": true}"#,
            r#"{"path": "/x", "state": "directory", "force": true}"#,
        ] {
            assert!(told(&mut Fake::with(&["/x/"]), fields).is_err(), "{fields}");
        }
    }
}
