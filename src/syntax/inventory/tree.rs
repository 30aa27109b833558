//! Groups and hosts as the file declares them.

use std::{collections::HashMap, sync::Arc};

use crate::{
    base::{Fault, Faults, Place, fault::nearest},
    model::node::{Entry, Node, Value},
    syntax::inventory::{HOSTS_MAX, level::Level, range, setting::Setting},
};

/// The outermost group.
pub(super) const ALL: &str = "all";

const GROUP_KEYS: [&str; 3] = ["hosts", "children", "vars"];

/// Everything that one file declares. Group 0 is `all`.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) groups: Vec<Group>,
    pub(super) hosts: Vec<Host>,
    group_names: HashMap<Arc<str>, usize>,
    host_names: HashMap<Arc<str>, usize>,
    /// Host entries so far, each name of a range counted.
    entries: usize,
    faults: Faults,
}

/// A group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: Arc<str>,
    pub(super) parents: Vec<usize>,
    pub(super) levels: Vec<Arc<Level>>,
    /// Among groups of the same depth the higher one wins (`ansible_group_priority`).
    pub(super) priority: i64,
    pub(super) place: Place,
}

/// A host.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: Arc<str>,
    /// The groups that name it.
    pub(super) groups: Vec<usize>,
    pub(super) levels: Vec<Arc<Level>>,
}

impl Tree {
    /// Reads the whole file. What is wrong in it is added to `faults`, and left out of the tree.
    pub(super) fn read(node: &Node, faults: &mut Faults) -> Option<Tree> {
        let Some(entries) = node.as_map() else {
            let fault = Fault::input(format!("an inventory is a mapping of groups, and this is {}", node.what()));
            faults.push(fault.at(&node.place).hint("begin with `all:`, and under it `hosts:`"));
            return None;
        };
        let mut tree = Tree {
            groups: Vec::new(),
            hosts: Vec::new(),
            group_names: HashMap::new(),
            host_names: HashMap::new(),
            entries: 0,
            faults: Faults::default(),
        };
        tree.intern(ALL, &node.place);
        for entry in entries {
            tree.top(entry);
        }
        faults.0.append(&mut tree.faults.0);
        Some(tree)
    }

    pub(super) fn group(&self, name: &str) -> Option<usize> {
        self.group_names.get(name).copied()
    }

    pub(super) fn host(&self, name: &str) -> Option<usize> {
        self.host_names.get(name).copied()
    }

    fn top(&mut self, entry: &Entry) {
        let name = &*entry.key;
        let fault = |message: String| Fault::input(message).at(&entry.key_place);
        match name {
            "hosts" | "children" | "vars" => {
                let fault = fault(format!("`{name}` stands under a group, not at the top"));
                self.faults.push(fault.hint(format!("write `all:`, and `{name}:` under it")));
            }
            "plugin" | "_meta" => {
                let fault = fault("dynamic inventories are not supported".to_owned());
                self.faults.push(fault.hint("`ansible-inventory -i FILE --list -y` writes what it gives as YAML"));
            }
            _ => self.declare(entry, None),
        }
    }

    fn intern(&mut self, name: &str, place: &Place) -> usize {
        if let Some(known) = self.group_names.get(name) {
            return *known;
        }
        let name: Arc<str> = name.into();
        let group =
            Group { name: name.clone(), parents: Vec::new(), levels: Vec::new(), priority: 1, place: place.clone() };
        self.groups.push(group);
        self.group_names.insert(name, self.groups.len() - 1);
        self.groups.len() - 1
    }

    fn declare(&mut self, entry: &Entry, parent: Option<usize>) {
        if let Err(message) = check_group_name(&entry.key) {
            self.faults.push(Fault::input(message).at(&entry.key_place));
            return;
        }
        let group = self.intern(&entry.key, &entry.key_place);
        if let Some(parent) = parent {
            if !self.groups[group].parents.contains(&parent) {
                self.groups[group].parents.push(parent);
            }
            if group == 0 {
                self.faults.push(Fault::input("`all` holds every group, and stands in none").at(&entry.key_place));
            }
        }
        match &entry.value.value {
            Value::Null => {}
            Value::Map(parts) => parts.iter().for_each(|part| self.part(group, part)),
            _ => {
                let message = format!("the group `{}` is a mapping, and this is {}", entry.key, entry.value.what());
                self.faults.push(Fault::input(message).at(&entry.value.place).hint(KEYS_HINT));
            }
        }
    }

