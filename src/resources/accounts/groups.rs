//! Groups' lines: read into a state, and written from one.

use std::collections::BTreeSet;

use crate::{
    model::state::{GroupState, KeptLines},
    resources::{
        Halt,
        accounts::{
            Accounts, kept,
            table::{Table, fields, list, with_fields},
        },
    },
    target::tools::AccountFile,
};

/// Fields of group(5).
const GID: usize = 2;
const MEMBERS: usize = 3;

/// The primary group's field of passwd(5).
const PRIMARY: usize = 3;

impl Accounts {
    /// A group's state.
    pub(in crate::resources) fn group(&self, name: &str) -> Result<GroupState, Halt> {
        let Some(line) = self.table(AccountFile::Group).and_then(|groups| groups.line(name)) else {
            return Ok(GroupState::Absent);
        };
        let fields = fields(line);
        let (Some(gid), 4) = (fields.get(GID).and_then(|gid| gid.parse().ok()), fields.len()) else {
            return Err(Halt::Failed(format!("the line about {name} in /etc/group is damaged; mend it with vigr")));
        };
        let members = list(&fields[MEMBERS]).map(str::to_owned).collect();
        let lines = [AccountFile::Group, AccountFile::Gshadow].into_iter().filter_map(|file| self.keep(file, name));
        Ok(GroupState::Present { gid: Some(gid), members, kept: KeptLines(lines.collect()) })
    }

    /// Brings a group's lines to a state.
    pub(in crate::resources) fn bring_group(&mut self, name: &str, wanted: &GroupState) -> Result<(), Halt> {
        match wanted {
            GroupState::Absent => self.remove_group(name),
            GroupState::Present { gid, members, kept } => {
                let gid = gid.ok_or_else(|| Halt::Failed(format!("no number was chosen for group {name}")))?;
                self.put_group(name, gid, members, kept);
                Ok(())
            }
        }
    }

    fn remove_group(&mut self, name: &str) -> Result<(), Halt> {
        if let GroupState::Present { gid: Some(gid), .. } = self.group(name)?
            && let Some(user) = self.users_with_primary(gid).into_iter().next()
        {
            return Err(Halt::Failed(format!("{name} is the primary group of {user}")));
        }
        for file in [AccountFile::Group, AccountFile::Gshadow] {
            if let Some(table) = self.table_mut(file) {
                table.remove(name);
            }
        }
        Ok(())
    }

    fn users_with_primary(&self, gid: u32) -> Vec<String> {
        let users = self.table(AccountFile::Passwd).into_iter().flat_map(Table::lines).map(fields);
        users.filter(|user| user.get(PRIMARY) == Some(&gid.to_string())).map(|user| user[0].clone()).collect()
    }

    fn put_group(&mut self, name: &str, gid: u32, members: &BTreeSet<String>, old: &KeptLines) {
        let groups = self.table_mut(AccountFile::Group).expect("checked when it was read");
        let before = kept(old, AccountFile::Group, name);
        let found = groups.line(name).map(<[u8]>::to_vec);
        let was: Option<u32> = found.as_deref().and_then(|line| fields(line).get(GID)?.parse().ok());
        let base = match (found, before) {
            (Some(line), _) => line,
            (None, Some(before)) => before.line.0.clone(),
            (None, None) => format!("{name}:x::").into_bytes(),
        };
        let line = with_fields(&with_members(&base, members), &[(GID, &gid.to_string())]);
        groups.put(name, line, before.map(|before| &before.after));
        if let Some(was) = was.filter(|was| *was != gid) {
            self.follow(was, gid);
        }
        let Some(gshadow) = self.table_mut(AccountFile::Gshadow) else { return };
        let before = kept(old, AccountFile::Gshadow, name);
        let base = match (gshadow.line(name), before) {
            (Some(line), _) => line.to_vec(),
            (None, Some(before)) => before.line.0.clone(),
            (None, None) => format!("{name}:!::").into_bytes(),
        };
        gshadow.put(name, with_members(&base, members), before.map(|before| &before.after));
    }

    /// Users whose primary group has another number now.
    fn follow(&mut self, was: u32, gid: u32) {
        let passwd = self.table_mut(AccountFile::Passwd).expect("checked when it was read");
        let (was, gid) = (was.to_string(), gid.to_string());
        passwd.edit(|line| (fields(line).get(PRIMARY) == Some(&was)).then(|| with_fields(line, &[(PRIMARY, &gid)])));
    }
}

/// A line with these members: those that are there keep their order.
fn with_members(line: &[u8], members: &BTreeSet<String>) -> Vec<u8> {
    let fields = fields(line);
    let found: Vec<&str> = list(fields.get(MEMBERS).map_or("", String::as_str)).collect();
    if found.iter().copied().collect::<BTreeSet<_>>() == members.iter().map(String::as_str).collect() {
        return with_fields(line, &[(MEMBERS, fields.get(MEMBERS).map_or("", String::as_str))]);
    }
    let stay = found.iter().copied().filter(|name| members.contains(*name));
    let come = members.iter().map(String::as_str).filter(|name| !found.contains(name));
    with_fields(line, &[(MEMBERS, &stay.chain(come).collect::<Vec<_>>().join(","))])
}
