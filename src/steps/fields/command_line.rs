//! Commands as users write them.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, SeqAccess, Visitor},
};

use crate::{
    base::{Fault, FaultKind},
    steps::{Desk, fields::Word},
};

/// A program and its arguments: a list, or a text that is split at blanks as a shell would split it, quotes heeded.
/// Nothing else of a shell is there: no pipes, no redirections, no variables, no globs. What looks like one in a text
/// is refused, since it would be handed to the program as an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine(pub Vec<String>);

/// What stands between blanks in a shell's line and is no argument.
const OPERATORS: &[&str] = &["|", "||", "&&", "&", ";", "|&"];

/// How a redirection begins, its file behind it or apart.
const REDIRECTIONS: &[&str] = &[">", "<", "1>", "2>", "&>"];

impl CommandLine {
    /// Splits a text. The error is a sentence.
    pub fn split(text: &str) -> Result<Self, String> {
        let words = shlex::split(text).ok_or_else(|| format!("a quote in {text:?} is not closed"))?;
        if let Some(operator) = as_written(text).find(|word| is_for_a_shell(word)) {
            return Err(format!(
                "no shell reads this, so {operator:?} would be an argument; give it to one (`shell:`, or sh -c '…'), or \
                 write a list where it is meant as one"
            ));
        }
        CommandLine::of(words)
    }

    fn of(words: Vec<String>) -> Result<Self, String> {
        if words.first().is_none_or(String::is_empty) {
            return Err("an empty command; name a program".into());
        }
        match words.iter().find(|word| word.contains('\0')) {
            Some(_) => Err("a command cannot hold a NUL".into()),
            None => Ok(CommandLine(words)),
        }
    }
}

impl CommandLine {
    /// Refuses sensitive values among the arguments.
    pub fn check(&self, desk: &dyn Desk) -> Result<(), Fault> {
        self.0.iter().try_for_each(|argument| refuse_secret(desk, argument, "an argument", HANDED_OVER))
    }
}

/// The words of a line as they are written, quotes and backslashes included.
fn as_written(text: &str) -> impl Iterator<Item = &str> {
    let (mut quote, mut is_escaped) = (None, false);
    text.split(move |c: char| {
        match (quote, c) {
            _ if is_escaped => is_escaped = false,
            (None | Some('"'), '\\') => is_escaped = true,
            (None, '\'' | '"') => quote = Some(c),
            (None, _) => return c.is_ascii_whitespace(),
            (Some(open), _) if open == c => quote = None,
            (Some(_), _) => {}
        }
        false
    })
}

fn is_for_a_shell(word: &str) -> bool {
    let ends_command = word.ends_with(';') && !word.ends_with("\\;");
    ends_command || OPERATORS.contains(&word) || REDIRECTIONS.iter().any(|redirection| word.starts_with(redirection))
}

/// How a command gets what nobody else may see.
pub const HANDED_OVER: &str = "hand it over in `stdin`, or in the step's `environment`";

/// A sensitive value must not stand in a process list. `part` says what may hold one, `hint` where it belongs.
pub fn refuse_secret(desk: &dyn Desk, text: &str, part: &str, hint: &str) -> Result<(), Fault> {
    if !desk.holds_secret(text) {
        return Ok(());
    }
    let message = format!("{part} holds a sensitive value, which every user of the host could see");
    Err(Fault::new(FaultKind::Policy, message).hint(hint))
}

impl<'de> Deserialize<'de> for CommandLine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return CommandLine::of(Vec::deserialize(deserializer)?).map_err(D::Error::custom);
        }
        deserializer.deserialize_any(CommandVisitor)
    }
}

struct CommandVisitor;

impl<'de> Visitor<'de> for CommandVisitor {
    type Value = CommandLine;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command: a text or a list of arguments")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<CommandLine, E> {
        CommandLine::split(text).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<CommandLine, A::Error> {
        let mut words = Vec::new();
        while let Some(Word(word)) = items.next_element()? {
            words.push(word);
        }
        CommandLine::of(words).map_err(A::Error::custom)
    }
}

impl Serialize for CommandLine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

#[cfg(feature = "controller")]
impl schemars::JsonSchema for CommandLine {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "command".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "title": "command",
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_split_as_a_shell_would() {
        let split = |text: &str| CommandLine::split(text).map(|line| line.0);
        assert_eq!(split("cp -a 'a b' \"c d\"").unwrap(), ["cp", "-a", "a b", "c d"]);
        assert_eq!(split("grep a;b /x").unwrap(), ["grep", "a;b", "/x"]);
        assert_eq!(split("sh -c 'a | b'").unwrap(), ["sh", "-c", "a | b"]);
        assert_eq!(split("cut -d '|' x").unwrap(), ["cut", "-d", "|", "x"]);
        assert_eq!(split("find . -exec rm {} \\; -o -name ';'").unwrap()[4..], ["{}", ";", "-o", "-name", ";"]);
        assert_eq!(
            split("grep '>x y' \"a >b c;\" \\>d e>f 3>g").unwrap()[1..],
            [">x y", "a >b c;", ">d", "e>f", "3>g"]
        );
        for glued in [">/tmp/x", ">>x", ">\"x\"", "2>/dev/null", "2>&1", "&>x", "</etc/hosts", "<<<x", "x;"] {
            assert!(split(&format!("echo hi {glued}")).unwrap_err().contains("no shell reads this"), "{glued}");
        }
        assert!(split("ps ax | grep x").unwrap_err().contains("`shell:`"));
        assert!(split("echo 'a").unwrap_err().contains("not closed"));
        assert!(split("  ").is_err() && split("''").is_err());
    }

    #[test]
    fn a_list_is_taken_as_it_is() {
        let read = |json: &str| serde_json::from_str::<CommandLine>(json).map(|line| line.0);
        assert_eq!(read("[\"sleep\", 5, \"|\"]").unwrap(), ["sleep", "5", "|"]);
        assert!(read("[]").is_err() && read("{}").is_err() && read("[\"a\\u0000\"]").is_err());
    }
}
