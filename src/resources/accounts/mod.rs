//! The host's own users and groups: the lines about them in `/etc/passwd`, `shadow`, `group`, `gshadow`, `subuid` and
//! `subgid`, read and edited directly. Why not by `useradd` is told in docs/decisions/accounts-by-file.md.

mod groups;
mod table;
mod users;

use std::{collections::BTreeMap, io};

use crate::{
    base::ByteText,
    model::state::{KeptLine, KeptLines},
    resources::{Halt, program},
    target::{
        Probe, Tools,
        tools::{AccountFile, AccountLock},
    },
};

use table::Table;

/// The account files of a host. Files that it does not have are absent; so are, for an agent that is not root, those
/// that only root may read.
#[derive(Clone, Debug, Default)]
pub(in crate::resources) struct Accounts {
    tables: BTreeMap<AccountFile, Table>,
}

impl Accounts {
    /// Reads the files.
    pub(in crate::resources) fn read(probe: &Probe) -> Result<Self, Halt> {
        let mut tables = BTreeMap::new();
        for file in AccountFile::ALL {
            match probe.read(&file.path()) {
                Ok(bytes) => drop(tables.insert(file, Table::read(&bytes))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied && is_private(file) => {}
                Err(error) => return Err(Halt::io(format_args!("reading {}", file.path()), &error)),
            }
        }
        for needed in [AccountFile::Passwd, AccountFile::Group] {
            if !tables.contains_key(&needed) {
                return Err(Halt::Failed(format!("this host has no {}", needed.path())));
            }
        }
        Ok(Accounts { tables })
    }

    fn table(&self, file: AccountFile) -> Option<&Table> {
        self.tables.get(&file)
    }

    fn table_mut(&mut self, file: AccountFile) -> Option<&mut Table> {
        self.tables.get_mut(&file)
    }

    /// The line about a name, and what stands before it, if there is such a line.
    fn keep(&self, file: AccountFile, name: &str) -> Option<KeptLine> {
        let table = self.table(file)?;
        let line = ByteText(table.line(name)?.to_vec());
        Some(KeptLine { file: file.name().to_owned(), after: table.before(name), line })
    }
}

fn is_private(file: AccountFile) -> bool {
    matches!(file, AccountFile::Shadow | AccountFile::Gshadow)
}

/// The line that was kept of a file about a name.
fn kept<'a>(kept: &'a KeptLines, file: AccountFile, name: &str) -> Option<&'a KeptLine> {
    kept.0.iter().find(|line| line.file == file.name() && table::name_of(&line.line.0) == name.as_bytes())
}

/// Edits the account files under their lock, and writes those that differ.
pub(in crate::resources) fn change(
    tools: &Tools<'_>,
    edit: impl FnOnce(&mut Accounts) -> Result<(), Halt>,
) -> Result<(), Halt> {
    let lock = tools.lock_accounts().map_err(|error| Halt::io("locking the account files", &error))?;
    tools.clear_accounts().map_err(|error| Halt::io("tidying up beside /etc/passwd", &error))?;
    let before = Accounts::read(tools.probe())?;
    let mut after = before.clone();
    edit(&mut after)?;
    let mut has_changed = false;
    for file in AccountFile::ALL {
        has_changed |= write(tools, &lock, file, &before, &after)?;
    }
    drop(lock);
    if has_changed {
        forget_cached(tools);
    }
    Ok(())
}

fn write(
    tools: &Tools<'_>,
    lock: &AccountLock,
    file: AccountFile,
    before: &Accounts,
    after: &Accounts,
) -> Result<bool, Halt> {
    let (Some(before), Some(after)) = (before.table(file), after.table(file)) else { return Ok(false) };
    if before == after {
        return Ok(false);
    }
    let written = tools.rewrite_accounts(lock, file, &after.bytes());
    written.map_err(|error| Halt::io(format_args!("writing {}", file.path()), &error))?;
    Ok(true)
}

/// Programs that keep copies of the account files in memory, and how they are told to read them again, as `useradd`
/// tells them.
const CACHES: [(&str, &[&str]); 3] = [
    ("/usr/sbin/nscd", &["/usr/sbin/nscd", "-i", "passwd"]),
    ("/usr/sbin/nscd", &["/usr/sbin/nscd", "-i", "group"]),
    ("/usr/sbin/sss_cache", &["/usr/sbin/sss_cache", "-U", "-G"]),
];

fn forget_cached(tools: &Tools<'_>) {
    for (program, argv) in CACHES {
        if matches!(tools.probe().stat(&program.into()), Ok(Some(_))) {
            // One that does not run has nothing to forget: that it fails then is no failure.
            let _ = tools.run(&program::look(argv));
        }
    }
}
