//! What a YAML file says, every value with its place.

use serde::{Deserialize, Serialize};

use crate::base::Place;

/// A value of a file and where it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// What it says.
    pub value: Value,
    /// Where it says it.
    pub place: Place,
}

/// What a YAML value can be, read strictly: only `true` and `false` are booleans, a number has no leading
/// zero, and everything that other readers would guess at (`NO`, `0644`, `1_000`) stays the text it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A decimal integer.
    Int(i64),
    /// A decimal fraction.
    Float(f64),
    /// Everything else that is scalar.
    Text {
        /// The text.
        text: String,
        /// Written without quotes, so that what looks like a number or a boolean may have been meant as one.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A mapping in the order of the file; keys are unique texts.
    Map(Vec<Entry>),
}

/// One key of a mapping and its value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_place: Place,
    /// The value.
    pub value: Node,
}

impl Node {
    /// A quoted text at `place`.
    pub fn text(text: impl Into<String>, place: &Place) -> Self {
        Node { value: Value::Text { text: text.into(), plain: false }, place: place.clone() }
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The entries, if it is a mapping.
    pub fn as_map(&self) -> Option<&[Entry]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value under `key`, if it is a mapping that has it.
    pub fn child(&self, key: &str) -> Option<&Node> {
        self.as_map()?.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// What it is, for messages: `a list`, `the number 7`.
    pub fn what(&self) -> String {
        match &self.value {
            Value::Null => "nothing".into(),
            Value::Bool(b) => format!("the boolean {b}"),
            Value::Int(n) => format!("the number {n}"),
            Value::Float(x) => format!("the number {x}"),
            Value::Text { text, plain: true } => format!("the unquoted text {text}"),
            Value::Text { text, plain: false } => format!("the text {text:?}"),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a mapping".into(),
        }
    }

    /// The data without places, as templates see it.
    pub fn to_data(&self) -> serde_json::Value {
        use serde_json::Value as Data;
        match &self.value {
            Value::Null => Data::Null,
            Value::Bool(b) => Data::Bool(*b),
            Value::Int(n) => Data::from(*n),
            Value::Float(x) => Data::from(*x),
            Value::Text { text, .. } => Data::String(text.clone()),
            Value::List(items) => items.iter().map(Node::to_data).collect(),
            Value::Map(entries) => entries.iter().map(|e| (e.key.clone(), e.value.to_data())).collect(),
        }
    }

    /// Data put at a place, as when a template's output takes the place of the template.
    pub fn from_data(data: &serde_json::Value, place: &Place) -> Self {
        use serde_json::Value as Data;
        let value = match data {
            Data::Null => Value::Null,
            Data::Bool(b) => Value::Bool(*b),
            Data::Number(n) => n.as_i64().map(Value::Int).unwrap_or(Value::Float(n.as_f64().unwrap_or(f64::NAN))),
            Data::String(text) => Value::Text { text: text.clone(), plain: false },
            Data::Array(items) => Value::List(items.iter().map(|item| Node::from_data(item, place)).collect()),
            Data::Object(map) => Value::Map(
                map.iter()
                    .map(|(key, item)| Entry {
                        key: key.clone(),
                        key_place: place.clone(),
                        value: Node::from_data(item, place),
                    })
                    .collect(),
            ),
        };
        Node { value, place: place.clone() }
    }
}
