//! Everything below a directory: removed, or given its attributes.

use std::path::Path;

use crate::{
    base::ByteText,
    model::state::{Meta, PathState, Resource, State},
    resources::{Halt, View},
    steps::{
        Decision,
        fields::Mode,
        paths::{Attributes, Spot, noun},
    },
};

/// A step changes at most this many paths: each is journalled and told of.
const ENTRIES_MAX: usize = 100_000;

/// What is below a directory, every directory before what is in it.
fn below(view: &mut dyn View, folder: &ByteText) -> Result<Vec<(ByteText, PathState)>, Halt> {
    let (mut found, mut todo) = (Vec::new(), vec![folder.clone()]);
    while let Some(folder) = todo.pop() {
        for path in view.list(&folder)? {
            let state = view.path(&path)?;
            if matches!(state, PathState::Directory { .. }) {
                todo.push(path.clone());
            }
            found.push((path, state));
        }
        if found.len() > ENTRIES_MAX {
            return Err(Halt::Failed(format!("{folder}: more than {ENTRIES_MAX} files are too many for one step")));
        }
    }
    Ok(found)
}

/// Wants nothing to be there, what is in a directory gone before it.
pub(super) fn remove(view: &mut dyn View, spot: &Spot) -> Result<Decision, Halt> {
    let mut doomed = vec![(spot.path.clone(), spot.state.clone())];
    if matches!(spot.state, PathState::Directory { .. }) {
        let path = spot.path.as_path();
        if path.parent().is_none() {
            return Err(Halt::Failed("the root directory cannot be removed".into()));
        }
        if let Some(mount) = view.facts().mounts.iter().find(|mount| Path::new(&mount.path).starts_with(path)) {
            return Err(Halt::Failed(format!("a file system is mounted at {}; unmount it first", mount.path)));
        }
        doomed.append(&mut below(view, &spot.path)?);
    }
    let mut decision = Decision::nothing();
    for (path, state) in doomed.into_iter().rev() {
        if let PathState::Other { .. } = state {
            return Err(Halt::Failed(format!("{path} is {}, which is never touched", noun(&state))));
        }
        decision = decision.bring(Resource::Path(path), State::Path(PathState::Absent));
    }
    Ok(decision)
}

/// Wants everything below a directory to have these attributes. Sockets, pipes and devices are left alone.
pub(super) fn adjust(
    view: &mut dyn View,
    folder: &ByteText,
    attributes: &Attributes<'_>,
    mut decision: Decision,
) -> Result<Decision, Halt> {
    for (path, state) in below(view, folder)? {
        let state = match state {
            PathState::File { content, meta } => {
                PathState::File { content, meta: for_file(attributes, &meta).over(view, &meta)? }
            }
            PathState::Directory { meta } => PathState::Directory { meta: attributes.over(view, &meta)? },
            PathState::Link { target, uid, gid } => {
                let (uid, gid) = attributes.owners(view, &uid, &gid)?;
                PathState::Link { target, uid, gid }
            }
            PathState::Other { .. } | PathState::Absent => continue,
        };
        decision = decision.bring(Resource::Path(path), State::Path(state));
    }
    Ok(decision)
}

/// The attributes for a file: execute permission only where the file has some already, as `X` means it in `chmod`.
fn for_file<'a>(attributes: &Attributes<'a>, file: &Meta) -> Attributes<'a> {
    let executable = file.mode & 0o111 != 0;
    let mode = attributes.mode.map(|Mode(mode)| Mode(if executable { mode } else { mode & !0o111 }));
    Attributes { mode, owner: attributes.owner, group: attributes.group }
}
