//! Contents that the controller takes in before a step is sent.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::model::state::Content;

/// A local file, by its name in the runbook; once the controller has taken it in, also its content's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalFile {
    /// Its name as the runbook has it.
    pub name: String,
    /// What is in it (for a template: what it rendered to).
    pub content: Option<Content>,
}

/// A text that becomes the content of a file. Once the controller has taken it in, only its content's name is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inline {
    /// As the runbook has it.
    Text(String),
    /// Taken in.
    Taken(Content),
}

impl LocalFile {
    /// The content.
    ///
    /// # Panics
    /// When the controller has not taken it in.
    pub fn taken(&self) -> Content {
        self.content.expect("the controller takes files in before it sends the step")
    }
}

impl Inline {
    /// The text's bytes for the controller to take in; none when that has been done.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Inline::Text(text) => Some(text.as_bytes().to_vec()),
            Inline::Taken(_) => None,
        }
    }

    /// The content.
    pub fn taken(&self) -> Content {
        match self {
            Inline::Text(text) => Content::of(text.as_bytes()),
            Inline::Taken(content) => *content,
        }
    }
}

impl<'de> Deserialize<'de> for LocalFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            let (name, content) = <(String, Content)>::deserialize(deserializer)?;
            return Ok(LocalFile { name, content: Some(content) });
        }
        let name = String::deserialize(deserializer)?;
        if name.is_empty() {
            return Err(D::Error::custom("an empty file name"));
        }
        Ok(LocalFile { name, content: None })
    }
}

impl Serialize for LocalFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return self.name.serialize(serializer);
        }
        let content = self.content.ok_or_else(|| serde::ser::Error::custom("a file that was not taken in"))?;
        (&self.name, content).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Inline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer).map(Inline::Text)
        } else {
            Content::deserialize(deserializer).map(Inline::Taken)
        }
    }
}

impl Serialize for Inline {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Inline::Text(text) if serializer.is_human_readable() => text.serialize(serializer),
            Inline::Taken(content) if !serializer.is_human_readable() => content.serialize(serializer),
            Inline::Taken(content) => serializer.collect_str(&content.digest),
            Inline::Text(_) => Err(serde::ser::Error::custom("a text that was not taken in")),
        }
    }
}

#[cfg(feature = "controller")]
mod schema {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    use super::{Inline, LocalFile};

    impl JsonSchema for LocalFile {
        fn schema_name() -> Cow<'static, str> {
            "local file".into()
        }

        fn inline_schema() -> bool {
            true
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({"type": "string", "title": "local file"})
        }
    }

    impl JsonSchema for Inline {
        fn schema_name() -> Cow<'static, str> {
            "text".into()
        }

        fn inline_schema() -> bool {
            true
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({"type": "string"})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_taken_in_is_sent() {
        let mut file: LocalFile = serde_json::from_str("\"motd\"").unwrap();
        assert!(postcard::to_stdvec(&file).is_err());
        file.content = Some(Content::of(b"hello"));
        let packed = postcard::to_stdvec(&file).unwrap();
        assert_eq!(postcard::from_bytes::<LocalFile>(&packed).unwrap(), file);

        let text: Inline = serde_json::from_str("\"hello\"").unwrap();
        assert!(postcard::to_stdvec(&text).is_err());
        let packed = postcard::to_stdvec(&Inline::Taken(text.taken())).unwrap();
        assert_eq!(postcard::from_bytes::<Inline>(&packed).unwrap(), Inline::Taken(Content::of(b"hello")));
    }
}
