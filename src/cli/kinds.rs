//! `rollbook kinds`: the manual of the step kinds, made from their own doc comments.

use std::fmt::Write as _;

use anstyle::{Effects, Style};
use clap::Args;
use serde_json::{Value, json};

use crate::{
    base::{Fault, FaultKind, fault::nearest},
    cli::{Exit, Global},
    report,
    steps::{self, KINDS, Manual},
};

/// Columns of the manual's text.
const COLUMNS: usize = 92;

const BOLD: Style = Style::new().effects(Effects::BOLD);

#[derive(Debug, Args)]
pub(crate) struct KindsArgs {
    /// The kind whose manual to show; all kinds in one line each otherwise
    name: Option<String>,
}

pub(crate) fn run(args: &KindsArgs, global: &Global) -> Exit {
    let text = match (&args.name, global.json) {
        (None, false) => list(),
        (None, true) => list_json(),
        (Some(name), json) => match steps::find(name) {
            Some(kind) if json => format!("{}\n", kind_json(kind)),
            Some(kind) => manual(kind),
            None => {
                let fault = unknown(name);
                report::fault::print(&fault.clone().into());
                return fault.kind.into();
            }
        },
    };
    text.lines().for_each(report::write_line);
    Exit::Done
}

fn unknown(name: &str) -> Fault {
    let fault = Fault::new(FaultKind::Usage, format!("there is no step kind {name:?}"));
    match nearest(name, KINDS.iter().map(|kind| kind.name)) {
        Some(kind) => fault.hint(format!("did you mean `{kind}`?")),
        None => fault.hint("`rollbook kinds` lists them all"),
    }
}

/// Every kind with the first sentence of its manual.
fn list() -> String {
    let width = KINDS.iter().map(|kind| kind.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for kind in KINDS {
        let lines = wrapped(&summary(&(kind.schema)()), COLUMNS - width - 2);
        let indent = " ".repeat(width + 2);
        let _ = writeln!(text, "{BOLD}{:width$}{BOLD:#}  {}", kind.name, lines.join(&format!("\n{indent}")));
    }
    text.push_str("\n`rollbook kinds NAME` shows the manual of one.\n");
    text
}

fn list_json() -> String {
    let row = |kind: &Manual| json!({"name": kind.name, "summary": summary(&(kind.schema)())});
    KINDS.iter().map(|kind| format!("{}\n", row(kind))).collect()
}

fn kind_json(kind: &Manual) -> Value {
    json!({
        "name": kind.name,
        "short": kind.short,
        "expressions": kind.expressions,
        "example": kind.example,
        "schema": (kind.schema)(),
    })
}

/// The first sentence of a kind's own doc comment.
fn summary(schema: &schemars::Schema) -> String {
    let text = paragraphs(description(schema.as_value())).into_iter().next().unwrap_or_default();
    let end = text.find(". ").map_or(text.len(), |at| at + 1);
    text[..end].to_owned()
}

/// The whole manual of one kind.
fn manual(kind: &Manual) -> String {
    let schema = (kind.schema)();
    let mut text = format!("{BOLD}{}{BOLD:#}\n", kind.name);
    for paragraph in paragraphs(description(schema.as_value())) {
        put(&mut text, 2, &paragraph);
        text.push('\n');
    }
    let _ = writeln!(text, "{BOLD}Fields{BOLD:#}");
    for name in (kind.fields)() {
        field(&mut text, name, kind, schema.as_value());
    }
    let _ = writeln!(text, "{BOLD}Example{BOLD:#}");
    kind.example.lines().for_each(|line| text.push_str(&format!("  {line}\n").replace("  \n", "\n")));
    text
}

fn field(text: &mut String, name: &str, kind: &Manual, schema: &Value) {
    let (field, root) = (&schema["properties"][name], schema);
    let is_required = root["required"].as_array().is_some_and(|names| names.iter().any(|other| other == name));
    let mut notes = vec![match kind.expressions.contains(&name) {
        true => "expression, or list of these".to_owned(),
        false => type_words(field, root),
    }];
    if is_required {
        notes.push("required".into());
    }
    if kind.short == Some(name) {
        notes.push(format!("may stand alone, `{}: …`, the others beside it", kind.name));
    }
    let _ = writeln!(text, "  {BOLD}{name}{BOLD:#}  ({})", notes.join("; "));
    paragraphs(description(field)).iter().for_each(|paragraph| put(text, 6, paragraph));
    for (choice, meaning) in choices(field, root) {
        put(text, 8, &format!("{choice}: {meaning}"));
    }
    text.push('\n');
}

/// A field's type in words.
fn type_words(field: &Value, root: &Value) -> String {
    if let Some(title) = field["title"].as_str() {
        return title.to_owned();
    }
    let choices = choices(field, root);
    if !choices.is_empty() {
        return choices.into_iter().map(|(choice, _)| choice).collect::<Vec<_>>().join(" | ");
    }
    if let Some(kinds) = field["anyOf"].as_array() {
        let mut words: Vec<String> = Vec::new();
        for kind in kinds.iter().filter(|kind| kind["type"] != "null") {
            let word = type_words(kind, root);
            words.extend(Some(word).filter(|word| !words.contains(word)));
        }
        return words.join(" or ");
    }
    let kinds: Vec<&str> = match &field["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null").collect(),
        _ => Vec::new(),
    };
    let word = |kind: &&str| match *kind {
        "string" => "text",
        "integer" => "whole number",
        "boolean" => "true or false",
        "array" => "list",
        "object" => "mapping",
        _ => "value",
    };
    kinds.iter().map(word).collect::<Vec<_>>().join(" or ")
}

