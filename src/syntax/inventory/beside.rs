//! Variables in files beside the inventory: `group_vars/` and `host_vars/`.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    base::{Digest, Fault, Faults},
    syntax::{
        inventory::{level::Level, tree::Tree},
        yaml,
    },
};

/// Folders within each other.
const DEPTH_MAX: usize = 8;

/// Files in one folder of variables.
const FILES_MAX: usize = 10_000;

/// Endings of files that are read.
const ENDINGS: [&str; 4] = ["", "yml", "yaml", "json"];

/// What the files say, by number of group or host.
#[derive(Debug, Default)]
pub(super) struct Beside {
    pub(super) groups: HashMap<usize, Vec<Arc<Level>>>,
    pub(super) hosts: HashMap<usize, Vec<Arc<Level>>>,
}

/// Reads the files of `folder` that are called as a group or host of `tree`. Others are passed over: several
/// inventories may stand in one folder. Adds what was read to `read`.
pub(super) fn read(folder: &Path, tree: &Tree, read: &mut Vec<(String, Digest)>, faults: &mut Faults) -> Beside {
    let mut beside = Beside::default();
    for (name, path) in named(&folder.join("group_vars"), faults) {
        if let Some(group) = tree.group(&name) {
            beside.groups.insert(group, levels(&path, read, faults));
        }
    }
    for (name, path) in named(&folder.join("host_vars"), faults) {
        if let Some(host) = tree.host(&name) {
            beside.hosts.insert(host, levels(&path, read, faults));
        }
    }
    beside
}

/// The entries of a folder by the name of the group or host that they are for.
fn named(folder: &Path, faults: &mut Faults) -> BTreeMap<String, PathBuf> {
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    for path in entries(folder, faults) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = match name.rsplit_once('.') {
            Some((stem, "yml" | "yaml" | "json")) if !path.is_dir() => stem.to_owned(),
            _ => name,
        };
        if let Some(first) = found.get(&name) {
            let message = format!("two entries hold variables of `{name}`: {} and {}", first.display(), path.display());
            faults.push(Fault::input(message).hint("keep one of them, or put both files into the directory"));
            continue;
        }
        found.insert(name, path);
    }
    found
}

/// What stands in a folder, sorted; none where there is no folder.
fn entries(folder: &Path, faults: &mut Faults) -> Vec<PathBuf> {
    let listed = match fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            faults.push(Fault::input(format!("cannot read {}", folder.display())).because(&error));
            return Vec::new();
        }
    };
    let visible = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        !name.starts_with('.') && !name.ends_with('~')
    };
    let mut paths: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).filter(visible).collect();
    paths.sort();
    paths
}

fn levels(path: &Path, read: &mut Vec<(String, Digest)>, faults: &mut Faults) -> Vec<Arc<Level>> {
    let mut files = Vec::new();
    collect(path, 0, &mut files, faults);
    files.iter().filter_map(|file| faults.keep(level(file, read))).map(Arc::new).collect()
}

/// The files at `path`: itself, or all that stand below it.
fn collect(path: &Path, depth: usize, files: &mut Vec<PathBuf>, faults: &mut Faults) {
    if !path.is_dir() {
        files.push(path.to_owned());
        return;
    }
    for inner in entries(path, faults) {
        let ending = inner.extension().unwrap_or_default().to_string_lossy().into_owned();
        if !inner.is_dir() && !ENDINGS.contains(&&*ending) {
            continue;
        }
        if depth >= DEPTH_MAX || files.len() >= FILES_MAX {
            let message = format!("{} holds too many files, or folders too deep", path.display());
            faults.push(Fault::input(message));
            return;
        }
        collect(&inner, depth + 1, files, faults);
    }
}

fn level(path: &Path, read: &mut Vec<(String, Digest)>) -> Result<Level, Faults> {
    let name = path.to_string_lossy();
    let text = yaml::text_of(path)?;
    read.push((name.to_string(), Digest::of(text.as_bytes())));
    if text.starts_with("$ANSIBLE_VAULT") {
        let fault = Fault::input(format!("{name} is encrypted with Ansible Vault, which is not supported"));
        return Err(fault.hint("give secrets as sensitive params, or let the operator be asked").into());
    }
    if text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#') || line == "---") {
        return Ok(Level::default());
    }
    let node = yaml::parse(&name, &text)?;
    let mut faults = Faults::default();
    let level = Level::read(&node, "a file's variables", &mut faults);
    faults.or(level)
}
