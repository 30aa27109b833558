//! What a step may observe: the host, with what earlier steps of a plan would have done laid over it.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    base::ByteText,
    model::{
        change::CommandSpec,
        event::Output,
        facts::Facts,
        state::{Content, GroupState, Id, PathState, Resource, State, UserState},
    },
    resources::{self, Halt},
    target::{Blobs, Probe},
};

/// What a step may observe. It cannot write.
pub trait View {
    /// The state of a resource.
    fn observe(&mut self, resource: &Resource) -> Result<State, Halt>;

    /// The bytes of a file whose state has `content`, at most 16 MiB.
    fn bytes(&mut self, path: &ByteText, content: &Content) -> Result<Vec<u8>, Halt>;

    /// The full paths of what is in a directory, sorted.
    fn list(&mut self, path: &ByteText) -> Result<Vec<ByteText>, Halt>;

    /// Runs a command that only looks (a guard). In a plan that has already staged changes, a look that cannot be
    /// started is [`Halt::Unknown`]: an earlier step may bring the program.
    fn ask(&mut self, command: &CommandSpec) -> Result<Output, Halt>;

    /// What comes next may take its time: what is waiting to be told is told before. [`View::ask`] does so by itself.
    fn take_time(&mut self) {}

    /// Takes bytes that a wanted state will refer to.
    fn put(&mut self, bytes: Vec<u8>) -> Content;

    /// What is true of the host.
    fn facts(&self) -> &Facts;

    /// Whether this is a plan: what only an apply can show is [`Halt::Unknown`].
    fn planning(&self) -> bool;

    /// Whether earlier steps of this plan would have changed something, or may have.
    fn staged(&self) -> bool;

    /// What earlier steps of this plan would have made of the resources of one family (`package`, `user`, …).
    fn staged_states(&self, _family: &str) -> Vec<(Resource, State)> {
        Vec::new()
    }

    /// The agent's own user and group: whose it is what it makes, where nothing else is said.
    fn own(&self) -> (Id, Id) {
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        (Id::Number(user.as_raw()), Id::Number(group.as_raw()))
    }

    /// Whether anything stands at a path, links not followed. Contents are not read.
    fn is_there(&mut self, path: &ByteText) -> Result<bool, Halt> {
        Ok(self.path(path)? != PathState::Absent)
    }

    /// Whether a folder is there, and no part of the path to it is a link. It may say no where that is so.
    fn is_plain(&mut self, _folder: &Path) -> bool {
        false
    }

    /// A path's state.
    fn path(&mut self, path: &ByteText) -> Result<PathState, Halt> {
        let resource = Resource::Path(path.clone());
        match self.observe(&resource)? {
            State::Path(state) => Ok(state),
            _ => resource.is_misplaced(),
        }
    }

    /// A user's number by name, or the number itself where `name` is one.
    fn uid(&mut self, name: &str) -> Result<Id, Halt> {
        match self.observe(&Resource::User(name.to_owned()))? {
            State::User(UserState::Present(entry)) => {
                Ok(entry.uid.map_or_else(|| Id::ToBe(name.to_owned()), Id::Number))
            }
            _ => name.parse().map(Id::Number).map_err(|_| Halt::Failed(format!("there is no user {name:?}"))),
        }
    }

    /// A group's number by name, or the number itself where `name` is one.
    fn gid(&mut self, name: &str) -> Result<Id, Halt> {
        match self.observe(&Resource::Group(name.to_owned()))? {
            State::Group(GroupState::Present { gid, .. }) => {
                Ok(gid.map_or_else(|| Id::ToBe(name.to_owned()), Id::Number))
            }
            _ => name.parse().map(Id::Number).map_err(|_| Halt::Failed(format!("there is no group {name:?}"))),
        }
    }
}

/// The view of a host.
pub struct HostView<'a> {
    probe: &'a Probe,
    blobs: &'a mut Blobs,
    overlay: &'a Overlay,
    environment: &'a BTreeMap<String, String>,
    planning: bool,
    seen: &'a mut Seen,
    slow: &'a mut dyn FnMut(),
}

