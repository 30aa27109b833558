//! Inventories in Ansible's YAML format, with `group_vars/` and `host_vars/` beside them. The format's reference is
//! docs/inventory-format.md.

mod beside;
mod level;
mod merge;
mod range;
mod setting;
mod tree;

use std::path::Path;

use crate::{
    base::{Digest, Fault, Faults},
    model::inventory::Inventory,
    syntax::{inventory::tree::Tree, yaml},
};

/// Hosts that one inventory may have.
pub const HOSTS_MAX: usize = 200_000;

/// Reads an inventory and the variables beside it. Gives also every file that was read, with its digest. All faults
/// are given, in the order of the files.
pub fn load(path: &Path) -> Result<(Inventory, Vec<(String, Digest)>), Faults> {
    let name = path.to_string_lossy();
    if path.is_dir() {
        let fault = Fault::input(format!("{name} is a directory, and inventory directories are not supported"));
        return Err(fault.hint("give a file, as in `-i inventories/prod.yml`").into());
    }
    let text = yaml::text_of(path)?;
    let mut read = vec![(name.to_string(), Digest::of(text.as_bytes()))];
    let mut faults = Faults::default();
    let Some(tree) = tree_of(&name, &text, &mut faults) else { return Err(faults) };
    let folder = path.parent().unwrap_or(Path::new(""));
    let beside = beside::read(folder, &tree, &mut read, &mut faults);
    let inventory = faults.keep(merge::merge(&tree, &beside)).unwrap_or_default();
    faults.or((inventory, read))
}

/// Reads an inventory's text alone.
pub fn parse(file: &str, text: &str) -> Result<Inventory, Faults> {
    let mut faults = Faults::default();
    let Some(tree) = tree_of(file, text, &mut faults) else { return Err(faults) };
    let inventory = faults.keep(merge::merge(&tree, &beside::Beside::default())).unwrap_or_default();
    faults.or(inventory)
}

fn tree_of(file: &str, text: &str, faults: &mut Faults) -> Option<Tree> {
    let tree = faults.keep(yaml::parse(file, text)).and_then(|node| Tree::read(&node, faults));
    if tree.is_none() {
        explain_ini(text, faults);
    }
    tree
}

fn is_section(line: &str) -> bool {
    let inner = line.trim().strip_prefix('[').and_then(|line| line.strip_suffix(']'));
    inner.is_some_and(|name| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_-:.".contains(c)))
}

/// Says it when the file is an inventory of Ansible's older format.
fn explain_ini(text: &str, faults: &mut Faults) {
    if text.lines().any(is_section)
        && let Some(fault) = faults.0.first_mut()
    {
        fault
            .hints
            .push("this looks like an INI inventory; `ansible-inventory -i FILE --list -y` writes it as YAML".into());
    }
}

#[cfg(test)]
mod tests;
