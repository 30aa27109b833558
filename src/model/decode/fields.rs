//! A mapping, read key by key, every fault kept.

use crate::{
    base::{Fault, Faults, Place},
    model::{
        decode::serde_node::{expected, unknown_keys},
        node::{Entry, Node, Value},
        runbook::Placed,
    },
};

/// Reads the keys of one mapping. What is wrong is kept in the reader, and reading goes on.
pub struct Fields<'node> {
    node: &'node Node,
    known: Vec<&'node str>,
    /// What was found wrong so far.
    pub faults: Faults,
}

impl<'node> Fields<'node> {
    /// A reader of `node`, which must be a mapping; `what` names it in the fault, as in "a runbook".
    pub fn of(node: &'node Node, what: &str) -> Result<Self, Fault> {
        if node.as_map().is_none() {
            return Err(Fault::input(format!("{what} is a mapping, and this is {}", node.what())).at(&node.place));
        }
        Ok(Fields { node, known: Vec::new(), faults: Faults::default() })
    }

    /// The value under a key. A key that has none is a fault: what it was to say is lost.
    pub fn value(&mut self, key: &'static str) -> Option<&'node Node> {
        self.pass(key);
        let entry = self.node.as_map()?.iter().find(|entry| entry.key == key)?;
        if entry.value.value == Value::Null {
            self.faults.push(no_value(entry));
            return None;
        }
        Some(&entry.value)
    }

    /// The value under a key that must be there.
    pub fn required(&mut self, key: &'static str) -> Option<&'node Node> {
        if self.node.child(key).is_none() {
            self.faults.push(Fault::input(format!("`{key}` is missing")).at(&self.node.place));
        }
        self.value(key)
    }

    /// A key that is read elsewhere.
    pub fn pass(&mut self, key: &'static str) {
        self.known.push(key);
    }

    /// Reads a key's value with `read`, keeping its faults.
    pub fn read<T, E: Into<Faults>>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&'node Node) -> Result<T, E>,
    ) -> Option<T> {
        let value = self.value(key)?;
        self.faults.keep(read(value))
    }

    /// An optional text.
    pub fn text(&mut self, key: &'static str) -> Option<Placed<String>> {
        self.read(key, text)
    }

    /// An optional boolean, false where it is not given.
    pub fn truth(&mut self, key: &'static str) -> bool {
        self.read(key, truth).unwrap_or(false)
    }

    /// Refuses keys that were not asked for and that are known to mean something elsewhere, with what to write instead.
    pub fn refuse(&mut self, instead: impl Fn(&str) -> Option<&'static str>) {
        for entry in self.node.as_map().unwrap_or_default() {
            if let Some(hint) = instead(&entry.key).filter(|_| !self.known.contains(&&*entry.key)) {
                self.known.push(&entry.key);
                let fault = Fault::input(format!("there is no key `{}` here", entry.key)).at(&entry.key_place);
                self.faults.push(fault.hint(hint));
            }
        }
    }

    /// Takes the keys that were not asked for as wrong, and gives the value if nothing is.
    pub fn finish<T>(mut self, value: Option<T>) -> Result<T, Faults> {
        self.faults.0.extend(unknown_keys(self.node, &self.known).0);
        self.faults.0.sort_by_key(|fault| fault.place.as_ref().map(|place| (place.line, place.column)));
        match value {
            Some(value) => self.faults.or(value),
            None => Err(self.faults),
        }
    }

    /// Where the mapping stands.
    pub fn place(&self) -> &'node Place {
        &self.node.place
    }
}

/// A key without a value.
pub fn no_value(entry: &Entry) -> Fault {
    let fault = Fault::input(format!("`{}` has no value", entry.key)).at(&entry.key_place);
    fault.hint("write it, or remove the key")
}

/// A text; a whole number without quotes is its digits. One with a fraction is refused: `1.10` would become `1.1`.
pub fn text(node: &Node) -> Result<Placed<String>, Fault> {
    let value = match &node.value {
        Value::Text { text, .. } => text.clone(),
        Value::Int(number) => number.to_string(),
        _ => return Err(expected(node, "a text")),
    };
    Ok(Placed { value, place: node.place.clone() })
}

/// A boolean, strictly.
pub fn truth(node: &Node) -> Result<bool, Faults> {
    super::with(node, |reader| serde::Deserialize::deserialize(reader))
}

/// A list of texts, or one text.
pub fn texts(node: &Node) -> Result<Vec<Placed<String>>, Faults> {
    let Value::List(items) = &node.value else { return Ok(vec![text(node)?]) };
    let mut faults = Faults::default();
    let texts: Vec<_> = items.iter().filter_map(|item| faults.keep(text(item))).collect();
    faults.or(texts)
}
