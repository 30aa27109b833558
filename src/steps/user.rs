//! `user`: who can log in, and as whom programs run.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::{
    base::{ByteText, Fault, Secret, Timestamp},
    model::state::{GroupState, Id, KeptLine, KeptLines, Meta, PathState, Resource, State, UserEntry, UserState},
    resources::{Halt, View},
    steps::{
        Decision, Desk, Kind,
        accounts::{self, AccountName, AccountText, Noun, Settings},
        fields::{AbsolutePath, OneOrMore, Word},
        group::Presence,
        home,
    },
};

/// Sees to it that a user exists, or does not: the entries in passwd, shadow and group, and the home directory.
///
/// What the step leaves open stays as it is. A new user gets what the host gives new users: the next free number, a
/// group of the same name, a shell, a home directory with copies of the files in `/etc/skel`.
///
/// The home directory of a user that is removed stays, unless `remove_home` says otherwise. A user with running
/// programs is not removed. A changed `home` moves no files, and a changed `uid` leaves files with the old number.
///
/// In a rollback the entries come back as they were, byte for byte, password and position included. A home directory
/// that the step made is removed when nothing was put there since.
///
/// Other than in Ansible: passwords are hashes, never plain; a system user gets no home directory unless `create_home`
/// says so; a home directory that is missing is made for a user that exists only where `create_home: true` is said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "controller", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The login name.
    pub name: AccountName,
    /// Whether the user should be there. Default: present.
    #[serde(default)]
    pub state: Presence,
    /// The number. Default: as it is; for a new user the next that is free.
    #[serde(default)]
    pub uid: Option<u32>,
    /// The primary group, by name or number; it must exist. Default: as it is; for a new user a group of the same name,
    /// which is made where there is none.
    #[serde(default)]
    pub group: Option<Word>,
    /// The supplementary groups, one or a list; they must exist. Default: as they are; none for a new user.
    #[serde(default)]
    pub groups: Option<OneOrMore<AccountName>>,
    /// Whether `groups` are added to those that the user is in, instead of taking their place. Default: false.
    #[serde(default)]
    pub append: bool,
    /// The comment, usually the full name. Default: as it is; empty for a new user.
    #[serde(default)]
    pub comment: Option<AccountText>,
    /// The home directory. Default: as it is; for a new user the name below `/home`.
    #[serde(default)]
    pub home: Option<AbsolutePath>,
    /// The login shell. Default: as it is; for a new user the host's default.
    #[serde(default)]
    pub shell: Option<AbsolutePath>,
    /// Whether a missing home directory is made. Default: for a new user that is no system user.
    #[serde(default)]
    pub create_home: Option<bool>,
    /// Whether a new user gets a number from those for system accounts. Default: false.
    #[serde(default)]
    pub system: bool,
    /// The password's hash as crypt(5) has it, `$6$…` or `$y$…`; `!` or `*` for a password that nothing matches. It is
    /// shown nowhere. Default: as it is; `!` for a new user.
    #[serde(default)]
    pub password_hash: Option<PasswordHash>,
    /// Whether the home directory is removed with the user, with everything in it (`state: absent` only). Default:
    /// false.
    #[serde(default)]
    pub remove_home: bool,
}

impl Kind for User {
    const NAME: &'static str = "user";
    const EXAMPLE: &'static str = "\
- name: the app has a user
  user: {name: app, system: true, home: /srv/app, shell: /usr/sbin/nologin}

- name: Ada may deploy
  user: {name: ada, comment: Ada Lovelace, groups: [sudo, app], append: true, shell: /bin/bash}

- name: Bob is gone
  user: {name: bob, state: absent, remove_home: true}
";
    const SHORT: Option<&'static str> = Some("name");

    fn prepare(&mut self, _desk: &mut dyn Desk) -> Result<(), Fault> {
        if self.uid == Some(u32::MAX) {
            return Err(Fault::input("uid 4294967295 stands for no user at all"));
        }
        if self.append && self.groups.is_none() {
            return Err(Fault::input("append: true goes with groups only"));
        }
        for path in [&self.home, &self.shell].into_iter().flatten() {
            if path.as_str().contains([':', '\n']) {
                return Err(Fault::input("a colon or a line end cannot stand in an account file"));
            }
        }
        let AccountName(name) = &self.name;
        let bare = User { name: self.name.clone(), remove_home: self.remove_home, ..User::absent(name) };
        match self.state {
            Presence::Present if self.remove_home => Err(Fault::input("remove_home goes with state: absent only")),
            Presence::Absent if *self != bare => Err(Fault::input("only name and remove_home go with state: absent")),
            _ => Ok(()),
        }
    }

