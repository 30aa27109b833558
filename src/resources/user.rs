//! Users.

use std::collections::BTreeSet;

use crate::{
    model::{
        change::Change,
        state::{Difference, Resource, State, UserEntry, UserState},
    },
    resources::{
        Family, Halt,
        accounts::{self, Accounts},
    },
    target::{Probe, Tools},
};

/// The family of users.
#[derive(Debug)]
pub struct Users;

impl Family for Users {
    type State = UserState;

    fn observe(probe: &Probe, resource: &Resource) -> Result<UserState, Halt> {
        let Resource::User(name) = resource else { resource.is_misplaced() };
        Accounts::read(probe)?.user(name)
    }

    fn differences(before: &UserState, after: &UserState) -> Vec<Difference> {
        let mut found = Differences::default();
        match (before, after) {
            (UserState::Present(before), UserState::Present(after)) => compare(&mut found, before, after),
            _ => found.add("state", standing(before), standing(after)),
        }
        found.0
    }

    fn converge(tools: &Tools<'_>, changes: &[Change]) -> Result<(), Halt> {
        accounts::change(tools, |accounts| {
            for change in changes {
                match change {
                    Change { resource: Resource::User(name), after: State::User(after), .. } => {
                        accounts.bring_user(name, after)?;
                    }
                    other => other.resource.is_misplaced(),
                }
            }
            Ok(())
        })
    }
}

#[derive(Default)]
struct Differences(Vec<Difference>);

impl Differences {
    fn add(&mut self, attribute: &str, before: String, after: String) {
        if before != after {
            self.0.push(Difference { attribute: attribute.into(), before, after });
        }
    }
}

fn standing(state: &UserState) -> String {
    match state {
        UserState::Absent => "absent".into(),
        UserState::Present(entry) => {
            let uid = entry.uid.map_or_else(|| "chosen by the host".into(), |uid| uid.to_string());
            let groups =
                if entry.groups.is_empty() { String::new() } else { format!(", groups {}", joined(&entry.groups)) };
            format!("uid {uid}, group {}{groups}, home {}, shell {}", entry.group, entry.home, entry.shell)
        }
    }
}

fn compare(found: &mut Differences, before: &UserEntry, after: &UserEntry) {
    let UserEntry { uid, group, groups, home, shell, comment, shadow, kept: _ } = after;
    let number = |uid: &Option<u32>| uid.map_or_else(|| "chosen by the host".into(), |uid| uid.to_string());
    found.add("uid", number(&before.uid), number(uid));
    found.add("group", before.group.clone(), group.clone());
    if before.groups != *groups {
        let come = groups.difference(&before.groups).map(|name| format!("+{name}"));
        let go = before.groups.difference(groups).map(|name| format!("-{name}"));
        let moves = come.chain(go).collect::<Vec<_>>().join(" ");
        found.add("groups", joined(&before.groups), format!("{} ({moves})", joined(groups)));
    }
    found.add("home", before.home.clone(), home.clone());
    found.add("shell", before.shell.clone(), shell.clone());
    found.add("comment", before.comment.clone(), comment.clone());
    if let (Some(before), Some(after)) = (&before.shadow, shadow) {
        compare_shadow(found, before, after);
    }
}

fn joined(groups: &BTreeSet<String>) -> String {
    if groups.is_empty() { "none".into() } else { groups.iter().map(String::as_str).collect::<Vec<_>>().join(",") }
}

/// The password's hash is never shown, only what can be done with it.
fn compare_shadow(found: &mut Differences, before: &str, after: &str) {
    if before == after {
        return;
    }
    let parts = |line: &str| {
        let mut fields = line.splitn(4, ':').map(str::to_owned);
        let _name = fields.next();
        let mut next = || fields.next().unwrap_or_default();
        (next(), next(), next())
    };
    let ((old, old_day, old_rest), (new, new_day, new_rest)) = (parts(before), parts(after));
    if old != new {
        let (was, is) = (password(&old), password(&new));
        found.add("password", was.into(), if was == is { "changed".into() } else { is.to_owned() });
    } else {
        found.add("password last changed (day)", old_day, new_day);
    }
    found.add("password ageing", old_rest, new_rest);
}

fn password(hash: &str) -> &'static str {
    match hash.as_bytes() {
        [] => "none needed",
        [b'!' | b'*', ..] => "locked",
        _ => "set",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::state::KeptLines;

    fn entry() -> UserEntry {
        UserEntry {
            uid: Some(1000),
            group: "ada".into(),
            groups: ["lp", "adm"].map(str::to_owned).into(),
            home: "/home/ada".into(),
            shell: "/bin/sh".into(),
            comment: String::new(),
            shadow: Some("ada:!:20000:0:99999:7:::".into()),
            kept: KeptLines::default(),
        }
    }

    fn told(after: UserEntry) -> Vec<String> {
        let told = |d: &Difference| format!("{}: {} → {}", d.attribute, d.before, d.after);
        Users::differences(&UserState::Present(entry()), &UserState::Present(after)).iter().map(told).collect()
    }

    #[test]
    fn differences_are_in_words_and_hashes_are_not() {
        assert_eq!(told(entry()), [] as [&str; 0]);
        let groups = ["adm", "docker"].map(str::to_owned).into();
        assert_eq!(told(UserEntry { groups, ..entry() }), ["groups: adm,lp → adm,docker (+docker -lp)"]);
        let shadow = Some("ada:$6$salt$hash:20001:0:99999:7:::".to_owned());
        assert_eq!(told(UserEntry { shadow: shadow.clone(), ..entry() }), ["password: locked → set"]);
        let shadow = Some("ada:!:20000:0:90:7:::".to_owned());
        assert_eq!(told(UserEntry { shadow, ..entry() }), ["password ageing: 0:99999:7::: → 0:90:7:::"]);
        let absent = Users::differences(&UserState::Absent, &UserState::Present(entry()));
        assert_eq!(absent[0].after, "uid 1000, group ada, groups adm,lp, home /home/ada, shell /bin/sh");
    }
}
