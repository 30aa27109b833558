//! What holds for each host, from everything that is said of it and its groups.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use crate::{
    base::{Fault, Faults},
    model::{
        ids::HostName,
        inventory::{Host, HostVars, Inventory, InventoryVars},
    },
    syntax::inventory::{
        beside::Beside,
        level::Level,
        setting::Settings,
        tree::{ALL, Tree},
    },
};

/// Groups within each other.
const DEPTH_MAX: usize = 64;

/// The group of hosts that are in no other but `all`.
const UNGROUPED: &str = "ungrouped";

/// Merges. The order is Ansible's, the later hides the earlier: variables of groups in the inventory (`all`, then from
/// the outside in; in one depth by priority, then by name), `group_vars/all`, other `group_vars/` in the same order,
/// the host's own in the inventory, `host_vars/`.
pub(super) fn merge(tree: &Tree, beside: &Beside) -> Result<Inventory, Faults> {
    let depths = depths(tree)?;
    let mut merged = Merged { tree, beside, depths, shared: HashMap::new() };
    let mut faults = Faults::default();
    let mut told = HashSet::new();
    let mut hosts = Vec::with_capacity(tree.hosts.len());
    let mut groups: BTreeMap<String, Vec<HostName>> =
        tree.groups.iter().map(|group| (group.name.to_string(), Vec::new())).collect();
    for number in 0..tree.hosts.len() {
        match merged.host(number) {
            Ok(host) => {
                for group in host.groups.iter() {
                    groups.entry(group.clone()).or_default().push(host.name.clone());
                }
                hosts.push(Arc::new(host));
            }
            // A group's slip is told once, not once for each of its hosts.
            Err(fault) if told.insert(format!("{:?} {}", fault.place, fault.message)) => faults.push(fault),
            Err(_) => {}
        }
    }
    faults.or(Inventory { hosts, groups })
}

/// What all hosts of the same groups share.
#[derive(Clone)]
struct Shared {
    names: Arc<[String]>,
    vars: Arc<InventoryVars>,
    settings: Settings,
}

struct Merged<'a> {
    tree: &'a Tree,
    beside: &'a Beside,
    depths: Vec<usize>,
    shared: HashMap<Vec<usize>, Shared>,
}

impl Merged<'_> {
    fn host(&mut self, number: usize) -> Result<Host, Fault> {
        let tree = self.tree;
        let host = &tree.hosts[number];
        let Shared { names, vars, mut settings } = self.shared(&host.groups);
        let mut own = InventoryVars::new();
        for level in host.levels.iter().chain(self.beside.hosts.get(&number).into_iter().flatten()) {
            lay(level, &mut own, &mut settings);
        }
        let vars = HostVars::new(vars, own);
        Ok(Host { name: HostName(host.name.clone()), groups: names, vars, connection: settings.connection()? })
    }

    fn shared(&mut self, direct: &[usize]) -> Shared {
        if let Some(known) = self.shared.get(direct) {
            return known.clone();
        }
        let groups = self.ancestry(direct);
        let mut vars = InventoryVars::new();
        let mut settings = Settings::default();
        let inline = groups.iter().flat_map(|group| &self.tree.groups[*group].levels);
        // `all` comes first among them, so that this is Ansible's order of files too.
        let files = groups.iter().filter_map(|group| self.beside.groups.get(group)).flatten();
        inline.chain(files).for_each(|level| lay(level, &mut vars, &mut settings));
        let mut names: Vec<String> = groups.iter().map(|group| self.tree.groups[*group].name.to_string()).collect();
        if names == [ALL] {
            names.push(UNGROUPED.to_owned());
        }
        let shared = Shared { names: names.into(), vars: Arc::new(vars), settings };
        self.shared.insert(direct.to_vec(), shared.clone());
        shared
    }

    /// The groups themselves and all that they are in, in the order in which they hide each other.
    fn ancestry(&self, direct: &[usize]) -> Vec<usize> {
        let mut found = HashSet::from([0]);
        let mut todo = direct.to_vec();
        while let Some(group) = todo.pop() {
            if found.insert(group) {
                todo.extend(&self.tree.groups[group].parents);
            }
        }
        let mut groups: Vec<usize> = found.into_iter().collect();
        groups.sort_by_key(|number| {
            let group = &self.tree.groups[*number];
            (self.depths[*number], group.priority, group.name.clone())
        });
        groups
    }
}

fn lay(level: &Level, vars: &mut InventoryVars, settings: &mut Settings) {
    vars.extend(level.vars.iter().cloned());
    level.settings.iter().for_each(|setting| settings.lay(setting));
}

/// How many groups each group stands in, one within the other; `all` has none. Groups in a circle, and groups too
/// deep, are faults.
fn depths(tree: &Tree) -> Result<Vec<usize>, Faults> {
    let mut depths = vec![1; tree.groups.len()];
    depths[0] = 0;
    let mut waiting: Vec<usize> = tree.groups.iter().map(|group| group.parents.len()).collect();
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); tree.groups.len()];
    for (number, group) in tree.groups.iter().enumerate() {
        group.parents.iter().for_each(|parent| children[*parent].push(number));
    }
    let mut ready: Vec<usize> = (0..tree.groups.len()).filter(|group| waiting[*group] == 0).collect();
    while let Some(group) = ready.pop() {
        for child in &children[group] {
            depths[*child] = depths[*child].max(depths[group] + 1);
            waiting[*child] -= 1;
            if waiting[*child] == 0 {
                ready.push(*child);
            }
        }
    }
    let mut faults = Faults::default();
    if let Some(stuck) = (0..waiting.len()).find(|group| waiting[*group] > 0) {
        faults.push(circle(tree, &waiting, stuck));
    } else if let Some(deep) = (0..depths.len()).find(|group| depths[*group] > DEPTH_MAX) {
        let message = format!("the group `{}` is nested more than {DEPTH_MAX} groups deep", tree.groups[deep].name);
        faults.push(Fault::input(message).at(&tree.groups[deep].place));
    }
    faults.or(depths)
}

/// A group that waits for one of its parents, which waits for one of its own, and so on around.
fn circle(tree: &Tree, waiting: &[usize], stuck: usize) -> Fault {
    let mut path = vec![stuck];
    loop {
        let here = path[path.len() - 1];
        let parents = &tree.groups[here].parents;
        let parent = parents.iter().copied().find(|parent| waiting[*parent] > 0).expect("who waits has such a parent");
        if let Some(start) = path.iter().position(|group| *group == parent) {
            path.drain(..start);
            path.push(parent);
            break;
        }
        path.push(parent);
    }
    path.reverse();
    let names: Vec<String> = path.iter().take(8).map(|group| format!("`{}`", tree.groups[*group].name)).collect();
    let group = &tree.groups[path[0]];
    Fault::input(format!("the group {} stands within itself: {}", names[0], names.join(" -> "))).at(&group.place)
}
