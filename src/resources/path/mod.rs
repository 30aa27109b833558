//! Paths: files, directories, links, absence.

mod diff;
mod words;

use std::{
    fs::{FileType, Metadata},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt},
};

use crate::{
    base::{ByteText, Digest},
    model::{
        change::Change,
        state::{Content, Difference, Id, Meta, PathState, Resource, State},
    },
    resources::{Family, Halt},
    target::{Probe, Tools},
};

pub use diff::{INPUT_BYTES_MAX, diff};

/// The family of paths.
#[derive(Debug)]
pub struct Paths;

impl Family for Paths {
    type State = PathState;

    fn observe(probe: &Probe, resource: &Resource) -> Result<PathState, Halt> {
        let Resource::Path(path) = resource else { resource.is_misplaced() };
        look(probe, path).map_err(|error| Halt::io(format_args!("reading {path}"), &error))
    }

    fn differences(before: &PathState, after: &PathState) -> Vec<Difference> {
        words::differences(before, after)
    }

    fn converge(tools: &Tools<'_>, changes: &[Change]) -> Result<(), Halt> {
        for change in changes {
            let Change { resource: Resource::Path(path), before: State::Path(before), after: State::Path(after) } =
                change
            else {
                change.resource.is_misplaced()
            };
            bring(tools, path, before, after).map_err(|error| explain(path, &error))?;
        }
        Ok(())
    }
}

fn look(probe: &Probe, path: &ByteText) -> io::Result<PathState> {
    let Some(found) = probe.lstat(path)? else { return Ok(PathState::Absent) };
    let kind = found.file_type();
    if kind.is_symlink() {
        let (uid, gid) = (Id::Number(found.uid()), Id::Number(found.gid()));
        return Ok(PathState::Link { target: probe.read_link(path)?, uid, gid });
    }
    if kind.is_dir() {
        return Ok(PathState::Directory { meta: meta(probe, path, &found)? });
    }
    if !kind.is_file() {
        return Ok(PathState::Other { kind: other(kind).into() });
    }
    let (digest, bytes) = Digest::of_reader(probe.open(path)?)?;
    Ok(PathState::File { content: Content { digest, bytes }, meta: meta(probe, path, &found)? })
}

fn meta(probe: &Probe, path: &ByteText, found: &Metadata) -> io::Result<Meta> {
    let (uid, gid) = (Id::Number(found.uid()), Id::Number(found.gid()));
    Ok(Meta { mode: found.mode() & 0o7777, uid, gid, xattrs: probe.xattrs(path)? })
}

fn other(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_socket() => "socket",
        kind if kind.is_fifo() => "fifo",
        kind if kind.is_block_device() => "block device",
        _ => "character device",
    }
}

/// Brings a path from one state to another: forward and back, for every pair of states.
fn bring(tools: &Tools<'_>, path: &ByteText, before: &PathState, after: &PathState) -> io::Result<()> {
    use PathState::{Absent, Directory, File, Link, Other};
    match (before, after) {
        (Other { kind }, _) | (_, Other { kind }) => Err(io::Error::other(format!("a {kind} is never touched"))),
        (Absent, Absent) => Ok(()),
        (Directory { .. }, Absent) => tools.remove_directory(path),
        (_, Absent) => tools.remove_file(path),
        (File { content: old, .. }, File { content, meta }) if old == content => tools.set_meta(path, meta),
        (Directory { .. }, File { content, meta }) => {
            tools.remove_directory(path)?;
            tools.write_file(path, content, meta)
        }
        (_, File { content, meta }) => tools.write_file(path, content, meta),
        (Directory { .. }, Directory { meta }) => tools.set_meta(path, meta),
        (Absent, Directory { meta }) => tools.make_directory(path, meta),
        (_, Directory { meta }) => {
            tools.remove_file(path)?;
            tools.make_directory(path, meta)
        }
        (Link { target: old, .. }, Link { target, uid, gid }) if old == target => tools.set_link_owner(path, uid, gid),
        (Directory { .. }, Link { target, uid, gid }) => {
            tools.remove_directory(path)?;
            tools.make_link(path, target, uid, gid)
        }
        (_, Link { target, uid, gid }) => tools.make_link(path, target, uid, gid),
    }
}

fn explain(path: &ByteText, error: &io::Error) -> Halt {
    match error.kind() {
        io::ErrorKind::DirectoryNotEmpty => Halt::Failed(format!("{path} is not empty")),
        io::ErrorKind::ReadOnlyFilesystem => Halt::Failed(format!("{path} is on a file system that is read-only")),
        _ => Halt::io(format_args!("changing {path}"), error),
    }
}

/// Whether `now` may be what a crash of ours has left on the way from `before` to `after`: each of its parts is one of
/// either side. With `in_place`, so is any content.
pub fn is_between(before: &PathState, after: &PathState, now: &PathState, in_place: bool) -> bool {
    use PathState::{Absent, Directory, File, Link};
    let sides = [before, after];
    match now {
        Absent => std::mem::discriminant(before) != std::mem::discriminant(after),
        File { content, meta } => {
            let fits = |side: &&&PathState| matches!(side, File { content: own, .. } if in_place || own == content);
            sides.iter().any(|side| fits(&side)) && is_mixed(&sides, meta)
        }
        Directory { meta } => is_mixed(&sides, meta),
        Link { target, uid, gid } => {
            let links = sides.iter().filter_map(|side| match side {
                Link { target, uid, gid } => Some((target, uid, gid)),
                _ => None,
            });
            let mut fits = (false, false, false);
            for (own_target, own_uid, own_gid) in links {
                fits = (fits.0 || own_target == target, fits.1 || own_uid == uid, fits.2 || own_gid == gid);
            }
            fits == (true, true, true)
        }
        PathState::Other { .. } => false,
    }
}

/// Whether each attribute is that of one of the sides.
fn is_mixed(sides: &[&PathState; 2], now: &Meta) -> bool {
    let metas: Vec<&Meta> = sides
        .iter()
        .filter_map(|side| match side {
            PathState::File { meta, .. } | PathState::Directory { meta } => Some(meta),
            _ => None,
        })
        .collect();
    let Meta { mode, uid, gid, xattrs } = now;
    // Changing the owner clears the set-id bits before the mode is set again.
    metas.iter().any(|meta| meta.mode & 0o777 == mode & 0o777 && mode & !meta.mode == 0)
        && metas.iter().any(|meta| meta.uid == *uid)
        && metas.iter().any(|meta| meta.gid == *gid)
        && xattrs.iter().all(|(name, value)| metas.iter().any(|meta| meta.xattrs.get(name) == Some(value)))
}
