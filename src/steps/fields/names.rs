//! The fields of a struct, in the order in which it declares them.

use std::fmt;

use serde::{
    Deserializer,
    de::{DeserializeOwned, Visitor},
    forward_to_deserialize_any,
};

/// The names of the fields that a struct is read from, as the user writes them.
pub fn names_of<T: DeserializeOwned>() -> &'static [&'static str] {
    match T::deserialize(Asking) {
        Err(Names(names)) => names,
        Ok(_) => &[],
    }
}

/// Reads nothing; learns what a struct asks for.
struct Asking;

/// What was asked for, given back by way of an error.
#[derive(Debug)]
struct Names(&'static [&'static str]);

impl<'de> Deserializer<'de> for Asking {
    type Error = Names;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Names> {
        Err(Names(&[]))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Names> {
        Err(Names(fields))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl serde::de::Error for Names {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Names(&[])
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing is read")
    }
}

impl std::error::Error for Names {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_in_the_order_of_their_declaration() {
        #[derive(serde::Deserialize)]
        #[expect(dead_code, reason = "only its field names matter")]
        struct Sample {
            second: u8,
            #[serde(rename = "called")]
            first: Option<u8>,
        }
        assert_eq!(names_of::<Sample>(), ["second", "called"]);
        assert_eq!(names_of::<u8>(), [""; 0]);
    }
}
