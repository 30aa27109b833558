//! Secrets, hidden by value from whoever looks at events.

mod event;
mod state;

use std::{
    collections::{BTreeMap, BTreeSet},
    str,
    sync::Arc,
};

use serde_json::Value;

use crate::{
    base::{ByteText, Fault, Faults, Masker, Place, secret::HIDDEN},
    model::event::{Sink, Stamped},
};

/// Hides secrets in every text of every event before another sink sees it.
///
/// Left as they are: ids, digests, fingerprints, times, numbers, words of closed lists, and the names of hosts and
/// step kinds. They are none of what a host or a template could have put a secret into, and readers need them whole.
pub struct Masked<S> {
    inner: S,
    masker: Masker,
}

impl<S: Sink> Masked<S> {
    /// A sink that hides what `masker` knows.
    pub fn new(inner: S, masker: Masker) -> Self {
        Masked { inner, masker }
    }

    /// The sink behind it.
    pub fn inner(&self) -> &S {
        &self.inner
    }
}

impl<S: Sink> Sink for Masked<S> {
    fn take(&mut self, event: &Stamped) -> Result<(), Fault> {
        if self.masker.is_empty() {
            return self.inner.take(event);
        }
        let mut hidden = event.clone();
        hidden.event.hide(&self.masker);
        self.inner.take(&hidden)
    }

    fn take_all(&mut self, events: &[Stamped]) -> Result<(), Fault> {
        if self.masker.is_empty() {
            return self.inner.take_all(events);
        }
        let mut hidden = events.to_vec();
        hidden.iter_mut().for_each(|event| event.event.hide(&self.masker));
        self.inner.take_all(&hidden)
    }
}

/// Faults as they may be printed.
pub fn hidden(mut faults: Faults, masker: &Masker) -> Faults {
    faults.0.iter_mut().for_each(|fault| fault.hide(masker));
    faults
}

/// What may hold secrets. Implementations destructure in full: a field that is added later must be decided about.
pub(super) trait Hide {
    /// Replaces every secret in it.
    fn hide(&mut self, masker: &Masker);
}

impl Hide for String {
    fn hide(&mut self, masker: &Masker) {
        if masker.finds(self) {
            *self = masker.hide(self);
        }
    }
}

impl Hide for ByteText {
    fn hide(&mut self, masker: &Masker) {
        let hide = |text: &str| masker.hide(text).into_bytes();
        let is_text = str::from_utf8(&self.0).is_ok();
        match is_text {
            true if self.0.is_empty() => {}
            true => self.0 = hide(str::from_utf8(&self.0).expect("looked at above")),
            false => {
                let pieces = self.0.utf8_chunks().flat_map(|chunk| [hide(chunk.valid()), chunk.invalid().to_vec()]);
                self.0 = pieces.flatten().collect();
            }
        }
    }
}

impl<T: Hide> Hide for Option<T> {
    fn hide(&mut self, masker: &Masker) {
        self.iter_mut().for_each(|value| value.hide(masker));
    }
}

/// Only this one: others may hold the same.
impl<T: Hide + Clone> Hide for Arc<T> {
    fn hide(&mut self, masker: &Masker) {
        Arc::make_mut(self).hide(masker);
    }
}

impl<T: Hide> Hide for Vec<T> {
    fn hide(&mut self, masker: &Masker) {
        self.iter_mut().for_each(|value| value.hide(masker));
    }
}

impl<T: Hide + Ord> Hide for BTreeSet<T> {
    fn hide(&mut self, masker: &Masker) {
        let hidden = std::mem::take(self).into_iter().map(|mut value| {
            value.hide(masker);
            value
        });
        self.extend(hidden.collect::<Vec<_>>());
    }
}

impl<K: Hide + Ord, V: Hide> Hide for BTreeMap<K, V> {
    fn hide(&mut self, masker: &Masker) {
        let hidden = std::mem::take(self).into_iter().map(|(mut key, mut value)| {
            key.hide(masker);
            value.hide(masker);
            (key, value)
        });
        self.extend(hidden.collect::<Vec<_>>());
    }
}

impl Hide for Value {
    fn hide(&mut self, masker: &Masker) {
        match self {
            Value::String(text) => text.hide(masker),
            Value::Array(items) => items.iter_mut().for_each(|item| item.hide(masker)),
            Value::Object(fields) => {
                *fields = std::mem::take(fields)
                    .into_iter()
                    .map(|(mut name, mut value)| {
                        name.hide(masker);
                        value.hide(masker);
                        (name, value)
                    })
                    .collect();
            }
            // A secret can be a number (a PIN), and stands among values as one.
            Value::Number(number) if masker.hide(&number.to_string()) == HIDDEN => *self = HIDDEN.into(),
            Value::Number(_) | Value::Null | Value::Bool(_) => {}
        }
    }
}

