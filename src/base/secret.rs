//! Values that must not be seen, and the one that hides them.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use serde::{Deserialize, Serialize};

/// A value that no `Debug` or `Display` shows. Who needs it says so with [`Secret::expose`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes the value in.
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    /// The value itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// What stands where a secret stood.
pub const HIDDEN: &str = "[hidden]";

/// Replaces every known secret value in a text, whoever printed it. Clones know the same.
#[derive(Clone, Default, Debug)]
pub struct Masker {
    /// Longest first, so that a secret that contains another is hidden whole.
    values: Arc<RwLock<Vec<Secret>>>,
}

impl Masker {
    /// A masker for `values`. Empty ones hide nothing. A value of several lines is also hidden line by
    /// line, since diffs and logs cut at line ends.
    pub fn new(values: impl IntoIterator<Item = Secret>) -> Self {
        let masker = Masker::default();
        masker.learn(values);
        masker
    }

    /// Hides these values, too, from now on.
    pub fn learn(&self, values: impl IntoIterator<Item = Secret>) {
        let mut known = self.values.write().unwrap_or_else(PoisonError::into_inner);
        for value in values {
            let lines = value.0.lines().map(str::trim).filter(|line| line.len() >= 4);
            known.extend(lines.map(Secret::new));
            known.push(value);
        }
        known.retain(|value| !value.0.is_empty());
        known.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then(a.0.cmp(&b.0)));
        known.dedup();
    }

    fn known(&self) -> RwLockReadGuard<'_, Vec<Secret>> {
        self.values.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `text` holds a secret.
    pub fn finds(&self, text: &str) -> bool {
        self.known().iter().any(|value| text.contains(value.expose()))
    }

    /// `text` with every secret replaced by [`HIDDEN`].
    pub fn hide(&self, text: &str) -> String {
        self.known().iter().fold(text.to_owned(), |text, value| {
            if text.contains(value.expose()) { text.replace(value.expose(), HIDDEN) } else { text }
        })
    }

    /// Whether there is anything to hide.
    pub fn is_empty(&self) -> bool {
        self.known().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_secret_wins_and_debug_shows_nothing() {
        let masker = Masker::new(["pass", "password1", "", "line one\nline two"].map(Secret::new));
        assert_eq!(masker.hide("x password1 pass line two"), format!("x {HIDDEN} {HIDDEN} {HIDDEN}"));
        assert!(!format!("{masker:?}").contains("pass"));
        assert!(masker.finds("-ppass") && !masker.finds("nothing"));
        masker.clone().learn([Secret::new("typed later")]);
        assert_eq!(masker.hide("typed later"), HIDDEN);
    }
}
