//! Filters, tests and functions: the engine's, and those that Ansible's users expect beside them.

mod data;
mod encode;
mod matching;
mod text;

use minijinja::{Environment, Error, ErrorKind};

/// Every filter by name, for messages and the manual.
pub(super) const FILTERS: &[&str] = &[
    "abs",
    "attr",
    "b64decode",
    "b64encode",
    "basename",
    "batch",
    "bool",
    "capitalize",
    "chain",
    "combine",
    "count",
    "d",
    "default",
    "dict2items",
    "dictsort",
    "difference",
    "dirname",
    "first",
    "flatten",
    "float",
    "format",
    "from_json",
    "groupby",
    "hash",
    "indent",
    "int",
    "intersect",
    "items",
    "items2dict",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "mandatory",
    "map",
    "max",
    "min",
    "pprint",
    "quote",
    "regex_escape",
    "regex_findall",
    "regex_replace",
    "regex_search",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "slice",
    "sort",
    "split",
    "splitext",
    "string",
    "sum",
    "ternary",
    "title",
    "to_json",
    "to_nice_json",
    "tojson",
    "trim",
    "union",
    "unique",
    "upper",
    "urlencode",
    "zip",
];

/// Every test by name.
pub(super) const TESTS: &[&str] = &[
    "boolean",
    "contains",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "equalto",
    "even",
    "false",
    "filter",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "int",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "match",
    "ne",
    "none",
    "number",
    "odd",
    "regex",
    "sameas",
    "search",
    "sequence",
    "startingwith",
    "string",
    "test",
    "true",
    "undefined",
    "upper",
    "version",
];

/// Every function by name.
pub(super) const FUNCTIONS: &[&str] = &["dict", "namespace", "range"];

/// What to write instead of a filter or test of Ansible's that is not here.
pub(super) fn instead(name: &str) -> Option<&'static str> {
    match name {
        "to_yaml" | "to_nice_yaml" => Some("JSON is YAML too: use `to_nice_json`"),
        "from_yaml" => Some("use `from_json`, or put the value into vars"),
        "changed" | "failed" | "succeeded" | "skipped" | "success" => {
            Some("a step's result has fields: `steps.<id>.changed`")
        }
        "expanduser" | "realpath" | "fileglob" | "exists" | "file" | "directory" => {
            Some("templates do not look at file systems")
        }
        "safe" | "escape" | "e" => Some("nothing is escaped here, so that there is nothing to mark as safe"),
        "password_hash" => Some("give the hash itself as a sensitive param"),
        _ => None,
    }
}

/// Puts ours beside the engine's and takes away what has no meaning here.
pub(super) fn install(env: &mut Environment<'static>) {
    for name in ["safe", "escape", "e"] {
        env.remove_filter(name);
    }
    for name in ["safe", "escaped"] {
        env.remove_test(name);
    }
    // It would print every variable.
    env.remove_global("debug");
    text::install(env);
    data::install(env);
    encode::install(env);
    matching::install(env);
}

/// The error of a filter that was given what it cannot take.
fn refuse(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> Environment<'static> {
        let mut env = Environment::new();
        install(&mut env);
        env
    }

    #[test]
    fn the_lists_are_sorted_and_name_what_is_there() {
        let env = env();
        for (list, test) in [(FILTERS, "filter"), (TESTS, "test")] {
            assert!(list.is_sorted());
            for name in list {
                let source = format!("{{{{ '{name}' is {test} }}}}");
                assert_eq!(env.render_str(&source, ()).unwrap(), "True", "{name}");
            }
        }
        let manual = include_str!("../../../docs/templates.md");
        for name in FILTERS.iter().chain(TESTS).chain(FUNCTIONS) {
            let told = [format!("`{name}`"), format!("`{name}(")].iter().any(|word| manual.contains(word));
            assert!(told, "docs/templates.md doesn't tell of {name}");
        }
        let functions: Vec<&str> = env.globals().map(|(name, _)| name).collect();
        assert_eq!(functions, FUNCTIONS);
    }
}
