//! Paths on the target.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::base::ByteText;

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
            return Err(format!("{text:.64?} is no path: too long, or with a NUL in it"));
        }
        if trimmed.len() > 1 && trimmed[1..].split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(format!("{text:?} must be written without \".\", \"..\" and doubled slashes"));
        }
        Ok(AbsolutePath(ByteText::from(trimmed)))
    }

    /// The path's text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0.0).expect("made from text")
    }
}

impl<'de> Deserialize<'de> for AbsolutePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        AbsolutePath::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Serialize for AbsolutePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Where a file is to be put: its own path, or, ending in a slash, the directory to put it into under its source's
/// name. Which of both it is depends on what the runbook says alone, never on what the host happens to have there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The path of the file, or of the directory.
    pub path: AbsolutePath,
    /// It is the directory.
    pub into: bool,
}

impl Destination {
    /// The file's own path, for a source called `name` (its last part is taken).
    pub fn settle(&mut self, name: &str) -> Result<(), String> {
        if self.into {
            let (last, folder) = (name.rsplit('/').next().unwrap_or(name), self.path.as_str().trim_end_matches('/'));
            self.path = AbsolutePath::parse(&format!("{folder}/{last}"))?;
            self.into = false;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Destination {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let path = AbsolutePath::parse(&text).map_err(D::Error::custom)?;
        Ok(Destination { path, into: text.ends_with('/') })
    }
}

impl Serialize for Destination {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.into {
            true if self.path.as_str() != "/" => serializer.collect_str(&format_args!("{}/", self.path.as_str())),
            _ => self.path.serialize(serializer),
        }
    }
}

#[cfg(feature = "controller")]
mod schema {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    use super::{AbsolutePath, Destination};

    impl JsonSchema for AbsolutePath {
        fn schema_name() -> Cow<'static, str> {
            "path".into()
        }

        fn inline_schema() -> bool {
            true
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({"type": "string", "title": "absolute path", "pattern": "^/"})
        }
    }

    impl JsonSchema for Destination {
        fn schema_name() -> Cow<'static, str> {
            "destination".into()
        }

        fn inline_schema() -> bool {
            true
        }

        fn json_schema(generator: &mut SchemaGenerator) -> Schema {
            AbsolutePath::json_schema(generator)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_plain() {
        assert_eq!(AbsolutePath::parse("/etc/").unwrap().0, "/etc".into());
        assert_eq!(AbsolutePath::parse("/").unwrap().0, "/".into());
        for wrong in ["", "etc", "/a/../b", "/a//b", "/./a", "/a\0b"] {
            assert!(AbsolutePath::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_slash_at_the_end_puts_a_file_into_a_directory() {
        let settled = |dest: &str| {
            let mut dest: Destination = serde_json::from_value(dest.into()).unwrap();
            let packed = postcard::to_stdvec(&dest).unwrap();
            assert_eq!(postcard::from_bytes::<Destination>(&packed).unwrap(), dest);
            dest.settle("files/motd").unwrap();
            dest.path.as_str().to_owned()
        };
        assert_eq!(settled("/etc/"), "/etc/motd");
        assert_eq!(settled("/etc"), "/etc");
        assert_eq!(settled("/"), "/motd");
    }
}
