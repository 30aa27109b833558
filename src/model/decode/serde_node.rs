//! A serde deserializer over a node, whose errors know their places.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};

use crate::{
    base::{Fault, Faults, fault::nearest},
    model::node::{Entry, Node, Value},
};

/// A hint lists the keys where there are no more than these.
const KEYS_SHOWN: usize = 12;

/// Reads a typed value from a node, by a function that takes a deserializer.
pub fn with<T>(node: &Node, read: impl FnOnce(NodeReader<'_>) -> Result<T, Wrong>) -> Result<T, Faults> {
    read(NodeReader { node }).map_err(|wrong| wrong.of(node))
}

/// What serde says is wrong, placed as soon as it passes a node.
#[derive(Debug)]
pub enum Wrong {
    /// A sentence of the type's, not yet placed.
    Says(String),
    /// What the type expected instead, not yet placed.
    Expected(String),
    /// Placed.
    At(Faults),
}

impl Wrong {
    /// The faults, those without a place at that of the node that was read.
    fn of(self, node: &Node) -> Faults {
        match self {
            Wrong::Says(message) => Fault::input(message).at(&node.place).into(),
            Wrong::Expected(what) => expected(node, &what).into(),
            Wrong::At(faults) => faults,
        }
    }

    fn at(self, node: &Node) -> Wrong {
        Wrong::At(self.of(node))
    }
}

/// A node that is something else than what is needed.
pub(super) fn expected(node: &Node, what: &str) -> Fault {
    let fault = Fault::input(format!("expected {what}, and this is {}", node.what())).at(&node.place);
    let is_word = |text: &str| ["yes", "no", "on", "off", "true", "false"].contains(&text.to_lowercase().as_str());
    match &node.value {
        Value::Text { text, plain: true } if what == "true or false" && is_word(text) => {
            fault.hint("YAML readers differ on such words: write true or false")
        }
        Value::Float(_) | Value::Bool(_) if what.contains("a text") => {
            fault.hint("put it in quotes, so that it stays as it is written; of a template's value, write `| string`")
        }
        _ => fault,
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Says(message) | Wrong::Expected(message) => f.write_str(message),
            Wrong::At(faults) => faults.fmt(f),
        }
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Wrong::Says(message.to_string())
    }

    fn missing_field(field: &'static str) -> Self {
        Wrong::Says(format!("`{field}` is missing"))
    }

    fn invalid_type(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Wrong::Expected(expected.to_string())
    }
}

/// Reads one node.
#[derive(Clone, Copy)]
pub struct NodeReader<'node> {
    node: &'node Node,
}

impl NodeReader<'_> {
    fn expected<T>(self, what: &str) -> Result<T, Wrong> {
        Err(Wrong::At(expected(self.node, what).into()))
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $number:ty),+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
            match &self.node.value {
                Value::Int(number) => match <$number>::try_from(*number) {
                    Ok(number) => visitor.$visit(number),
                    Err(_) => self.expected(&format!("a whole number from {} to {}", <$number>::MIN, <$number>::MAX)),
                },
                _ => self.expected("a whole number"),
            }
        }
    )+};
}

