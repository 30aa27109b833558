//! Permission bits.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
};

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
        Err(E::custom(format_args!("a mode must be in quotes, \"0{number}\", for YAML readers differ on bare octals")))
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

#[cfg(feature = "controller")]
impl schemars::JsonSchema for Mode {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "mode".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "title": "quoted octal digits", "pattern": "^[0-7]{3,5}$"})
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
}
