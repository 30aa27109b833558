//! Patterns of hosts: `web`, `*.example.com`, `web:db`, `web:&prod`, `all:!db1`.

use std::collections::HashSet;

use crate::{
    base::{Fault, Place, fault::nearest},
    model::{ids::HostName, inventory::Inventory, runbook::Placed},
};

/// The hosts that a pattern means, in the order of the inventory. As in Ansible, the order of a pattern's parts means
/// nothing: hosts are collected first, then narrowed by `&`, then reduced by `!`. A pattern of only `&` and `!` parts
/// begins with all hosts.
///
/// A part that matches nothing is a fault, and so is a pattern that leaves no host. Only a glob after `!` may match
/// nothing: a plain name there must exist, since a slip would run the work on a host that was meant to be spared.
pub fn select(inventory: &Inventory, pattern: &Placed<String>) -> Result<Vec<HostName>, Fault> {
    let parts = split(inventory, pattern)?;
    let mut chosen: HashSet<&str> = HashSet::new();
    if parts.iter().all(|part| part.role != Role::Add) {
        chosen.extend(inventory.hosts.iter().map(|host| host.name.as_str()));
    }
    for part in parts.iter().filter(|part| part.role == Role::Add) {
        chosen.extend(part.hosts(inventory)?);
    }
    for part in parts.iter().filter(|part| part.role == Role::Narrow) {
        let kept = part.hosts(inventory)?;
        chosen.retain(|name| kept.contains(name));
    }
    for part in parts.iter().filter(|part| part.role == Role::Reduce) {
        let spared = part.hosts(inventory)?;
        chosen.retain(|name| !spared.contains(name));
    }
    if chosen.is_empty() {
        return Err(Fault::input(format!("the pattern {:?} leaves no host", pattern.value)).at(&pattern.place));
    }
    let names = inventory.hosts.iter().map(|host| &host.name);
    Ok(names.filter(|name| chosen.contains(name.as_str())).cloned().collect())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Add,
    Narrow,
    Reduce,
}

struct Part<'a> {
    role: Role,
    word: &'a str,
    place: Place,
}

fn split<'a>(inventory: &Inventory, pattern: &'a Placed<String>) -> Result<Vec<Part<'a>>, Fault> {
    let text = &*pattern.value;
    let mut parts = Vec::new();
    let mut start = 0;
    for piece in text.split(',') {
        // A colon also stands in IPv6 addresses.
        let whole = knows(inventory, piece.trim().trim_start_matches(['!', '&']));
        let mut at = start;
        for word in piece.split(|c| c == ':' && !whole) {
            parts.push(part(pattern, word, at)?);
            at += word.len() + 1;
        }
        start += piece.len() + 1;
    }
    Ok(parts)
}

/// The part that is `word`, which stands at byte `at` of the pattern.
fn part<'a>(pattern: &'a Placed<String>, word: &'a str, at: usize) -> Result<Part<'a>, Fault> {
    let blanks = word.len() - word.trim_start().len();
    let word = word.trim();
    let place = within(&pattern.place, &pattern.value, at + blanks, word);
    let (role, name) = match word.as_bytes().first() {
        Some(b'&') => (Role::Narrow, &word[1..]),
        Some(b'!') => (Role::Reduce, &word[1..]),
        _ => (Role::Add, word),
    };
    if name.is_empty() {
        let fault = Fault::input(format!("the pattern {:?} has an empty part", pattern.value)).at(&place);
        return Err(fault.hint("write `all` for every host"));
    }
    if let Some(sign) = name.chars().find(|c| matches!(c, '[' | ']' | '~' | '@' | '!' | '&')) {
        let fault = Fault::input(format!("a pattern cannot have {sign:?} here")).at(&place);
        return Err(fault.hint("name hosts and groups, with `*` and `?`, joined by `,`, `:&` and `:!`"));
    }
    Ok(Part { role, word: name, place })
}

/// The place of a part in a pattern of one line; a pattern of the command line has no line.
fn within(place: &Place, text: &str, at: usize, word: &str) -> Place {
    if place.line == 0 || text.contains('\n') {
        return place.clone();
    }
    let quote = usize::from(place.width as usize >= text.chars().count() + 2);
    let column = place.column as usize + quote + text[..at].chars().count();
    Place { column: column as u32, width: word.chars().count().max(1) as u32, ..place.clone() }
}

fn knows(inventory: &Inventory, name: &str) -> bool {
    inventory.groups.contains_key(name) || inventory.hosts.iter().any(|host| host.name.as_str() == name)
}

