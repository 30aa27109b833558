//! What differs between two states of a path, in the words of people.

use std::collections::BTreeSet;

use crate::{
    base::ByteText,
    model::state::{Content, Difference, Meta, PathState},
};

/// Empty exactly when the states are equal.
pub(super) fn differences(before: &PathState, after: &PathState) -> Vec<Difference> {
    use PathState::{Directory, File, Link, Other};
    let mut found = Found(Vec::new());
    match (before, after) {
        (File { content: old, meta: old_meta }, File { content: new, meta: new_meta }) => {
            found.contents(old, new);
            found.metas(old_meta, new_meta);
        }
        (Directory { meta: old }, Directory { meta: new }) => found.metas(old, new),
        (
            Link { target: old_target, uid: old_uid, gid: old_gid },
            Link { target: new_target, uid: new_uid, gid: new_gid },
        ) => {
            found.text("target", old_target, new_target);
            found.text("owner", old_uid, new_uid);
            found.text("group", old_gid, new_gid);
        }
        (Other { kind: old }, Other { kind: new }) => found.text("type", old, new),
        (before, after) => found.text("type", &noun(before), &whole(after)),
    }
    found.0
}

struct Found(Vec<Difference>);

impl Found {
    fn text<T: ToString + PartialEq>(&mut self, attribute: &str, before: &T, after: &T) {
        if before != after {
            self.push(attribute, before.to_string(), after.to_string());
        }
    }

    fn push(&mut self, attribute: &str, before: String, after: String) {
        self.0.push(Difference { attribute: attribute.to_owned(), before, after });
    }

    fn contents(&mut self, old: &Content, new: &Content) {
        let (before, after) = (size(old.bytes), size(new.bytes));
        match old == new {
            true => {}
            false if before == after => self.push(
                "content",
                format!("{before}, {}", old.digest.short()),
                format!("{after}, {}", new.digest.short()),
            ),
            false => self.push("content", before, after),
        }
    }

    fn metas(&mut self, old: &Meta, new: &Meta) {
        self.text("mode", &mode(old.mode), &mode(new.mode));
        self.text("owner", &old.uid, &new.uid);
        self.text("group", &old.gid, &new.gid);
        let mut names = BTreeSet::new();
        // One by one: collecting them sorts them first, by a sort of their own.
        names.extend(old.xattrs.keys().chain(new.xattrs.keys()));
        for name in names {
            let (before, after) = (old.xattrs.get(name), new.xattrs.get(name));
            if before != after {
                self.push(&name.to_string(), value(before), value(after));
            }
        }
    }
}

/// An attribute's value as far as people can read it.
fn value(value: Option<&ByteText>) -> String {
    match value {
        None => "none".into(),
        Some(value) if value.0.len() <= 64 && value.0.iter().all(|byte| matches!(byte, b' '..=b'~')) => {
            value.to_string()
        }
        Some(value) => format!("{} bytes, {}", value.0.len(), crate::base::Digest::of(&value.0).short()),
    }
}

fn noun(state: &PathState) -> String {
    match state {
        PathState::Absent => "absent".into(),
        PathState::File { content, .. } => format!("file of {}", size(content.bytes)),
        PathState::Directory { .. } => "directory".into(),
        PathState::Link { target, .. } => format!("link to {target}"),
        PathState::Other { kind } => kind.clone(),
    }
}

/// All that is to be known of a state that replaces one of another type.
fn whole(state: &PathState) -> String {
    let attributes = match state {
        PathState::File { meta, .. } | PathState::Directory { meta } => {
            format!(", mode {}, owner {}, group {}", mode(meta.mode), meta.uid, meta.gid)
        }
        PathState::Link { .. } | PathState::Absent | PathState::Other { .. } => String::new(),
    };
    noun(state) + &attributes
}

fn mode(mode: u32) -> String {
    format!("{mode:04o}")
}

/// A size in binary units, one digit after the point.
fn size(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::state::Id;

    fn file(bytes: &[u8], mode: u32) -> PathState {
        let meta = Meta { mode, uid: Id::Number(0), gid: Id::Number(7), xattrs: Default::default() };
        PathState::File { content: Content::of(bytes), meta }
    }

    fn told(before: &PathState, after: &PathState) -> Vec<String> {
        differences(before, after).iter().map(|d| format!("{}: {} → {}", d.attribute, d.before, d.after)).collect()
    }

    #[test]
    fn people_can_read_what_differs() {
        let (small, large) = (file(&[1; 1229], 0o644), file(&[2; 1400], 0o600));
        assert_eq!(told(&small, &large), ["content: 1.2 KiB → 1.3 KiB", "mode: 0644 → 0600"]);
        assert_eq!(told(&small, &small), [""; 0]);
        assert_eq!(told(&PathState::Absent, &small), ["type: absent → file of 1.2 KiB, mode 0644, owner 0, group 7"]);
        let same_size = told(&file(b"a", 0o644), &file(b"b", 0o644));
        assert_eq!(same_size, ["content: 1 B, ca978112ca1b → 1 B, 3e23e8160039"]);
    }
}
