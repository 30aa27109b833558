//! The record: an embedded store whose entries are a hash chain (docs/record-format.md). The only place that names
//! rusqlite.

mod chain;
mod store;
mod verify;

use std::path::PathBuf;

pub use chain::{Entry, Head};
pub use store::{RunSummary, Store};
pub use verify::{BadEntry, Verdict};

/// Where the record is kept when nobody says otherwise: `/var/lib/rollbook/record.db` for root, else
/// `$XDG_STATE_HOME/rollbook/record.db` (`~/.local/state/…`).
pub fn default_path() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/rollbook/record.db");
    }
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let state = state
        .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/".into())).join(".local/state"));
    state.join("rollbook/record.db")
}
