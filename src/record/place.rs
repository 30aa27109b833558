//! Where a store is, and the folder and file that it is made as.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Where the record is kept when nobody says otherwise: `/var/lib/rollbook/record.db` for root, else
/// `$XDG_STATE_HOME/rollbook/record.db` (`~/.local/state/…`).
pub fn default_path() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/rollbook/record.db");
    }
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/".into()));
    state.unwrap_or_else(|| home().join(".local/state")).join("rollbook/record.db")
}

/// Makes the folders that are missing (0700) and the file if it is missing (0600), and makes their names durable.
/// What is there already keeps its mode: its owner may have opened it to a group of readers.
pub(super) fn make(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    make_folder(folder)?;
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => sync(folder),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(outer) = folder.parent().filter(|outer| !outer.as_os_str().is_empty()) {
        make_folder(outer)?;
    }
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync(folder.parent().filter(|outer| !outer.as_os_str().is_empty()).unwrap_or(Path::new("."))),
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