impl<'de> Deserializer<'de> for NodeReader<'_> {
    type Error = Wrong;

    /// A plain text that looks like a number is shown as that number, so that a type that must have quotes can say so.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let visited = match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(truth) => visitor.visit_bool(*truth),
            Value::Int(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Text { text, plain } => match text.parse() {
                Ok(number) if *plain && text.starts_with('0') => visitor.visit_i64(number),
                _ => visitor.visit_str(text),
            },
            Value::List(_) => return self.deserialize_seq(visitor),
            Value::Map(_) => return self.deserialize_map(visitor),
        };
        visited.map_err(|wrong: Wrong| wrong.at(self.node))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.node.value {
            Value::Bool(truth) => visitor.visit_bool(*truth),
            _ => self.expected("true or false"),
        }
    }

    integers!(
        deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16, deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64, deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64
    );

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.node.value {
            Value::Int(number) => visitor.visit_f64(*number as f64),
            Value::Float(number) => visitor.visit_f64(*number),
            _ => self.expected("a number"),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    /// A number that was written without quotes is its text: there is one way to write it.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let visited = match &self.node.value {
            Value::Text { text, .. } => visitor.visit_str(text),
            Value::Int(number) => visitor.visit_str(&number.to_string()),
            _ => return self.expected("a text"),
        };
        visited.map_err(|wrong: Wrong| wrong.at(self.node))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            _ => self.expected("nothing"),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self).map_err(|wrong| wrong.at(self.node))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.node.value {
            Value::List(items) => visitor.visit_seq(Items(items.iter())).map_err(|wrong| wrong.at(self.node)),
            _ => self.expected("a list"),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.node.value {
            Value::Map(entries) => {
                visitor.visit_map(Entries { entries: entries.iter(), value: None }).map_err(|wrong| wrong.at(self.node))
            }
            _ => self.expected("a mapping"),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        let unknown = unknown_keys(self.node, fields);
        if !unknown.0.is_empty() {
            return Err(Wrong::At(unknown));
        }
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        let Value::Text { text, .. } = &self.node.value else {
            return self.expected(&format!("one of {}", variants.join(", ")));
        };
        if !variants.contains(&&**text) {
            let mut fault = Fault::input(format!("{text:?} is none of {}", variants.join(", "))).at(&self.node.place);
            if let Some(near) = nearest(text, variants.iter().copied()) {
                fault = fault.hint(format!("did you mean `{near}`?"));
            }
            return Err(Wrong::At(fault.into()));
        }
        visitor.visit_enum(Word(text)).map_err(|wrong| wrong.at(self.node))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_unit()
    }
}

/// A fault for each key of a mapping that is none of `known`.
pub(super) fn unknown_keys(node: &Node, known: &[&str]) -> Faults {
    let unknown = node.as_map().unwrap_or_default().iter().filter(|entry| !known.contains(&&*entry.key));
    Faults(unknown.map(|entry| unknown_key(entry, known)).collect())
}

fn unknown_key(entry: &Entry, known: &[&str]) -> Fault {
    let fault = Fault::input(format!("there is no key `{}` here", entry.key)).at(&entry.key_place);
    match nearest(&entry.key, known.iter().copied()) {
        Some(near) => fault.hint(format!("did you mean `{near}`?")),
        None if known.len() <= KEYS_SHOWN => fault.hint(format!("the keys are {}", known.join(", "))),
        None => fault,
    }
}

struct Items<'node>(std::slice::Iter<'node, Node>);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Wrong;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Wrong> {
        self.0.next().map(|node| read_placed(node, seed)).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Entries<'node> {
    entries: std::slice::Iter<'node, Entry>,
    value: Option<&'node Node>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Wrong> {
        let Some(entry) = self.entries.next() else { return Ok(None) };
        self.value = Some(&entry.value);
        let key = de::value::StrDeserializer::<Wrong>::new(&entry.key);
        seed.deserialize(key).map(Some).map_err(|wrong| wrong.at(&Node::text(&entry.key, &entry.key_place)))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Wrong> {
        read_placed(self.value.take().expect("serde asks for a value after its key"), seed)
    }
}

fn read_placed<'de, T: DeserializeSeed<'de>>(node: &Node, seed: T) -> Result<T::Value, Wrong> {
    seed.deserialize(NodeReader { node }).map_err(|wrong| wrong.at(node))
}

/// A unit variant by its name.
struct Word<'node>(&'node str);

impl<'de> EnumAccess<'de> for Word<'_> {
    type Error = Wrong;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Wrong> {
        let variant = seed.deserialize(de::value::StrDeserializer::<Wrong>::new(self.0))?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for Word<'_> {
    type Error = Wrong;

    fn unit_variant(self) -> Result<(), Wrong> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Wrong> {
        Err(de::Error::custom("this word takes no value"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Wrong> {
        Err(de::Error::custom("this word takes no value"))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Wrong> {
        Err(de::Error::custom("this word takes no value"))
    }
}
