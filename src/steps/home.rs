//! Home directories: made with what `/etc/skel` holds, removed with everything in them.

use std::path::Path;

use crate::{
    base::ByteText,
    model::state::{Id, PathState, Resource, State},
    resources::{Halt, View},
    steps::{
        Decision,
        accounts::Settings,
        fields::AbsolutePath,
        paths::Spot,
        tree,
        user::{directory, meta},
    },
};

/// What a skeleton may hold.
const SKELETON_MAX: usize = 1000;

/// Directories that no removal of a user takes away.
const SHARED: [&str; 14] =
    ["/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/opt", "/root", "/sbin", "/srv", "/tmp", "/usr", "/var"];

/// Wants a home directory with a copy of the skeleton, where nothing is there yet.
pub(super) fn make(now: &mut dyn View, home: &str, owner: &(Id, Id), mut decision: Decision) -> Result<Decision, Halt> {
    let path = AbsolutePath::parse(home).map_err(Halt::Failed)?;
    let mut spot = Spot::find(now, &path, true)?;
    match spot.state {
        PathState::Absent => {}
        PathState::Directory { .. } => return Ok(decision),
        _ => return Err(Halt::Failed(format!("{} is in the way of a home directory", spot.path))),
    }
    let settings = Settings::read(now)?;
    // As login.defs(5) has it.
    let mode = settings.octal("HOME_MODE").unwrap_or(0o777 & !settings.octal("UMASK").unwrap_or(0o022));
    let mut parents = spot.with_parents(now, true)?;
    decision.states.append(&mut parents.states);
    decision = decision.bring(Resource::Path(spot.path.clone()), directory(mode, owner));
    let skeleton = settings.text("SKEL", "/etc/skel");
    fill(now, Path::new(&skeleton), spot.path.as_path(), owner, decision)
}

/// Wants copies of what is in the skeleton, owned by the user.
fn fill(
    now: &mut dyn View,
    skeleton: &Path,
    home: &Path,
    owner: &(Id, Id),
    mut decision: Decision,
) -> Result<Decision, Halt> {
    let mut todo = vec![ByteText::from(skeleton)];
    let mut count = 0;
    while let Some(folder) = todo.pop() {
        if !matches!(now.path(&folder)?, PathState::Directory { .. }) {
            continue;
        }
        for path in now.list(&folder)? {
            count += 1;
            if count > SKELETON_MAX {
                return Err(Halt::Failed(format!("{} holds more than {SKELETON_MAX} files", skeleton.display())));
            }
            let beyond = path.as_path().strip_prefix(skeleton).expect("listed below the skeleton");
            let place = ByteText::from(home.join(beyond));
            let state = match now.path(&path)? {
                PathState::Directory { meta: found } => {
                    todo.push(path);
                    directory(found.mode, owner)
                }
                PathState::File { content, meta: found } => {
                    let bytes = now.bytes(&path, &content)?;
                    State::Path(PathState::File { content: now.put(bytes), meta: meta(found.mode, owner) })
                }
                PathState::Link { target, .. } => {
                    State::Path(PathState::Link { target, uid: owner.0.clone(), gid: owner.1.clone() })
                }
                PathState::Other { .. } | PathState::Absent => continue,
            };
            decision = decision.bring(Resource::Path(place), state);
        }
    }
    Ok(decision)
}

/// Wants a home directory gone with everything in it, if it is one: a directory that belongs to the user.
pub(super) fn remove(now: &mut dyn View, user: &str, home: &str) -> Result<Decision, Halt> {
    if SHARED.contains(&home) || home.is_empty() {
        return Err(Halt::Failed(format!("the home directory of {user} is {home:?}, which is not removed")));
    }
    let path = AbsolutePath::parse(home).map_err(Halt::Failed)?;
    let spot = Spot::find(now, &path, false)?;
    let own = now.uid(user)?;
    match &spot.state {
        PathState::Absent => Ok(Decision::nothing()),
        PathState::Directory { meta } if meta.uid == own => tree::remove(now, &spot),
        _ => Err(Halt::Failed(format!("{home} does not belong to {user}, so it is not removed as a home directory"))),
    }
}

/// Refuses to go on while programs of a user run.
pub(super) fn check_idle(now: &mut dyn View, user: &str, uid: Option<u32>) -> Result<(), Halt> {
    let Some(uid) = uid else { return Ok(()) };
    let mut running = Vec::new();
    for path in now.list(&"/proc".into())? {
        let pid = path.as_path().file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<u32>().ok());
        let Some(pid) = pid else { continue };
        // A process that ended in between is none.
        if let Ok(PathState::Directory { meta }) = now.path(&path)
            && meta.uid == Id::Number(uid)
        {
            running.push(pid.to_string());
        }
    }
    if running.is_empty() {
        return Ok(());
    }
    let (count, first) = (running.len(), running[..running.len().min(5)].join(", "));
    Err(Halt::Failed(format!("{user} runs {count} processes (number {first}); end them in an earlier step")))
}