/// What was seen of the host a moment ago, so that steps that come together look once at the folders that they share.
/// Whoever is about to change something forgets it and looks anew.
#[derive(Debug, Default)]
pub struct Seen {
    states: HashMap<Resource, State>,
    since: Option<Instant>,
    borrowed: bool,
}

/// How long something that was seen is believed.
const SEEN_FOR: Duration = Duration::from_millis(50);

/// States that are kept.
const SEEN_MAX: usize = 1000;

impl Seen {
    /// Forgets everything.
    pub fn forget(&mut self) {
        *self = Seen::default();
    }

    /// Another step looks. It borrows what the last one saw, unless that is too old to be believed.
    pub fn lend(&mut self) {
        match self.since {
            Some(since) if since.elapsed() > SEEN_FOR => self.forget(),
            since => self.borrowed = since.is_some(),
        }
    }

    /// Whether some of it was seen by an earlier step, and nothing but looking at it has happened since.
    pub fn is_borrowed(&self) -> bool {
        self.borrowed
    }

    fn look(&mut self, probe: &Probe, resource: &Resource) -> Result<State, Halt> {
        if let Some(state) = self.states.get(resource) {
            return Ok(state.clone());
        }
        let state = resources::observe(probe, resource)?;
        if self.states.len() < SEEN_MAX {
            self.since.get_or_insert_with(Instant::now);
            self.states.insert(resource.clone(), state.clone());
        }
        Ok(state)
    }
}

/// What earlier steps of a plan would have done. Empty in an apply.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    states: HashMap<Resource, State>,
    blurred: bool,
}

impl Overlay {
    /// Lays a state over the host.
    pub fn lay(&mut self, resource: Resource, state: State) {
        self.states.insert(resource, state);
    }

    /// A step of the plan would do what nobody can foresee: run a command, or something unknown.
    pub fn blur(&mut self) {
        self.blurred = true;
    }

    /// Whether the host may come to be otherwise than it is seen: after what is unforeseen, and by what comes with
    /// packages, services and accounts.
    pub fn is_blurred(&self) -> bool {
        self.blurred || self.states.keys().any(|resource| !matches!(resource, Resource::Path(_)))
    }

    /// A group's state with the members that it would have by what would have become of users.
    fn with_members(&self, resource: &Resource, mut state: State) -> State {
        if let (Resource::Group(group), State::Group(GroupState::Present { members, .. })) = (resource, &mut state) {
            for (resource, user) in &self.states {
                match (resource, user) {
                    (Resource::User(name), State::User(UserState::Present(entry))) if entry.groups.contains(group) => {
                        members.insert(name.clone());
                    }
                    (Resource::User(name), State::User(_)) => drop(members.remove(name)),
                    _ => {}
                }
            }
        }
        state
    }
}

impl<'a> HostView<'a> {
    /// A view of the host with `overlay` laid over it; commands get `environment`. `slow` is called before what may take
    /// its time.
    pub fn new(
        probe: &'a Probe,
        blobs: &'a mut Blobs,
        overlay: &'a Overlay,
        environment: &'a BTreeMap<String, String>,
        planning: bool,
        seen: &'a mut Seen,
        slow: &'a mut dyn FnMut(),
    ) -> Self {
        HostView { probe, blobs, overlay, environment, planning, seen, slow }
    }

    /// The state laid over `resource`: its own, or absence where a folder above it was absent, a file or a link in the
    /// plan, or is a folder there and something else on the host.
    fn laid(&self, resource: &Resource) -> Option<State> {
        let states = &self.overlay.states;
        if let Some(state) = states.get(resource) {
            return Some(state.clone());
        }
        let Resource::Path(path) = resource else { return None };
        let hides = |folder: &Path| match states.get(&Resource::Path(folder.into())) {
            None => false,
            Some(State::Path(PathState::Directory { .. })) => !self.is_folder(folder),
            Some(_) => true,
        };
        path.as_path().ancestors().skip(1).any(hides).then_some(State::Path(PathState::Absent))
    }

    /// Whether the host has a folder there.
    fn is_folder(&self, path: &Path) -> bool {
        self.probe.lstat(&path.into()).is_ok_and(|found| found.is_some_and(|found| found.is_dir()))
    }
}

