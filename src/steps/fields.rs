//! Types of fields that several kinds share. Each refuses what it cannot mean, so that no kind has to check.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, SeqAccess, Visitor},
};

use crate::base::ByteText;

/// Permission bits, written as quoted octal digits: `"0644"`. A bare number is refused, since YAML readers do not
/// agree whether `0644` is octal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(pub u32);

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return u32::deserialize(deserializer).map(Mode);
        }
        deserializer.deserialize_any(ModeVisitor)
    }
}

struct ModeVisitor;

impl Visitor<'_> for ModeVisitor {
    type Value = Mode;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mode in quotes, as in \"0644\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Mode, E> {
        let octal = (3..=5).contains(&text.len()) && text.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
        let bits = u32::from_str_radix(text, 8).ok().filter(|bits| octal && *bits <= 0o7777);
        bits.map(Mode).ok_or_else(|| E::custom(format_args!("{text:?} is no mode; write octal digits as in \"0644\"")))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Mode, E> {
        Err(E::custom(format_args!("a mode must be in quotes, \"0{number}\", for YAML readers differ on bare octals")))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Mode, E> {
        self.visit_i64(number as i64)
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(&format_args!("{:04o}", self.0))
        } else {
            self.0.serialize(serializer)
        }
    }
}

/// An absolute path on the target: no `.`, no `..`, no doubled or trailing slash, no NUL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbsolutePath(pub ByteText);

impl AbsolutePath {
    /// Checks a path. The error is a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let trimmed = if text.len() > 1 { text.trim_end_matches('/') } else { text };
        if !trimmed.starts_with('/') {
            return Err(format!("{text:?} is no absolute path; begin it with a slash"));
        }
        if trimmed.len() > 4095 || trimmed.contains('\0') {
            return Err(format!("{:.64?} is no path: too long, or with a NUL in it", text));
        }
        if trimmed.len() > 1 && trimmed[1..].split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(format!("{text:?} must be written without \".\", \"..\" and doubled slashes"));
        }
        Ok(AbsolutePath(ByteText::from(trimmed)))
    }
}

impl<'de> Deserialize<'de> for AbsolutePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        AbsolutePath::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Serialize for AbsolutePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(&self.0.0).expect("made from text"))
    }
}

/// One text or a list of texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts(pub Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return Vec::deserialize(deserializer).map(Texts);
        }
        deserializer.deserialize_any(TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of texts")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Texts, E> {
        Ok(Texts(vec![text.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Texts, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = items.next_element()? {
            texts.push(text);
        }
        Ok(Texts(texts))
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

    use super::{AbsolutePath, Mode, Texts};

    impl JsonSchema for Mode {
        fn schema_name() -> Cow<'static, str> {
            "mode".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({"type": "string", "pattern": "^[0-7]{3,5}$"})
        }
    }

    impl JsonSchema for AbsolutePath {
        fn schema_name() -> Cow<'static, str> {
            "path".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({"type": "string", "pattern": "^/"})
        }
    }

    impl JsonSchema for Texts {
        fn schema_name() -> Cow<'static, str> {
            "text or list".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({"type": ["string", "array"], "items": {"type": "string"}})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_quoted_octals() {
        let read = |json: &str| serde_json::from_str::<Mode>(json).map_err(|error| error.to_string());
        assert_eq!(read("\"0644\"").unwrap(), Mode(0o644));
        assert_eq!(read("\"4755\"").unwrap(), Mode(0o4755));
        assert!(read("644").unwrap_err().contains("must be in quotes"));
        assert!(read("\"0888\"").is_err() && read("\"u+x\"").is_err() && read("\"77777\"").is_err());
    }

    #[test]
    fn paths_are_absolute_and_plain() {
        assert_eq!(AbsolutePath::parse("/etc/").unwrap().0, "/etc".into());
        assert_eq!(AbsolutePath::parse("/").unwrap().0, "/".into());
        for wrong in ["", "etc", "/a/../b", "/a//b", "/./a", "/a\0b"] {
            assert!(AbsolutePath::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
