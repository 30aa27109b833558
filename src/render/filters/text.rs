//! Filters over texts and paths.

use minijinja::{Environment, Error, Value, value::ValueKind};

use crate::render::filters::refuse;

pub(super) fn install(env: &mut Environment<'static>) {
    env.add_filter("quote", quote);
    env.add_filter("basename", basename);
    env.add_filter("dirname", dirname);
    env.add_filter("splitext", splitext);
    env.add_filter("bool", boolean);
}

/// A word of a shell line that means exactly the text.
fn quote(value: &Value) -> Result<String, Error> {
    let text = value.to_string();
    shlex::try_quote(&text).map(String::from).map_err(|_| refuse("a text with a NUL in it cannot be quoted"))
}

/// What follows the last slash.
fn basename(path: &str) -> String {
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

/// What stands before the last slash.
fn dirname(path: &str) -> String {
    match path.rsplit_once('/').map(|(parent, _)| parent.trim_end_matches('/')) {
        None => String::new(),
        Some("") => "/".to_owned(),
        Some(parent) => parent.to_owned(),
    }
}

/// The path without its last extension, and that extension with its dot.
fn splitext(path: &str) -> Value {
    let name = path.rsplit('/').next().unwrap_or_default();
    let stem = name.trim_start_matches('.');
    let dot = stem.rfind('.').map_or(path.len(), |at| path.len() - stem.len() + at);
    [&path[..dot], &path[dot..]].into_iter().map(Value::from).collect()
}

/// A boolean from what people write for one. Other words are errors: they were not meant as booleans.
fn boolean(value: &Value) -> Result<bool, Error> {
    match value.kind() {
        ValueKind::Bool => return Ok(value.is_true()),
        ValueKind::None => return Ok(false),
        _ => {}
    }
    match &*value.to_string().to_lowercase() {
        "yes" | "on" | "1" | "true" | "y" | "t" => Ok(true),
        "no" | "off" | "0" | "false" | "n" | "f" | "" => Ok(false),
        other => Err(refuse(format!("{other:.60?} is no boolean; `bool` takes true, false, yes, no, on, off, 1, 0"))),
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
    fn paths() {
        assert_eq!(render("{{ '/a/b.tar.gz' | basename }} {{ 'x' | basename }}"), "b.tar.gz x");
        assert_eq!(render("{{ '/a/b' | dirname }} {{ '/a' | dirname }} [{{ 'a' | dirname }}]"), "/a / []");
        assert_eq!(render("{{ '/a.d/b.tar.gz' | splitext | join(' ') }}"), "/a.d/b.tar .gz");
        assert_eq!(render("{{ '/a.d/.bashrc' | splitext | join('|') }}"), "/a.d/.bashrc|");
    }

    #[test]
    fn quoted_texts_are_one_word() {
        assert_eq!(render("{{ \"it's; rm -rf /\" | quote }}"), "\"it's; rm -rf /\"");
        assert_eq!(render("{{ '' | quote }} {{ 7 | quote }}"), "'' 7");
        assert!(render("{{ '\\u0000' | quote }}").contains("NUL"));
    }

    #[test]
    fn booleans_are_read_and_other_words_refused() {
        assert_eq!(
            render("{{ 'Yes' | bool }} {{ 'off' | bool }} {{ 1 | bool }} {{ none | bool }}"),
            "True False True False"
        );
        assert!(render("{{ 'maybe' | bool }}").contains("\"maybe\" is no boolean"));
    }
}