    fn part(&mut self, group: usize, part: &Entry) {
        match &*part.key {
            "hosts" => self.hosts(group, &part.value),
            "children" => self.children(group, &part.value),
            "vars" => self.vars(group, &part.value),
            _ => self.faults.push(unknown_part(part)),
        }
    }

    fn vars(&mut self, group: usize, node: &Node) {
        if let Some(Node { value: Value::Int(priority), .. }) = node.child("ansible_group_priority") {
            self.groups[group].priority = *priority;
        }
        let level = Level::read(node, "`vars`", &mut self.faults);
        self.groups[group].levels.push(Arc::new(level));
    }

    fn children(&mut self, group: usize, node: &Node) {
        match &node.value {
            Value::Null => {}
            Value::Map(children) => children.iter().for_each(|child| self.declare(child, Some(group))),
            _ => self.faults.push(no_mapping("children", "web", node)),
        }
    }

    fn hosts(&mut self, group: usize, node: &Node) {
        match &node.value {
            Value::Null => {}
            Value::Map(hosts) => hosts.iter().for_each(|host| self.host_entry(group, host)),
            _ => self.faults.push(no_mapping("hosts", "web1.example.com", node)),
        }
    }

    fn host_entry(&mut self, group: usize, entry: &Entry) {
        let (names, port) = match range::expand(&entry.key) {
            Ok(found) => found,
            Err(message) => return self.faults.push(Fault::input(message).at(&entry.key_place)),
        };
        let before = self.entries;
        self.entries += names.len();
        if self.entries > HOSTS_MAX {
            if before <= HOSTS_MAX {
                let message = format!("from here on the inventory has more than {HOSTS_MAX} host entries");
                self.faults.push(Fault::input(message).at(&entry.key_place));
            }
            return;
        }
        let mut level = Level::read(&entry.value, "a host's variables", &mut self.faults);
        level.settings.splice(..0, port.map(Setting::Port));
        let level = Arc::new(level);
        for name in names {
            let host = self.intern_host(&name);
            let host = &mut self.hosts[host];
            if !host.groups.contains(&group) {
                host.groups.push(group);
            }
            if !level.vars.is_empty() || !level.settings.is_empty() {
                host.levels.push(level.clone());
            }
        }
    }

    fn intern_host(&mut self, name: &str) -> usize {
        if let Some(known) = self.host_names.get(name) {
            return *known;
        }
        let name: Arc<str> = name.into();
        self.hosts.push(Host { name: name.clone(), groups: Vec::new(), levels: Vec::new() });
        self.host_names.insert(name, self.hosts.len() - 1);
        self.hosts.len() - 1
    }
}

const KEYS_HINT: &str = "a group has `hosts:`, `children:` and `vars:`";

fn check_group_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > 255 {
        return Err("a group's name has 1 to 255 characters".to_owned());
    }
    let strange = |c: &char| !(c.is_alphanumeric() || "_-.".contains(*c));
    match name.chars().find(strange) {
        Some(c) => Err(format!("{name:.80?}: a group's name cannot have {c:?} in it")),
        None if name.starts_with('-') => Err(format!("{name:.80}: a group's name cannot begin with a hyphen")),
        None => Ok(()),
    }
}

fn unknown_part(part: &Entry) -> Fault {
    let fault = Fault::input(format!("a group has no key `{}`", part.key)).at(&part.key_place);
    match nearest(&part.key, GROUP_KEYS) {
        Some(near) => fault.hint(format!("did you mean `{near}`?")),
        None => fault.hint(format!("{KEYS_HINT}; the hosts stand under `hosts:`")),
    }
}

/// A list where a mapping stands is the classic slip.
fn no_mapping(key: &str, example: &str, node: &Node) -> Fault {
    let fault = Fault::input(format!("`{key}` is a mapping, and this is {}", node.what())).at(&node.place);
    fault.hint(format!("write each name as a key, with a colon and no hyphen: `{example}:`"))
}
