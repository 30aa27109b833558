//! `group`: groups of users.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    base::Fault,
    model::state::{GroupState, KeptLines, Resource, State, UserState},
    resources::{Halt, View},
    steps::{
        Decision, Desk, Kind,
        accounts::{self, AccountName, Noun, Settings},
    },
};

/// Sees to it that a group exists, or does not.
///
/// Who is in a group is said by the users: see `groups` of the kind `user`. When a group's number changes, users whose
/// primary group it is follow; files keep the old number. A group that is the primary group of a user is not removed.
///
/// In a rollback the group's lines come back as they were, members and passwords included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "controller", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The group's name.
    pub name: AccountName,
    /// Whether it should be there. Default: present.
    #[serde(default)]
    pub state: Presence,
    /// Its number. Default: as it is; for a new group the next that is free.
    #[serde(default)]
    pub gid: Option<u32>,
    /// Whether a new group gets a number from those for system accounts. Default: false.
    #[serde(default)]
    pub system: bool,
}

/// Whether an account should be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "controller", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It should.
    #[default]
    Present,
    /// It should not.
    Absent,
}

impl Kind for Group {
    const NAME: &'static str = "group";
    const EXAMPLE: &'static str = "\
- name: the app has a group
  group: {name: app, system: true}
";
    const SHORT: Option<&'static str> = Some("name");

    fn prepare(&mut self, _desk: &mut dyn Desk) -> Result<(), Fault> {
        if self.gid == Some(u32::MAX) {
            return Err(Fault::input("gid 4294967295 stands for no group at all"));
        }
        if self.state == Presence::Absent && (self.gid.is_some() || self.system) {
            return Err(Fault::input("gid and system do not go with state: absent"));
        }
        Ok(())
    }

    fn want(&self, now: &mut dyn View) -> Result<Decision, Halt> {
        let AccountName(name) = &self.name;
        let found = accounts::group(now, name)?;
        let wanted = match (self.state, found) {
            (Presence::Absent, GroupState::Absent) => return Ok(Decision::nothing()),
            (Presence::Absent, GroupState::Present { gid, .. }) => {
                check_unused(now, name, gid)?;
                GroupState::Absent
            }
            (Presence::Present, GroupState::Present { gid, members, kept }) => {
                if self.gid.is_some() && self.gid != gid {
                    self.check_free(now)?;
                }
                GroupState::Present { gid: self.gid.or(gid), members, kept }
            }
            (Presence::Present, GroupState::Absent) => self.fresh(now)?,
        };
        Ok(Decision::nothing().bring(Resource::Group(name.clone()), State::Group(wanted)))
    }
}

impl Group {
    fn fresh(&self, now: &mut dyn View) -> Result<GroupState, Halt> {
        let AccountName(name) = &self.name;
        if accounts::is_foreign(now, Noun::Group, name)? {
            return Err(Halt::Failed(format!("this host has a group {name} from elsewhere than /etc/group (LDAP?)")));
        }
        let gid = match self.gid {
            Some(gid) => {
                self.check_free(now)?;
                gid
            }
            None => {
                let settings = Settings::read(now)?;
                accounts::free_number(now, &settings, Noun::Group, self.system, None)?
            }
        };
        Ok(GroupState::Present { gid: Some(gid), members: BTreeSet::new(), kept: KeptLines::default() })
    }

    fn check_free(&self, now: &mut dyn View) -> Result<(), Halt> {
        let known = accounts::known(now, Noun::Group)?;
        match known.iter().find(|(_, number)| Some(**number) == self.gid) {
            Some((other, number)) => Err(Halt::Failed(format!("the number {number} belongs to the group {other}"))),
            None => Ok(()),
        }
    }
}

/// A group that is somebody's primary group stays.
fn check_unused(now: &mut dyn View, name: &str, gid: Option<u32>) -> Result<(), Halt> {
    for user in accounts::known(now, Noun::User)?.into_keys() {
        let UserState::Present(entry) = accounts::user(now, &user)? else { continue };
        if entry.group == name {
            let gid = gid.map_or_else(String::new, |gid| format!(" ({gid})"));
            return Err(Halt::Failed(format!(
                "{name}{gid} is the primary group of {user}; give {user} another group or remove it in an earlier step"
            )));
        }
    }
    Ok(())
}
