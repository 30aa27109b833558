//! Users' lines: read into a state, and written from one.

use std::collections::BTreeSet;

use crate::{
    base::ByteText,
    model::state::{KeptLine, KeptLines, UserEntry, UserState},
    resources::{
        Halt,
        accounts::{
            Accounts, kept,
            table::{Table, fields, list, name_of, with_fields},
        },
    },
    target::tools::AccountFile,
};

/// Fields of passwd(5).
const UID: usize = 2;
const GID: usize = 3;
const COMMENT: usize = 4;
const HOME: usize = 5;
const SHELL: usize = 6;

/// Fields of group(5) and gshadow(5).
const GROUP_GID: usize = 2;
const MEMBERS: usize = 3;
const ADMINS: usize = 2;

impl Accounts {
    /// A user's state.
    pub(in crate::resources) fn user(&self, name: &str) -> Result<UserState, Halt> {
        let Some(line) = self.table(AccountFile::Passwd).and_then(|passwd| passwd.line(name)) else {
            return Ok(UserState::Absent);
        };
        let fields = fields(line);
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok());
        let (Some(uid), Some(gid), 7) = (number(UID), number(GID), fields.len()) else {
            return Err(Halt::Failed(format!("the line about {name} in /etc/passwd is damaged; mend it with vipw")));
        };
        let text = |at: usize| fields[at].clone();
        Ok(UserState::Present(UserEntry {
            uid: Some(uid),
            group: self.group_name(gid).unwrap_or_else(|| gid.to_string()),
            groups: self.groups_of(name),
            home: text(HOME),
            shell: text(SHELL),
            comment: text(COMMENT),
            shadow: self.shadow_line(name),
            kept: self.keep_user(name),
        }))
    }

    fn shadow_line(&self, name: &str) -> Option<String> {
        let line = self.table(AccountFile::Shadow)?.line(name)?;
        Some(String::from_utf8_lossy(line).into_owned())
    }

    /// The name of a group by its number.
    pub(in crate::resources) fn group_name(&self, gid: u32) -> Option<String> {
        let mut lines = self.table(AccountFile::Group)?.lines().map(fields);
        lines.find(|group| group.get(GROUP_GID) == Some(&gid.to_string())).map(|group| group[0].clone())
    }

    fn groups_of(&self, user: &str) -> BTreeSet<String> {
        let groups = self.table(AccountFile::Group).into_iter().flat_map(Table::lines).map(fields);
        let has =
            |group: &Vec<String>| group.get(MEMBERS).is_some_and(|members| list(members).any(|name| name == user));
        groups.filter(has).map(|group| group[0].clone()).collect()
    }

    /// All lines that a removal of the user would remove or change.
    fn keep_user(&self, name: &str) -> KeptLines {
        let own = [AccountFile::Passwd, AccountFile::Shadow, AccountFile::Subuid, AccountFile::Subgid];
        let mut lines: Vec<KeptLine> = own.into_iter().filter_map(|file| self.keep(file, name)).collect();
        for file in [AccountFile::Group, AccountFile::Gshadow] {
            let Some(table) = self.table(file) else { continue };
            for line in table.lines().filter(|line| without(file, line, name).is_some()) {
                let line = ByteText(line.to_vec());
                lines.push(KeptLine { file: file.name().to_owned(), after: None, line });
            }
        }
        KeptLines(lines)
    }

    /// Brings a user's lines to a state.
    pub(in crate::resources) fn bring_user(&mut self, name: &str, wanted: &UserState) -> Result<(), Halt> {
        match wanted {
            UserState::Absent => {
                self.remove_user(name);
                Ok(())
            }
            UserState::Present(entry) => self.put_user(name, entry),
        }
    }

    fn remove_user(&mut self, name: &str) {
        for file in [AccountFile::Passwd, AccountFile::Shadow, AccountFile::Subuid, AccountFile::Subgid] {
            if let Some(table) = self.table_mut(file) {
                table.remove(name);
            }
        }
        for file in [AccountFile::Group, AccountFile::Gshadow] {
            if let Some(table) = self.table_mut(file) {
                table.edit(|line| without(file, line, name));
            }
        }
    }

    fn put_user(&mut self, name: &str, entry: &UserEntry) -> Result<(), Halt> {
        let UserEntry { uid, group, groups, home, shell, comment, shadow, kept: old } = entry;
        let uid = uid.ok_or_else(|| Halt::Failed(format!("no number was chosen for user {name}")))?;
        let gid = self.gid(group)?;
        self.join(name, groups, old)?;
        self.put_private(name, shadow.as_deref(), old);
        let has_shadow = self.table(AccountFile::Shadow).is_some();
        let passwd = self.table_mut(AccountFile::Passwd).expect("checked when it was read");
        let before = kept(old, AccountFile::Passwd, name);
        let base = match (passwd.line(name), before) {
            (Some(line), _) => line.to_vec(),
            (None, Some(before)) => before.line.0.clone(),
            (None, None) => format!("{name}:{}", if has_shadow { "x" } else { "!" }).into_bytes(),
        };
        let (uid, gid) = (uid.to_string(), gid.to_string());
        let new = [(UID, uid.as_str()), (GID, &gid), (COMMENT, comment), (HOME, home), (SHELL, shell)];
        let mut line = with_fields(&base, &new);
        if let Some(before) = before.filter(|before| fields(&before.line.0) == fields(&line)) {
            // The same as text: bytes that are no UTF-8 come back too.
            line = before.line.0.clone();
        }
        passwd.put(name, line, before.map(|before| &before.after));
        Ok(())
    }

    /// The number of a group by its name, or of one that has only a number.
    fn gid(&self, group: &str) -> Result<u32, Halt> {
        let line = self.table(AccountFile::Group).and_then(|groups| groups.line(group));
        let number = line.and_then(|line| fields(line).get(GROUP_GID)?.parse().ok());
        number.or_else(|| group.parse().ok()).ok_or_else(|| Halt::Failed(format!("there is no group {group}")))
    }

    /// The lines that only root and the containers of the user need.
    fn put_private(&mut self, name: &str, shadow: Option<&str>, old: &KeptLines) {
        if let (Some(table), Some(shadow)) = (self.table_mut(AccountFile::Shadow), shadow) {
            let before = kept(old, AccountFile::Shadow, name);
            let line = match before {
                Some(before) if String::from_utf8_lossy(&before.line.0) == shadow => before.line.0.clone(),
                _ => shadow.as_bytes().to_vec(),
            };
            table.put(name, line, before.map(|before| &before.after));
        }
        for file in [AccountFile::Subuid, AccountFile::Subgid] {
            if let (Some(table), Some(before)) = (self.table_mut(file), kept(old, file, name))
                && table.line(name).is_none()
            {
                table.put(name, before.line.0.clone(), Some(&before.after));
            }
        }
    }

    /// Makes the user a member of these groups and of no others.
    fn join(&mut self, name: &str, groups: &BTreeSet<String>, old: &KeptLines) -> Result<(), Halt> {
        let known = self.table(AccountFile::Group).expect("checked when it was read");
        if let Some(missing) = groups.iter().find(|group| known.line(group).is_none()) {
            return Err(Halt::Failed(format!("there is no group {missing}")));
        }
        for file in [AccountFile::Group, AccountFile::Gshadow] {
            let Some(table) = self.table_mut(file) else { continue };
            table.edit(|line| {
                let group = String::from_utf8_lossy(name_of(line)).into_owned();
                let is_in = without(file, line, name).is_some();
                match groups.contains(&group) {
                    true if !is_in => Some(with(file, line, name, kept(old, file, &group))),
                    false if is_in => without(file, line, name),
                    _ => None,
                }
            });
        }
        Ok(())
    }
}