    fn want(&self, now: &mut dyn View) -> Result<Decision, Halt> {
        let AccountName(name) = &self.name;
        match (self.state, accounts::user(now, name)?) {
            (Presence::Absent, UserState::Absent) => Ok(Decision::nothing()),
            (Presence::Absent, UserState::Present(entry)) => self.remove(now, &entry),
            (Presence::Present, UserState::Absent) => self.make(now),
            (Presence::Present, UserState::Present(entry)) => self.change(now, &entry),
        }
    }
}

impl User {
    /// A step that removes a user and says no more.
    fn absent(name: &str) -> User {
        User {
            name: AccountName(name.to_owned()),
            state: Presence::Absent,
            uid: None,
            group: None,
            groups: None,
            append: false,
            comment: None,
            home: None,
            shell: None,
            create_home: None,
            system: false,
            password_hash: None,
            remove_home: false,
        }
    }

    /// A user that is there, with what the step says.
    fn change(&self, now: &mut dyn View, found: &UserEntry) -> Result<Decision, Halt> {
        let AccountName(name) = &self.name;
        let mut entry = found.clone();
        if self.uid.is_some() && self.uid != found.uid {
            self.check_free(now)?;
            entry.uid = self.uid;
        }
        if let Some(group) = &self.group {
            entry.group = group_name(now, group)?;
        }
        entry.groups = self.supplementary(now, found)?;
        if let Some(AccountText(comment)) = &self.comment {
            entry.comment = comment.clone();
        }
        if let Some(home) = &self.home {
            entry.home = home.as_str().to_owned();
        }
        if let Some(shell) = &self.shell {
            entry.shell = shell.as_str().to_owned();
        }
        if let Some(hash) = &self.password_hash {
            entry.shadow = Some(hash.over(name, found.shadow.as_deref())?);
        }
        let mut decision = Decision::nothing();
        if let (Some(old), true) = (found.uid, entry.uid != found.uid) {
            decision = decision.say(format!("files that belong to the number {old} keep it"));
        }
        let (uid, home, group) = (entry.uid, entry.home.clone(), entry.group.clone());
        decision = decision.bring(Resource::User(name.clone()), State::User(UserState::Present(entry)));
        if self.create_home == Some(true) {
            let owner = (uid.map_or_else(|| Id::ToBe(name.clone()), Id::Number), now.gid(&group)?);
            decision = home::make(now, &home, &owner, decision)?;
        }
        Ok(decision)
    }

    /// A new user.
    fn make(&self, now: &mut dyn View) -> Result<Decision, Halt> {
        let AccountName(name) = &self.name;
        if accounts::is_foreign(now, Noun::User, name)? {
            return Err(Halt::Failed(format!("this host has a user {name} from elsewhere than /etc/passwd (LDAP?)")));
        }
        let settings = Settings::read(now)?;
        let uid = match self.uid {
            Some(uid) => {
                self.check_free(now)?;
                uid
            }
            None => accounts::free_number(now, &settings, Noun::User, self.system, None)?,
        };
        let mut decision = Decision::nothing();
        let (group, gid) = self.primary(now, &settings, uid, &mut decision)?;
        let home = match &self.home {
            Some(home) => home.as_str().to_owned(),
            None => format!("{}/{name}", settings.text("HOME", "/home")),
        };
        let mut entry = UserEntry {
            uid: Some(uid),
            group,
            groups: BTreeSet::new(),
            home: home.clone(),
            shell: self
                .shell
                .as_ref()
                .map_or_else(|| settings.text("SHELL", "/bin/sh"), |path| path.as_str().to_owned()),
            comment: self.comment.as_ref().map(|AccountText(text)| text.clone()).unwrap_or_default(),
            shadow: self.shadow(now, &settings)?,
            kept: self.ranges(now, &settings)?,
        };
        entry.groups = self.supplementary(now, &entry)?;
        let user = State::User(UserState::Present(entry));
        decision = decision.bring(Resource::User(name.clone()), user);
        if self.create_home.unwrap_or(!self.system) {
            decision = home::make(now, &home, &(Id::Number(uid), gid), decision)?;
        }
        Ok(decision)
    }

