//! Files of the project, and none else.

use std::{
    collections::HashMap,
    fs,
    io::Read as _,
    path::{Component, Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use crate::base::{Fault, fault::nearest};

/// Where templates are looked for: beside the runbook, then in `templates/`.
pub(super) const TEMPLATE_FOLDERS: &[&str] = &["", "templates"];

/// Bytes that a template file may have.
const TEMPLATE_MAX: u64 = 4 << 20;

/// Names that are looked through for the nearest one.
const NAMES_MAX: usize = 10_000;

/// How the message of a path begins that names nothing.
const MISSING: &str = "there is no";

/// The project's directory.
#[derive(Clone, Debug)]
pub(super) struct Files {
    root: PathBuf,
    /// What was found already, by path and folders: every host asks for the same.
    found: Arc<RwLock<HashMap<String, PathBuf>>>,
}

impl Files {
    pub(super) fn new(root: PathBuf) -> Self {
        let root = if root.as_os_str().is_empty() { PathBuf::from(".") } else { root };
        Files { root, found: Arc::default() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The file or directory at the relative `path` in the first of `folders` that has it.
    pub(super) fn find(&self, path: &str, folders: &[&str]) -> Result<PathBuf, Fault> {
        let key = format!("{}\0{path}", folders.join("\0"));
        if let Some(found) = self.found.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(found.clone());
        }
        let found = self.look_for(path, folders)?;
        self.found.write().unwrap_or_else(PoisonError::into_inner).insert(key, found.clone());
        Ok(found)
    }

    fn look_for(&self, path: &str, folders: &[&str]) -> Result<PathBuf, Fault> {
        check(path)?;
        let home = self.root.canonicalize().map_err(|error| {
            Fault::input(format!("the project's directory {} cannot be read", self.root.display())).because(&error)
        })?;
        for folder in folders {
            let candidate = self.in_folder(folder).join(path);
            match candidate.canonicalize() {
                Ok(real) if real.starts_with(&home) => return Ok(candidate),
                Ok(real) => return Err(outside(path, &real)),
                Err(error) if is_absent(&error) => {}
                Err(error) => {
                    return Err(Fault::input(format!("{} cannot be read", candidate.display())).because(&error));
                }
            }
        }
        Err(self.missing(path, folders))
    }

    /// The text of a template file.
    pub(super) fn read(&self, path: &Path) -> Result<String, Fault> {
        let cannot = |why: &str| Fault::input(format!("the template {} {why}", path.display()));
        let failed = |error: std::io::Error| cannot("cannot be read").because(&error);
        let metadata = fs::metadata(path).map_err(failed)?;
        if !metadata.is_file() {
            return Err(cannot(if metadata.is_dir() { "is a directory" } else { "is no regular file" }));
        }
        let mut bytes = Vec::new();
        let file = fs::File::open(path).map_err(failed)?;
        file.take(TEMPLATE_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > TEMPLATE_MAX {
            return Err(cannot(&format!("is larger than {} MiB", TEMPLATE_MAX >> 20)));
        }
        String::from_utf8(bytes).map_err(|error| cannot("is not UTF-8 text").because(&error))
    }

    /// Whether `fault` says that nothing is there.
    pub(super) fn is_missing(fault: &Fault) -> bool {
        fault.message.starts_with(MISSING)
    }

    fn in_folder(&self, folder: &str) -> PathBuf {
        if folder.is_empty() { self.root.clone() } else { self.root.join(folder) }
    }

    fn missing(&self, path: &str, folders: &[&str]) -> Fault {
        let places: Vec<String> = folders.iter().map(|folder| self.in_folder(folder).display().to_string()).collect();
        let fault = Fault::input(format!("{MISSING} file {path:?} in {}", places.join(" or ")));
        let (beside, name) = path.rsplit_once('/').unwrap_or(("", path));
        let known: Vec<String> =
            folders.iter().flat_map(|folder| names(&self.in_folder(folder).join(beside))).collect();
        match nearest(name, known.iter().map(String::as_str)) {
            Some(near) if beside.is_empty() => fault.hint(format!("did you mean {near:?}?")),
            Some(near) => fault.hint(format!("did you mean {:?}?", format!("{beside}/{near}"))),
            None => fault,
        }
    }
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

/// Only names that lead down are taken.
fn check(path: &str) -> Result<(), Fault> {
    let refuse = |why: &str| {
        let fault = Fault::input(format!("the path {path:?} {why}"));
        Err(fault.hint("name a file inside the project, relative to the runbook or to its own folder there"))
    };
    if path.is_empty() || path.contains('\0') {
        return refuse("names no file");
    }
    let mut parts = Path::new(path).components();
    match parts.find(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
        Some(Component::ParentDir) => refuse("leads out of its folder"),
        Some(_) => refuse("is absolute"),
        None => Ok(()),
    }
}

fn outside(path: &str, real: &Path) -> Fault {
    let fault =
        Fault::input(format!("the path {path:?} is a link that leads out of the project, to {}", real.display()));
    fault.hint("copy the file into the project")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(NAMES_MAX);
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