/// A group's line without a user; none where the user is not in it.
fn without(file: AccountFile, line: &[u8], user: &str) -> Option<Vec<u8>> {
    let fields = fields(line);
    let remaining = |at: usize| {
        let names = fields.get(at).map_or("", String::as_str);
        let rest: Vec<&str> = list(names).filter(|name| *name != user).collect();
        (rest.len() < list(names).count()).then(|| rest.join(","))
    };
    let members = remaining(MEMBERS);
    let admins = if file == AccountFile::Gshadow { remaining(ADMINS) } else { None };
    let new: Vec<(usize, &str)> = [(MEMBERS, &members), (ADMINS, &admins)]
        .into_iter()
        .filter_map(|(at, new)| Some((at, new.as_deref()?)))
        .collect();
    (!new.is_empty()).then(|| with_fields(line, &new))
}

/// A group's line with a user: as it was kept, if that is this line with the user in it; else the user comes last.
fn with(file: AccountFile, line: &[u8], user: &str, before: Option<&KeptLine>) -> Vec<u8> {
    if let Some(KeptLine { line: before, .. }) = before
        && without(file, &before.0, user).as_deref() == Some(line)
    {
        return before.0.clone();
    }
    let fields = fields(line);
    let members = fields.get(MEMBERS).map_or("", String::as_str);
    let members: Vec<&str> = list(members).chain([user]).collect();
    with_fields(line, &[(MEMBERS, &members.join(","))])
}
