//! Who comes to settle a run whose agent waits alone asks it to let go: by a file `claim` that names the run. Who takes a
//! run over from an agent at work says so in a second line.
//!
//! The agent looks for it, and lets go of the lock. A claim that nobody withdrew names a run that is over,
//! and means nothing to the next.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::{
    model::ids::RunId,
    target::{journal::lock, probe::open_regular},
};

/// The longest claim.
const CLAIM_BYTES_MAX: u64 = 4096;

/// The longest words of one, in characters.
const WORDS_CHARS_MAX: usize = 1000;

/// A claim, withdrawn when it is dropped.
#[derive(Debug)]
pub(super) struct Claim(PathBuf);

impl Claim {
    /// Claims a run in the store: one that waits alone, or, with words, one that is at work.
    pub(super) fn place(store: &Path, run: &RunId, words: Option<&str>) -> io::Result<Claim> {
        let mut text = run.to_string();
        if let Some(words) = words {
            text.push('\n');
            text.extend(words.chars().take(WORDS_CHARS_MAX));
        }
        lock::replace(&path(store), text.as_bytes())?;
        Ok(Claim(path(store)))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let _already_gone = fs::remove_file(&self.0);
    }
}

/// Whether somebody claims the run; with what words, empty where there are none.
pub(super) fn words(store: &Path, run: &RunId) -> Option<String> {
    let mut text = String::new();
    open_regular(&path(store)).and_then(|file| file.take(CLAIM_BYTES_MAX).read_to_string(&mut text)).ok()?;
    let (claimed, words) = text.split_once('\n').unwrap_or((&text, ""));
    (claimed == run.as_str()).then(|| words.to_owned())
}

/// Confirms the run that knows this token.
pub(super) fn confirm(store: &Path, token: &str) -> io::Result<()> {
    lock::replace(&confirmation(store), token.as_bytes())
}

/// Whether the token was given. It is taken away: it is good for once.
pub(super) fn is_confirmed(store: &Path, token: &str) -> bool {
    let mut text = String::new();
    let read = open_regular(&confirmation(store)).and_then(|file| file.take(64).read_to_string(&mut text));
    let is_confirmed = read.is_ok() && text == token;
    if is_confirmed {
        let _already_gone = fs::remove_file(confirmation(store));
    }
    is_confirmed
}

/// Whether no token waits to be taken.
pub(super) fn is_taken(store: &Path) -> bool {
    fs::symlink_metadata(confirmation(store)).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn confirmation(store: &Path) -> PathBuf {
    store.join("confirmed")
}

fn path(store: &Path) -> PathBuf {
    store.join("claim")
}
