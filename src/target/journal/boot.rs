//! What settles an open journal when the machine starts again: an entry in the system's list of what is started at boot.
//! It is on the disk before the first change of a run, and goes when the run is settled.
//!
//! It names a copy of the agent that is kept in the store: the one that runs may lie where others than root may write.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, symlink},
    path::{Path, PathBuf},
};

use crate::target::{folder::sync_folder, journal::lock};

/// What the entry is called.
const NAME: &str = "rollbook-settle";

/// How the names of the agents in the store begin.
const AGENT: &str = "agent-";

/// The entry of a machine.
#[derive(Clone, Debug)]
pub(super) struct BootEntry {
    etc: PathBuf,
    /// Where the agent's copies are kept.
    store: PathBuf,
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// A unit, wanted by multi-user.target, and after it: services are looked at when the boot has started them, and can be
    /// started that wait for its end. (A target is not ordered behind what it wants where that is ordered behind it.)
    Systemd,
    /// A line for cron.
    Cron,
}

impl BootEntry {
    /// How this machine is told to, if there is a way that is known here.
    pub(super) fn of(root: &Path, init: &str, store: &Path) -> Option<BootEntry> {
        let etc = root.join("etc");
        let how = match init {
            "systemd" => How::Systemd,
            _ if etc.join("cron.d").is_dir() => How::Cron,
            _ => return None,
        };
        Some(BootEntry { etc, store: store.to_owned(), how })
    }

    /// Makes it. It is on the disk when this returns.
    pub(super) fn make(&self) -> io::Result<()> {
        let agent = self.agent()?;
        let agent = agent.display();
        match self.how {
            How::Systemd => {
                let unit = format!(
                    "# Made by rollbook for the time of a run; gone when the run is settled.\n\
                     [Unit]\nDescription=Undo the rollbook run that was cut off\n\
                     After=multi-user.target\n\n\
                     [Service]\nType=oneshot\nTimeoutStartSec=infinity\nExecStart={agent} settle\n"
                );
                self.write(&self.file(), &unit)?;
                let link = self.link();
                let folder = link.parent().expect("it stands in a folder");
                fs::create_dir_all(folder)?;
                match symlink(Path::new("..").join(format!("{NAME}.service")), &link) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                    _ => sync_folder(folder),
                }
            }
            How::Cron => self.write(&self.file(), &format!("@reboot root {agent} settle >/dev/null 2>&1\n")),
        }
    }

    /// Removes it. Where that is lost with the power, the agent that it starts finds nothing to settle and removes it.
    pub(super) fn remove(&self) {
        let links = (self.how == How::Systemd).then(|| self.link());
        for path in links.into_iter().chain([self.file()]) {
            let _none_there = fs::remove_file(path);
        }
    }

    fn file(&self) -> PathBuf {
        match self.how {
            How::Systemd => self.etc.join("systemd/system").join(format!("{NAME}.service")),
            How::Cron => self.etc.join("cron.d").join(NAME),
        }
    }

    fn link(&self) -> PathBuf {
        self.etc.join("systemd/system/multi-user.target.wants").join(format!("{NAME}.service"))
    }

    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o644).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        sync_folder(path.parent().expect("it stands in a folder"))
    }

    /// The copy of the agent that runs, made once for each version. Older ones go.
    fn agent(&self) -> io::Result<PathBuf> {
        let own = fs::read_link("/proc/self/exe")?;
        let (file, program) = (fs::File::open("/proc/self/exe")?, own.file_name());
        let found = file.metadata()?;
        let name = program.and_then(|name| name.to_str()).filter(|name| name.starts_with(AGENT));
        let name = name.map_or_else(|| format!("{AGENT}{}", found.len()), str::to_owned);
        let copy = self.store.join(name);
        if fs::metadata(&copy).is_ok_and(|copy| copy.len() == found.len()) {
            return Ok(copy);
        }
        for entry in fs::read_dir(&self.store)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(AGENT)) {
                fs::remove_file(entry.path())?;
            }
        }
        lock::put(&copy, 0o700, file)?;
        sync_folder(&self.store)?;
        Ok(copy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_comes_and_goes() {
        for (init, made) in [
            (
                "systemd",
                &[
                    "systemd/system/rollbook-settle.service",
                    "systemd/system/multi-user.target.wants/rollbook-settle.service",
                ][..],
            ),
            ("sysvinit", &["cron.d/rollbook-settle"][..]),
        ] {
            let root = tempfile::tempdir().unwrap();
            let (etc, store) = (root.path().join("etc"), root.path().join("store"));
            for folder in [etc.join("cron.d"), etc.join("systemd/system"), store.clone()] {
                fs::create_dir_all(folder).unwrap();
            }
            let entry = BootEntry::of(root.path(), init, &store).unwrap();
            for _twice in 0..2 {
                entry.make().unwrap();
                let agent = fs::read_dir(&store).unwrap().next().unwrap().unwrap().path();
                for path in made {
                    let text = fs::read_to_string(etc.join(path)).unwrap();
                    assert!(text.contains(&format!("{} settle", agent.display())), "{text}");
                }
            }
            entry.remove();
            assert!(made.iter().all(|path| fs::symlink_metadata(etc.join(path)).is_err()));
        }
        let bare = tempfile::tempdir().unwrap();
        assert!(BootEntry::of(bare.path(), "busybox", bare.path()).is_none());
    }
}