impl Part<'_> {
    /// The hosts that this part names.
    fn hosts<'i>(&self, inventory: &'i Inventory) -> Result<HashSet<&'i str>, Fault> {
        let names = |hosts: &'i [HostName]| hosts.iter().map(HostName::as_str);
        if let Some(group) = inventory.groups.get(self.word) {
            if group.is_empty() && self.role != Role::Reduce {
                return Err(Fault::input(format!("the group `{}` has no hosts", self.word)).at(&self.place));
            }
            return Ok(names(group).collect());
        }
        let all = || inventory.hosts.iter().map(|host| host.name.as_str());
        if !self.word.contains(['*', '?']) {
            let found = all().find(|name| *name == self.word);
            return found.map(|name| HashSet::from([name])).ok_or_else(|| self.unknown(inventory));
        }
        let mut found: HashSet<&str> = all().filter(|name| fits(self.word, name)).collect();
        let groups = inventory.groups.iter().filter(|(name, _)| fits(self.word, name));
        found.extend(groups.flat_map(|(_, hosts)| names(hosts)));
        if found.is_empty() && self.role != Role::Reduce {
            return Err(Fault::input(format!("no host or group fits {:?}", self.word)).at(&self.place));
        }
        Ok(found)
    }

    fn unknown(&self, inventory: &Inventory) -> Fault {
        let fault = Fault::input(format!("the inventory has no host or group `{}`", self.word)).at(&self.place);
        let known = inventory.groups.keys().map(String::as_str);
        match nearest(self.word, known.chain(inventory.hosts.iter().map(|host| host.name.as_str()))) {
            Some(near) => fault.hint(format!("did you mean `{near}`?")),
            None if self.word == "localhost" => fault.hint("put it there: `localhost: {transport: local}`"),
            None => fault.hint("`rollbook hosts` shows what the inventory has"),
        }
    }
}

/// Whether `name` fits `glob`, in which `*` stands for any text and `?` for any character.
fn fits(glob: &str, name: &str) -> bool {
    let (glob, name): (Vec<char>, Vec<char>) = (glob.chars().collect(), name.chars().collect());
    let (mut g, mut n) = (0, 0);
    // Where to go on when a star must take one character more.
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        match glob.get(g) {
            Some('*') => {
                retry = Some((g + 1, n));
                g += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => (g, n) = (g + 1, n + 1),
            _ => match retry {
                Some((after, taken)) => {
                    retry = Some((after, taken + 1));
                    (g, n) = (after, taken + 1);
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::inventory;

    const TEXT: &str = "
all:
  hosts:
    bastion:
    2001:db8::7:
  children:
    prod: {hosts: {web1: , db1: }}
    test: {hosts: {web2: }}
    web: {hosts: {web1: , web2: }}
    empty:
";

    fn chosen(pattern: &str) -> Result<String, String> {
        let inventory = inventory::parse("hosts.yml", TEXT).unwrap();
        let place = Place { file: "book.yml".into(), line: 2, column: 8, width: pattern.len() as u32 };
        let names = select(&inventory, &Placed { value: pattern.into(), place });
        let names = names.map(|names| names.iter().map(HostName::as_str).collect::<Vec<_>>().join(" "));
        names.map_err(|fault| {
            let at = fault.place.unwrap();
            format!("{}+{} {} | {}", at.column - 8, at.width, fault.message, fault.hints.join(" | "))
        })
    }

    #[test]
    fn parts_are_joined_narrowed_and_reduced_in_the_inventorys_order() {
        for (pattern, hosts) in [
            ("all", "bastion 2001:db8::7 web1 db1 web2"),
            ("*", "bastion 2001:db8::7 web1 db1 web2"),
            ("web", "web1 web2"),
            ("web2,web1", "web1 web2"),
            ("db1 : bastion", "bastion db1"),
            ("web:&prod", "web1"),
            ("&prod:web", "web1"),
            ("!web:all", "bastion 2001:db8::7 db1"),
            ("!web", "bastion 2001:db8::7 db1"),
            ("web*", "web1 web2"),
            ("?b1", "db1"),
            ("all:!web:!*:web1,!nothing*", ""),
            ("2001:db8::7", "2001:db8::7"),
            ("web1,2001:db8::7,!db1", "2001:db8::7 web1"),
            ("ungrouped", "bastion 2001:db8::7"),
            ("all:!empty:&web", "web1 web2"),
        ] {
            let expected = if hosts.is_empty() { None } else { Some(hosts.to_owned()) };
            assert_eq!(chosen(pattern).ok(), expected, "{pattern}");
        }
    }

    #[test]
    fn slips_are_told_where_they_stand() {
        for (pattern, said) in [
            ("wbe", "0+3 the inventory has no host or group `wbe` | did you mean `web`?"),
            ("web:bd1", "4+3 the inventory has no host or group `bd1` | did you mean `db1`?"),
            ("all:!wbe1", "4+5 the inventory has no host or group `wbe1` | did you mean `web1`?"),
            ("x*", "0+2 no host or group fits \"x*\" | "),
            ("empty", "0+5 the group `empty` has no hosts | "),
            ("test:&prod", "0+10 the pattern \"test:&prod\" leaves no host | "),
            ("", "0+1 the pattern \"\" has an empty part | write `all` for every host"),
            ("web::db1", "4+1 the pattern \"web::db1\" has an empty part | write `all` for every host"),
        ] {
            assert_eq!(chosen(pattern), Err(said.to_owned()), "{pattern}");
        }
        assert!(chosen("web[0]").unwrap_err().contains("cannot have"));
        assert!(chosen("~web.*").unwrap_err().contains("cannot have"));
        assert!(chosen("localhost").unwrap_err().contains("transport: local"));
    }

    #[test]
    fn globs_take_no_exponential_time() {
        assert!(!fits(&"*a".repeat(200), &"a".repeat(199)));
        assert!(fits("*", "") && fits("a*b*", "aXbY") && !fits("a?", "a") && !fits("", "a"));
    }
}