    /// The primary group of a new user, made where it is the user's own.
    fn primary(
        &self,
        now: &mut dyn View,
        settings: &Settings,
        uid: u32,
        decision: &mut Decision,
    ) -> Result<(String, Id), Halt> {
        let AccountName(name) = &self.name;
        if let Some(group) = &self.group {
            let group = group_name(now, group)?;
            let gid = now.gid(&group)?;
            return Ok((group, gid));
        }
        if let GroupState::Present { gid: Some(gid), .. } = accounts::group(now, name)? {
            return Ok((name.clone(), Id::Number(gid)));
        }
        let gid = accounts::free_number(now, settings, Noun::Group, self.system, Some(uid))?;
        let state = GroupState::Present { gid: Some(gid), members: BTreeSet::new(), kept: KeptLines::default() };
        decision.states.push((Resource::Group(name.clone()), State::Group(state)));
        Ok((name.clone(), Id::Number(gid)))
    }

    /// The supplementary groups.
    fn supplementary(&self, now: &mut dyn View, found: &UserEntry) -> Result<BTreeSet<String>, Halt> {
        let Some(OneOrMore(names)) = &self.groups else { return Ok(found.groups.clone()) };
        let mut groups = if self.append { found.groups.clone() } else { BTreeSet::new() };
        for AccountName(group) in names {
            if accounts::group(now, group)? == GroupState::Absent {
                return Err(accounts::no_group(now, group));
            }
            groups.insert(group.clone());
        }
        // That the primary group lists the user as a member as well is nobody's wish and no harm.
        groups.extend(found.groups.get(&found.group).cloned());
        Ok(groups)
    }

    /// A new user's line in shadow, as `useradd` makes it; none on a host without shadow.
    fn shadow(&self, now: &mut dyn View, settings: &Settings) -> Result<Option<String>, Halt> {
        let AccountName(name) = &self.name;
        if !now.is_there(&"/etc/shadow".into())? {
            return match self.password_hash {
                Some(_) => Err(Halt::Failed("this host has no /etc/shadow to keep a password's hash in".into())),
                None => Ok(None),
            };
        }
        let hash = self.password_hash.as_ref().map_or("!", |hash| hash.0.expose());
        if self.system {
            return Ok(Some(format!("{name}:{hash}:{}::::::", today())));
        }
        let days = |setting: &str| match settings.text(setting, "").parse::<i64>() {
            Ok(days) if days >= 0 => days.to_string(),
            _ => String::new(),
        };
        let [least, most, warning] = ["PASS_MIN_DAYS", "PASS_MAX_DAYS", "PASS_WARN_AGE"].map(days);
        Ok(Some(format!("{name}:{hash}:{}:{least}:{most}:{warning}:{}::", today(), days("INACTIVE"))))
    }

    /// A new user's ranges of numbers for containers, where the host gives such ranges: behind the last one.
    fn ranges(&self, now: &mut dyn View, settings: &Settings) -> Result<KeptLines, Halt> {
        let AccountName(name) = &self.name;
        let mut lines = Vec::new();
        if self.system {
            return Ok(KeptLines(lines));
        }
        for (file, letter) in [("subuid", "UID"), ("subgid", "GID")] {
            let path = format!("/etc/{file}");
            let count = settings.number(&format!("SUB_{letter}_COUNT"), 65536);
            if count == 0 || !now.is_there(&path.as_str().into())? {
                continue;
            }
            let text = accounts::text(now, &path)?;
            let mut start = u64::from(settings.number(&format!("SUB_{letter}_MIN"), 100_000));
            for line in text.lines() {
                let mut numbers = line.split(':').skip(1).map(|field| field.parse::<u64>().unwrap_or(0));
                start = start.max(numbers.next().unwrap_or(0) + numbers.next().unwrap_or(0));
            }
            let line = ByteText::from(&*format!("{name}:{start}:{count}"));
            let last = text.lines().last().and_then(|line| line.split(':').next()).map(str::to_owned);
            lines.push(KeptLine { file: file.to_owned(), after: last, line });
        }
        Ok(KeptLines(lines))
    }

    /// A user goes, and with it the group that was its own, and the home directory if that is said.
    fn remove(&self, now: &mut dyn View, found: &UserEntry) -> Result<Decision, Halt> {
        let AccountName(name) = &self.name;
        if found.uid == Some(0) {
            return Err(Halt::Failed(format!("{name} has the number 0, root's own, and is not removed")));
        }
        home::check_idle(now, name, found.uid)?;
        let mut decision = Decision::nothing();
        if self.remove_home {
            decision = home::remove(now, name, &found.home)?;
        }
        decision = decision.bring(Resource::User(name.clone()), State::User(UserState::Absent));
        if found.group == *name
            && let GroupState::Present { members, .. } = accounts::group(now, name)?
            && members.iter().all(|member| member == name)
            && !is_primary_of_another(now, name)?
        {
            decision = decision.bring(Resource::Group(name.clone()), State::Group(GroupState::Absent));
        }
        Ok(decision)
    }