/// The words that a field may hold, where there are only a few, and what each means.
fn choices(field: &Value, root: &Value) -> Vec<(String, String)> {
    let own = || field["$ref"].as_str();
    let in_any = || field["anyOf"].as_array()?.iter().find_map(|kind| kind["$ref"].as_str());
    let Some(name) = own().or_else(in_any).and_then(|path| path.strip_prefix("#/$defs/")) else { return Vec::new() };
    let each = root["$defs"][name]["oneOf"].as_array().into_iter().flatten();
    each.filter_map(|choice| {
        let meaning = paragraphs(description(choice)).join(" ");
        Some((choice["const"].as_str()?.to_owned(), meaning))
    })
    .collect()
}

fn description(schema: &Value) -> &str {
    schema["description"].as_str().unwrap_or("")
}

/// Doc comments are broken into lines for the source; readers get whole paragraphs.
fn paragraphs(text: &str) -> Vec<String> {
    text.split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn put(text: &mut String, indent: usize, paragraph: &str) {
    for line in wrapped(paragraph, COLUMNS - indent) {
        let _ = writeln!(text, "{:indent$}{line}", "");
    }
}

/// Breaks a paragraph between words.
fn wrapped(paragraph: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in paragraph.split(' ') {
        let line = lines.last_mut().expect("there is always one");
        let needed = line.chars().count() + 1 + word.chars().count();
        if line.is_empty() {
            line.push_str(word);
        } else if needed <= columns {
            line.extend([" ", word]);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_and_field_is_explained() {
        for kind in KINDS {
            let schema = (kind.schema)();
            let own = summary(&schema);
            assert!(own.ends_with('.') && own.len() > 12, "{}: its struct needs a doc comment: {own:?}", kind.name);
            for name in (kind.fields)() {
                let field = &schema.as_value()["properties"][name];
                assert!(!description(field).is_empty(), "{}.{name} needs a doc comment", kind.name);
                let words = type_words(field, schema.as_value());
                assert!(!words.is_empty() && !words.contains("value"), "{}.{name}: {words:?}", kind.name);
                for (choice, meaning) in choices(field, schema.as_value()) {
                    assert!(!meaning.is_empty(), "{}.{name}: {choice} needs a doc comment", kind.name);
                }
            }
            if let Some(short) = kind.short {
                assert!((kind.fields)().contains(&short), "{}: SHORT is no field", kind.name);
            }
            kind.expressions.iter().for_each(|name| assert!((kind.fields)().contains(name), "{}: {name}", kind.name));
        }
    }

    #[test]
    fn a_manual_shows_types_choices_and_the_example() {
        let text = anstream::adapter::strip_str(&manual(steps::find("file").unwrap())).to_string();
        for part in [
            "  path  (absolute path; required)\n      The absolute path.\n",
            "  state  (absent | directory | file | link | touch)\n",
            "        directory: A directory.\n",
            "  mode  (quoted octal digits)\n",
            "Example\n  - name: the app has a directory\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
    }

    #[test]
    fn an_unknown_kind_gets_the_nearest_name() {
        assert_eq!(unknown("templat").hints, ["did you mean `template`?"]);
    }
}
