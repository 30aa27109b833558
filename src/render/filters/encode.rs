//! Filters from and to JSON, base64 and digests.

#![expect(clippy::needless_pass_by_value, reason = "the engine hands filters their arguments by value")]

use base64ct::{Base64, Encoding as _};
use minijinja::{Environment, Error, Value, value::Kwargs};
use serde::Serialize as _;
use serde_json::{
    Value as Data,
    ser::{Formatter, PrettyFormatter, Serializer},
};

use crate::{
    base::Digest,
    render::{filters::refuse, value},
};

pub(super) fn install(env: &mut Environment<'static>) {
    env.add_filter("to_json", to_json);
    env.add_filter("to_nice_json", to_nice_json);
    env.add_filter("from_json", from_json);
    env.add_filter("b64encode", b64encode);
    env.add_filter("b64decode", b64decode);
    env.add_filter("hash", hash);
}

/// JSON in one line, with the blanks that Python puts.
fn to_json(value: &Value) -> Result<String, Error> {
    write(&value::to_data(value)?, Spaced)
}

/// JSON over several lines, keys sorted: the same data gives the same text.
fn to_nice_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent = options.get::<Option<usize>>("indent")?.unwrap_or(4);
    options.assert_all_used()?;
    if indent > 16 {
        return Err(refuse(format!("`to_nice_json` can indent by 16 at most, not {indent}")));
    }
    let mut data = value::to_data(value)?;
    data.sort_all_objects();
    write(&data, PrettyFormatter::with_indent(" ".repeat(indent).as_bytes()))
}

fn write(data: &Data, formatter: impl Formatter) -> Result<String, Error> {
    let mut bytes = Vec::new();
    let written = data.serialize(&mut Serializer::with_formatter(&mut bytes, formatter));
    written.map_err(|error| refuse(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| refuse(error.to_string()))
}

/// `{"a": 1, "b": 2}`
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

/// Data from JSON.
fn from_json(text: &str) -> Result<Value, Error> {
    let data: Data = serde_json::from_str(text).map_err(|error| refuse(format!("this is no JSON: {error}")))?;
    Ok(value::from_data(&data))
}

fn b64encode(text: &str) -> String {
    Base64::encode_string(text.as_bytes())
}

/// The text behind base64, line ends in it passed over. Bytes that are no UTF-8 text are an error.
fn b64decode(text: &str) -> Result<String, Error> {
    let packed: String = text.split_ascii_whitespace().collect();
    let bytes = Base64::decode_vec(&packed).map_err(|_| refuse("this is no base64"))?;
    String::from_utf8(bytes).map_err(|_| refuse("what stands in this base64 is no UTF-8 text"))
}

/// The hex digest of a text.
fn hash(text: &str, algorithm: &str) -> Result<String, Error> {
    match algorithm {
        "sha256" => Ok(Digest::of(text.as_bytes()).to_string()),
        other => Err(refuse(format!("`hash` knows sha256, not {other:.20}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> String {
        let mut env = Environment::new();
        install(&mut env);
        env.render_str(source, ()).unwrap_or_else(|error| format!("error: {error}"))
    }

    #[test]
    fn json() {
        assert_eq!(render("{{ {'b': [1, 2.5], 'a': none} | to_json }}"), r#"{"b": [1, 2.5], "a": null}"#);
        assert_eq!(render("{{ {'b': 1, 'a': {}} | to_nice_json(indent=1) }}"), "{\n \"a\": {},\n \"b\": 1\n}");
        assert_eq!(render("{{ ('{\"a\": [18446744073709551615]}' | from_json).a[0] }}"), "18446744073709551615");
        assert!(render("{{ '{' | from_json }}").contains("this is no JSON"));
        assert!(render("{{ [missing] | to_json }}").contains("undefined"));
    }

    #[test]
    fn base64_and_digests() {
        assert_eq!(render("{{ 'grüße' | b64encode }} {{ 'Z3LD\nvMOfZQ==' | b64decode }}"), "Z3LDvMOfZQ== grüße");
        assert!(render("{{ '/w==' | b64decode }}").contains("no UTF-8"));
        assert!(render("{{ '%' | b64decode }}").contains("no base64"));
        assert!(render("{{ 'abc' | hash('sha256') }}").starts_with("ba7816bf"));
        assert!(render("{{ 'abc' | hash('md5') }}").contains("knows sha256"));
    }
}