impl Hide for Fault {
    fn hide(&mut self, masker: &Masker) {
        let Fault { kind: _, message, place, causes, hints } = self;
        message.hide(masker);
        place.hide(masker);
        causes.hide(masker);
        hints.hide(masker);
    }
}

impl Hide for Place {
    fn hide(&mut self, masker: &Masker) {
        let Place { file, line: _, column: _, width: _ } = self;
        if masker.finds(file) {
            *file = masker.hide(file).into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::Secret, report::samples};

    /// What stays as it is, if it can be read as an event at all then: see [`Masked`].
    const EXEMPT: [&str; 9] = [
        "/rollbook",
        "/host",
        "/hosts/0",
        "/hosts/1",
        "/operator/host",
        "/transport",
        "/host_key",
        "/agent",
        "/runbook/commit",
    ];

    /// Puts a secret into every text of a value, one after the other, as far as it is still an event then.
    fn each_text(value: &mut Value, path: &str, found: &mut Vec<String>) {
        match value {
            Value::String(_) => found.push(path.to_owned()),
            Value::Array(items) => {
                items.iter_mut().enumerate().for_each(|(at, item)| each_text(item, &format!("{path}/{at}"), found));
            }
            Value::Object(fields) => {
                let escape = |name: &str| name.replace('~', "~0").replace('/', "~1");
                fields.iter_mut().for_each(|(name, v)| each_text(v, &format!("{path}/{}", escape(name)), found));
            }
            _ => {}
        }
    }

    struct Kept(Vec<Stamped>);

    impl Sink for Kept {
        fn take(&mut self, event: &Stamped) -> Result<(), Fault> {
            self.0.push(event.clone());
            Ok(())
        }
    }

    #[test]
    fn no_text_of_any_event_is_forgotten() {
        let masker = Masker::new([Secret::new("S3CRET")]);
        let mut tried = 0;
        for event in samples::events() {
            let mut texts = Vec::new();
            let mut value = serde_json::to_value(&event).unwrap();
            each_text(&mut value, "", &mut texts);
            for path in texts {
                let mut with_secret = value.clone();
                let text = with_secret.pointer_mut(&path).unwrap();
                *text = format!("{} S3CRET", text.as_str().unwrap()).into();
                // A closed list's word, an id or a digest with something behind it is none any more.
                let Ok(event) = serde_json::from_value::<Stamped>(with_secret) else { continue };
                let mut sink = Masked::new(Kept(Vec::new()), masker.clone());
                sink.take(&event).unwrap();
                let seen = serde_json::to_string(&sink.inner().0[0]).unwrap();
                let is_exempt = EXEMPT.contains(&path.as_str()) || path.ends_with("/step/kind");
                assert_eq!(seen.contains("S3CRET"), is_exempt, "{path}: {seen}");
                assert!(is_exempt || seen.contains(HIDDEN), "{path}: {seen}");
                tried += 1;
            }
        }
        assert!(tried > 80, "only {tried} texts were tried");
    }

    #[test]
    fn secrets_in_keys_numbers_and_raw_bytes_are_hidden() {
        let masker = Masker::new(["S3CRET", "4711"].map(Secret::new));
        let mut value = serde_json::json!({"a S3CRET": [4711, 47110, "4711"], "b": null});
        value.hide(&masker);
        assert_eq!(value, serde_json::json!({"a [hidden]": ["[hidden]", 47110, "[hidden]"], "b": null}));
        let mut bytes = ByteText(b"\xffS3CRET\xfe".to_vec());
        bytes.hide(&masker);
        assert_eq!(bytes.0, b"\xff[hidden]\xfe");
    }

    #[test]
    fn words_of_closed_lists_stay_whole() {
        let masker = Masker::new(["ok", "web", "2026", "changed", "file", "sha"].map(Secret::new));
        for event in samples::events() {
            let mut sink = Masked::new(Kept(Vec::new()), masker.clone());
            sink.take(&event).unwrap();
            let seen = &sink.inner().0[0];
            let text = serde_json::to_string(seen).unwrap();
            assert_eq!(&serde_json::from_str::<Stamped>(&text).unwrap(), seen, "an event stays one");
            assert_eq!((seen.at, &seen.run), (event.at, &event.run));
        }
    }
}
