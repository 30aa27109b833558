//! Words, durations, and lists that may be written as one value.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, IntoDeserializer, SeqAccess, Visitor, value},
};

/// A text; a whole number stands for its digits. For what is usually a name but may be a number: owners, arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word(pub String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return String::deserialize(deserializer).map(Word);
        }
        deserializer.deserialize_any(WordVisitor)
    }
}

struct WordVisitor;

impl Visitor<'_> for WordVisitor {
    type Value = Word;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a whole number")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Word, E> {
        Ok(Word(text.to_owned()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Word, E> {
        Ok(Word(number.to_string()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Word, E> {
        Ok(Word(number.to_string()))
    }
}

impl Serialize for Word {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// A stretch of time in milliseconds, written `500ms`, `10s`, `5m`, `1h`; a bare number means seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Milliseconds.
    pub ms: u64,
}

impl Span {
    /// The longest that can be written: 30 days.
    pub const MS_MAX: u64 = 30 * 24 * 3600 * 1000;

    /// This many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Span { ms: seconds * 1000 }
    }

    /// Reads the text form. The error is a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let factor = match unit {
            "ms" => 1,
            "" | "s" => 1000,
            "m" => 60 * 1000,
            "h" => 3600 * 1000,
            _ => return Err(format!("{text:?} is no duration; write 500ms, 10s, 5m or 1h")),
        };
        let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
        let ms = ms.filter(|ms| *ms <= Span::MS_MAX);
        ms.map(|ms| Span { ms }).ok_or_else(|| format!("{text:?} is no duration of at most 30 days"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ms {
            ms if ms % 1000 != 0 => write!(f, "{ms}ms"),
            ms => write!(f, "{}s", ms / 1000),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return u64::deserialize(deserializer).map(|ms| Span { ms });
        }
        let Word(text) = Word::deserialize(deserializer)?;
        Span::parse(&text).map_err(D::Error::custom)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.ms.serialize(serializer) }
    }
}

/// One value, or a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OneOrMore<T>(pub Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return Vec::deserialize(deserializer).map(OneOrMore);
        }
        deserializer.deserialize_any(OneOrMoreVisitor(PhantomData))
    }
}

struct OneOrMoreVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> OneOrMoreVisitor<T> {
    fn one<D: Deserializer<'de>>(deserializer: D) -> Result<OneOrMore<T>, D::Error> {
        Ok(OneOrMore(vec![T::deserialize(deserializer)?]))
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrMoreVisitor<T> {
    type Value = OneOrMore<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or a list of values")
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Self::Value, E> {
        Self::one(truth.into_deserializer())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Self::one(number.into_deserializer())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Self::one(number.into_deserializer())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        Self::one(number.into_deserializer())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Self::one(IntoDeserializer::<E>::into_deserializer(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(value::SeqAccessDeserializer::new(items)).map(OneOrMore)
    }
}

impl<T: Serialize> Serialize for OneOrMore<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// One text or a list of texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts(pub Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        OneOrMore::deserialize(deserializer).map(|OneOrMore(texts)| Texts(texts))
    }
}

impl Serialize for Texts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

#[cfg(feature = "controller")]
mod schema {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    use super::{OneOrMore, Span, Texts, Word};

    impl JsonSchema for Word {
        fn schema_name() -> Cow<'static, str> {
            "word".into()
        }

        fn inline_schema() -> bool {
            true
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({"type": ["string", "integer"], "title": "text"})
        }
    }

    impl JsonSchema for Span {
        fn schema_name() -> Cow<'static, str> {
            "duration".into()
        }

        fn inline_schema() -> bool {
            true
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({"type": ["string", "integer"], "title": "duration", "pattern": "^[0-9]+(ms|s|m|h)?$"})
        }
    }

    impl<T: JsonSchema> JsonSchema for OneOrMore<T> {
        fn schema_name() -> Cow<'static, str> {
            format!("{} or list", T::schema_name()).into()
        }

        fn inline_schema() -> bool {
            true
        }

        fn json_schema(generator: &mut SchemaGenerator) -> Schema {
            let one = generator.subschema_for::<T>();
            json_schema!({"anyOf": [one.clone(), {"type": "array", "items": one}]})
        }
    }

    impl JsonSchema for Texts {
        fn schema_name() -> Cow<'static, str> {
            "text or list".into()
        }

        fn inline_schema() -> bool {
            true
        }

        fn json_schema(generator: &mut SchemaGenerator) -> Schema {
            OneOrMore::<String>::json_schema(generator)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_bounds() {
        let read =
            |json: &str| serde_json::from_str::<Span>(json).map(|span| span.ms).map_err(|error| error.to_string());
        assert_eq!(read("\"500ms\"").unwrap(), 500);
        assert_eq!(read("2").unwrap(), 2000);
        assert_eq!(read("\"5m\"").unwrap(), 300_000);
        assert_eq!(read("\"720h\"").unwrap(), Span::MS_MAX);
        for wrong in ["\"721h\"", "\"1 s\"", "\"-1s\"", "\"s\"", "\"99999999999999999999\"", "-1", "1.5"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_value_is_a_list_of_one() {
        let numbers = |json: &str| serde_json::from_str::<OneOrMore<u16>>(json).map(|many| many.0).ok();
        assert_eq!(numbers("200"), Some(vec![200]));
        assert_eq!(numbers("[200, 204]"), Some(vec![200, 204]));
        assert_eq!(numbers("[200, \"x\"]"), None);
        assert_eq!(numbers("true"), None);
        assert_eq!(serde_json::from_str::<Texts>("\"a\"").unwrap().0, ["a"]);
        let packed = postcard::to_stdvec(&OneOrMore(vec![1u16, 2])).unwrap();
        assert_eq!(postcard::from_bytes::<OneOrMore<u16>>(&packed).unwrap().0, [1, 2]);
    }
}
