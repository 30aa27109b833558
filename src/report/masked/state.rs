//! Secrets in deeds: resources, their states, commands.

use crate::{
    base::Masker,
    model::{
        change::{Act, Change, CommandSpec, Deed, DeedReport, Undo},
        state::{
            Difference, Enablement, GroupState, Id, KeptLine, KeptLines, Meta, PackageState, PathState, Resource,
            ServiceState, State, UserEntry, UserState,
        },
    },
    report::masked::Hide,
};

impl Hide for DeedReport {
    fn hide(&mut self, masker: &Masker) {
        let DeedReport { deed, differences, diff, undo: _ } = self;
        deed.hide(masker);
        differences.hide(masker);
        diff.take_if(|_| masker.is_partial());
        diff.hide(masker);
    }
}

impl Hide for Difference {
    fn hide(&mut self, masker: &Masker) {
        let Difference { attribute, before, after } = self;
        attribute.hide(masker);
        before.hide(masker);
        after.hide(masker);
    }
}

impl Hide for Deed {
    fn hide(&mut self, masker: &Masker) {
        match self {
            Deed::Change(Change { resource, before, after }) => {
                resource.hide(masker);
                before.hide(masker);
                after.hide(masker);
            }
            Deed::Act { act, undo } => {
                act.hide(masker);
                undo.hide(masker);
            }
        }
    }
}

impl Hide for Act {
    fn hide(&mut self, masker: &Masker) {
        match self {
            Act::Run(command) => command.hide(masker),
            Act::Restart(name) | Act::Reload(name) => name.hide(masker),
        }
    }
}

impl Hide for Undo {
    fn hide(&mut self, masker: &Masker) {
        match self {
            Undo::Run(command) => command.hide(masker),
            Undo::Repeat | Undo::Irreversible => {}
        }
    }
}

impl Hide for CommandSpec {
    fn hide(&mut self, masker: &Masker) {
        let CommandSpec { argv, chdir, environment, stdin, timeout_s: _, ok_codes: _ } = self;
        argv.hide(masker);
        chdir.hide(masker);
        environment.hide(masker);
        stdin.hide(masker);
    }
}

impl Hide for Resource {
    fn hide(&mut self, masker: &Masker) {
        match self {
            Resource::Path(path) => path.hide(masker),
            Resource::Package(name) | Resource::Service(name) | Resource::User(name) | Resource::Group(name) => {
                name.hide(masker);
            }
        }
    }
}

impl Hide for State {
    fn hide(&mut self, masker: &Masker) {
        match self {
            State::Path(state) => state.hide(masker),
            State::Package(state) => state.hide(masker),
            State::Service(state) => state.hide(masker),
            State::User(state) => state.hide(masker),
            State::Group(state) => state.hide(masker),
        }
    }
}

impl Hide for PathState {
    fn hide(&mut self, masker: &Masker) {
        match self {
            PathState::Absent => {}
            PathState::File { content: _, meta } | PathState::Directory { meta } => meta.hide(masker),
            PathState::Link { target, uid, gid } => {
                target.hide(masker);
                uid.hide(masker);
                gid.hide(masker);
            }
            PathState::Other { kind } => kind.hide(masker),
        }
    }
}

impl Hide for Meta {
    fn hide(&mut self, masker: &Masker) {
        let Meta { mode: _, uid, gid, xattrs } = self;
        uid.hide(masker);
        gid.hide(masker);
        xattrs.hide(masker);
    }
}

impl Hide for Id {
    fn hide(&mut self, masker: &Masker) {
        match self {
            Id::Number(_) => {}
            Id::ToBe(name) => name.hide(masker),
        }
    }
}

impl Hide for PackageState {
    fn hide(&mut self, masker: &Masker) {
        let PackageState { version, unfinished, held: _, automatic: _, residue: _ } = self;
        version.hide(masker);
        unfinished.hide(masker);
    }
}

impl Hide for ServiceState {
    fn hide(&mut self, masker: &Masker) {
        let ServiceState { enabled, masked: _, active: _ } = self;
        match enabled {
            Enablement::NotFound | Enablement::Enabled | Enablement::Disabled => {}
            Enablement::Fixed(word) => word.hide(masker),
        }
    }
}

impl Hide for UserState {
    fn hide(&mut self, masker: &Masker) {
        match self {
            UserState::Absent => {}
            UserState::Present(entry) => entry.hide(masker),
        }
    }
}

impl Hide for UserEntry {
    fn hide(&mut self, masker: &Masker) {
        let UserEntry { uid: _, group, groups, home, shell, comment, shadow, kept } = self;
        group.hide(masker);
        groups.hide(masker);
        home.hide(masker);
        shell.hide(masker);
        comment.hide(masker);
        shadow.hide(masker);
        kept.hide(masker);
    }
}

impl Hide for GroupState {
    fn hide(&mut self, masker: &Masker) {
        match self {
            GroupState::Absent => {}
            GroupState::Present { gid: _, members, kept } => {
                members.hide(masker);
                kept.hide(masker);
            }
        }
    }
}

impl Hide for KeptLines {
    fn hide(&mut self, masker: &Masker) {
        let KeptLines(lines) = self;
        lines.hide(masker);
    }
}

impl Hide for KeptLine {
    fn hide(&mut self, masker: &Masker) {
        let KeptLine { file: _, after, line } = self;
        after.hide(masker);
        line.hide(masker);
    }
}