impl View for HostView<'_> {
    fn observe(&mut self, resource: &Resource) -> Result<State, Halt> {
        match self.laid(resource) {
            Some(state) => Ok(state),
            None => self.seen.look(self.probe, resource),
        }
        .map(|state| self.overlay.with_members(resource, state))
    }

    fn is_there(&mut self, path: &ByteText) -> Result<bool, Halt> {
        match self.laid(&Resource::Path(path.clone())) {
            Some(state) => Ok(!state.is_absent()),
            None => {
                let found = self.probe.lstat(path);
                found.map(|found| found.is_some()).map_err(|error| Halt::io(format_args!("looking at {path}"), &error))
            }
        }
    }

    fn is_plain(&mut self, folder: &Path) -> bool {
        let states = &self.overlay.states;
        let laid = |at: &Path| if states.is_empty() { None } else { states.get(&Resource::Path(at.into())) };
        let mut on_host = folder;
        while let (Some(State::Path(PathState::Directory { .. })), Some(above)) = (laid(on_host), on_host.parent()) {
            on_host = above;
        }
        on_host.ancestors().all(|at| laid(at).is_none()) && self.probe.is_plain(on_host)
    }

    fn bytes(&mut self, path: &ByteText, content: &Content) -> Result<Vec<u8>, Halt> {
        if let Some(bytes) = self.blobs.bytes(content) {
            return bytes.map_err(|error| Halt::io(format_args!("reading the content of {path}"), &error));
        }
        let bytes = self.probe.read(path).map_err(|error| Halt::io(format_args!("reading {path}"), &error))?;
        if Content::of(&bytes) != *content {
            // Whoever looks again must not be told the same.
            self.seen.forget();
            return Err(Halt::Failed(format!("{path} changed while it was read")));
        }
        Ok(bytes)
    }

    fn list(&mut self, path: &ByteText) -> Result<Vec<ByteText>, Halt> {
        let is_hosts = match self.laid(&Resource::Path(path.clone())) {
            None => true,
            // A directory that is given other attributes keeps what is in it.
            Some(State::Path(PathState::Directory { .. })) => self.is_folder(path.as_path()),
            Some(_) => false,
        };
        let mut found = match is_hosts {
            true => self.probe.list(path).map_err(|error| Halt::io(format_args!("listing {path}"), &error))?,
            false => Vec::new(),
        };
        found.retain(|child| !self.overlay.states.contains_key(&Resource::Path(child.clone())));
        for (resource, state) in &self.overlay.states {
            if let Resource::Path(child) = resource
                && child.as_path().parent() == Some(path.as_path())
                && !state.is_absent()
            {
                found.push(child.clone());
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    fn ask(&mut self, command: &CommandSpec) -> Result<Output, Halt> {
        let mut command = command.clone();
        for (name, value) in self.environment {
            command.environment.entry(name.clone()).or_insert_with(|| value.clone());
        }
        self.take_time();
        match self.probe.ask(&command) {
            Ok(output) => Ok(output),
            Err(_) if self.planning && self.staged() => Err(Halt::Unknown(format!(
                "{:?} cannot be run yet; an earlier step may bring it",
                command.argv.first().map_or("", String::as_str)
            ))),
            Err(error) => Err(Halt::io(format_args!("running {:?}", command.argv.join(" ")), &error)),
        }
    }

    fn take_time(&mut self) {
        self.seen.forget();
        (self.slow)();
    }

    fn put(&mut self, bytes: Vec<u8>) -> Content {
        self.blobs.put(bytes)
    }

    fn facts(&self) -> &Facts {
        self.probe.facts()
    }

    fn planning(&self) -> bool {
        self.planning
    }

    fn staged(&self) -> bool {
        !self.overlay.states.is_empty() || self.overlay.blurred
    }

    fn staged_states(&self, family: &str) -> Vec<(Resource, State)> {
        let of_family = self.overlay.states.iter().filter(|(resource, _)| resource.family() == family);
        let mut found: Vec<_> = of_family.map(|(resource, state)| (resource.clone(), state.clone())).collect();
        found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        found
    }
}