    fn check_free(&self, now: &mut dyn View) -> Result<(), Halt> {
        let known = accounts::known(now, Noun::User)?;
        match known.iter().find(|(_, number)| Some(**number) == self.uid) {
            Some((other, number)) => Err(Halt::Failed(format!("the number {number} belongs to the user {other}"))),
            None => Ok(()),
        }
    }
}

fn is_primary_of_another(now: &mut dyn View, name: &str) -> Result<bool, Halt> {
    for user in accounts::known(now, Noun::User)?.into_keys().filter(|user| user != name) {
        if let UserState::Present(entry) = accounts::user(now, &user)?
            && entry.group == name
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A group's name by its name or number.
fn group_name(now: &mut dyn View, Word(word): &Word) -> Result<String, Halt> {
    if accounts::group(now, word)? != GroupState::Absent {
        return Ok(word.clone());
    }
    let known = accounts::known(now, Noun::Group)?;
    let by_number = word.parse::<u32>().ok().and_then(|gid| known.into_iter().find(|(_, number)| *number == gid));
    by_number.map(|(name, _)| name).ok_or_else(|| accounts::no_group(now, word))
}

/// Days since 1970, as shadow(5) counts them.
fn today() -> i64 {
    Timestamp::now().0 / 86_400_000_000
}

/// The hash of a password, never the password.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct PasswordHash(Secret);

impl PasswordHash {
    /// A line of shadow with this hash in it.
    fn over(&self, name: &str, found: Option<&str>) -> Result<String, Halt> {
        let Some(line) = found else {
            return Err(Halt::Failed(format!("the password of {name} cannot be seen; become root to set it")));
        };
        let mut fields: Vec<&str> = line.split(':').collect();
        let today = today().to_string();
        if fields.len() < 3 {
            return Err(Halt::Failed(format!("the line about {name} in /etc/shadow is damaged; mend it with vipw -s")));
        }
        if fields[1] != self.0.expose() {
            fields[1] = self.0.expose();
            fields[2] = &today;
        }
        Ok(fields.join(":"))
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<'de> Deserialize<'de> for PasswordHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let sign = |byte: u8| byte.is_ascii_graphic() && !b":;*!\\".contains(&byte);
        let is_hash = |text: &str| {
            text.len() > 10
                && text.len() <= 512
                && text.starts_with('$')
                && text.matches('$').count() >= 3
                && text.bytes().all(sign)
        };
        let body = text.trim_start_matches('!');
        if !(matches!(text.as_str(), "!" | "*" | "!*" | "!!") || is_hash(body)) {
            // The text itself may be a password and is not repeated.
            return Err(D::Error::custom(
                "password_hash is no hash as crypt(5) has it ($6$…, $y$…); make one with mkpasswd or openssl passwd -6",
            ));
        }
        Ok(PasswordHash(Secret::new(text)))
    }
}

#[cfg(feature = "controller")]
impl schemars::JsonSchema for PasswordHash {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "password hash".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "title": "hash"})
    }
}

/// Whose a thing is that is made for a user.
pub(super) fn meta(mode: u32, owner: &(Id, Id)) -> Meta {
    Meta { mode, uid: owner.0.clone(), gid: owner.1.clone(), xattrs: Default::default() }
}

/// A directory of a user's.
pub(super) fn directory(mode: u32, owner: &(Id, Id)) -> State {
    State::Path(PathState::Directory { meta: meta(mode, owner) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hashes_are_taken_and_nothing_is_shown() {
        let read = |text: &str| serde_json::from_value::<PasswordHash>(text.into());
        let hash = read("$6$abcdefgh$0123456789abcdefghijklmnop").unwrap();
        assert!(!format!("{hash:?}").contains("abc"));
        for right in ["!", "*", "!$6$abcdefgh$0123456789", "$y$j9T$JXMwPKscooGStC5ya55ns0$D6vZKS6jULiUSVE"] {
            assert!(read(right).is_ok(), "{right}");
        }
        for wrong in ["", "hunter2", "$6$x", "$6$a:b$0123456789", "$6$a$01234\n56789", "$1,000,000 sure"] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn a_hash_takes_its_place_in_the_line() {
        let hash = PasswordHash(Secret::new("$6$new"));
        let line = hash.over("ada", Some("ada:$6$old:19000:0:99999:7:::")).unwrap();
        assert_eq!(line, format!("ada:$6$new:{}:0:99999:7:::", today()));
        assert_eq!(hash.over("ada", Some("ada:$6$new:1::::::")).unwrap(), "ada:$6$new:1::::::");
        assert!(hash.over("ada", None).is_err() && hash.over("ada", Some("ada")).is_err());
    }
}
