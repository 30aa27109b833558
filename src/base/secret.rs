//! Values that must not be seen, and the one that hides them.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A value that no `Debug` or `Display` shows. Who needs it says so with [`Secret::expose`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes the value in.
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    /// Every text and number in a value. None of its truths and names is a secret.
    pub fn all_in(value: &Value) -> Vec<Self> {
        match value {
            Value::String(text) => vec![Secret::new(text.clone())],
            Value::Number(number) => vec![Secret::new(number.to_string())],
            Value::Array(items) => items.iter().flat_map(Secret::all_in).collect(),
            Value::Object(fields) => fields.values().flat_map(Secret::all_in).collect(),
            Value::Bool(_) | Value::Null => Vec::new(),
        }
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
    is_partial: bool,
}

impl Masker {
    /// A masker for `values`. Empty ones hide nothing. A value of several lines is also hidden line by
    /// line, since diffs and logs cut at line ends; and each of them as it stands in JSON and in a shell's quotes.
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
            let texts = lines.chain([value.expose()]).filter(|text| !text.is_empty());
            known.extend(texts.flat_map(forms).filter(|form| !form.is_empty()).map(Secret));
        }
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

    /// The same where there are secrets besides that nobody tells: texts that may hold anything, such as contents and
    /// what commands print, are to be hidden whole.
    pub fn partial(self) -> Self {
        Masker { is_partial: true, ..self }
    }

    /// Whether there are secrets that it does not know.
    pub fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// Whether there is anything to hide.
    pub fn is_empty(&self) -> bool {
        !self.is_partial && self.known().is_empty()
    }
}

/// A text as templates and messages give it: as it is, and as it stands in JSON, in JSON that is safe in HTML, in a
/// message's quotes, and in a shell's.
fn forms(text: &str) -> Vec<String> {
    let inner = |quoted: &str| quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned();
    let json = inner(&Value::from(text).to_string());
    let in_html = [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026"), ('\'', "\\u0027")];
    let html = in_html.iter().fold(json.clone(), |text, (letter, escape)| text.replace(*letter, escape));
    let mut forms = vec![text.to_owned(), inner(&format!("{text:?}")), json, html];
    if let Ok(quoted) = shlex::try_quote(text)
        && quoted != text
    {
        forms.extend([inner(&quoted), quoted.into_owned()]);
    }
    forms
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

    #[test]
    fn escaped_forms_are_hidden() {
        let secret = "a\"b'c\\d\te<f";
        let masker = Masker::new([Secret::new(secret)]);
        let texts = [serde_json::json!({ "key": secret }).to_string(), format!("{secret:?}"), format!("x {secret}")];
        for text in texts {
            assert_eq!(masker.hide(&text).matches(HIDDEN).count(), 1, "{text}");
            assert!(!masker.hide(&text).contains('b'), "{text}");
        }
        let quoted = shlex::try_quote(secret).unwrap();
        assert_eq!(masker.hide(&format!("KEY={quoted} more")), format!("KEY={HIDDEN} more"));
    }
}
