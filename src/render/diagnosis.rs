//! From the template engine's errors to faults with a place in the user's file.

use std::{error::Error as _, sync::Arc};

use minijinja::{Error, ErrorKind, Value};
use serde_json::Value as Data;

use crate::{
    base::{Fault, Place, fault::nearest},
    render::{
        engine::{EXPRESSION, Engine, FILE, OUTPUT_MAX, PRINT_OPEN, PRINTED, SET_OPEN, TEXT},
        files::TEMPLATE_FOLDERS,
        filters,
        scope::{Halted, RenderHalt, Shared},
        spot,
    },
};

/// What was rendered, and where the user wrote it.
pub(super) struct Source<'a> {
    form: &'static str,
    /// The text itself, or the file's path.
    text: &'a str,
    /// Where the text stands, or where the file is named.
    pub(super) place: &'a Place,
}

impl<'a> Source<'a> {
    pub(super) fn text(text: &'a str, place: &'a Place) -> Self {
        Source { form: TEXT, text, place }
    }

    pub(super) fn expression(text: &'a str, place: &'a Place) -> Self {
        Source { form: EXPRESSION, text, place }
    }

    pub(super) fn file(path: &'a str, place: &'a Place) -> Self {
        Source { form: FILE, text: path, place }
    }

    /// The template's name in the engine.
    pub(super) fn name(&self) -> String {
        format!("{}{}", self.form, self.text)
    }
}

/// Why a rendering of `source` failed with `error`.
pub(super) fn halt(error: &Error, source: &Source<'_>, shared: &Arc<Shared>, root: Value) -> RenderHalt {
    // What was raised first counts, even where a filter made another error of it.
    let raised = shared.raised();
    if let Some(halt) = halted(error).or(raised) {
        let place = locate(error, None, source, &shared.engine);
        return placed(halt, &place);
    }
    let traced = match error.kind() {
        ErrorKind::OutOfFuel | ErrorKind::SyntaxError => None,
        _ => shared.engine.trace(&source.name(), root.clone()),
    };
    shared.raised();
    let error = innermost(traced.as_ref().unwrap_or(error));
    let undefined = undefined_in(error).map(str::to_owned).or_else(|| match error.kind() {
        ErrorKind::UndefinedError => missing_name(source, shared),
        _ => None,
    });
    let undefined = undefined.as_deref();
    let place = locate(error, undefined, source, &shared.engine);
    let fault = match undefined {
        Some(expression) => undefined_fault(expression, shared, root),
        None => missing_file(error, shared).unwrap_or_else(|| describe(error)),
    };
    let fault = if error.kind() == ErrorKind::SyntaxError { with_braces(fault, source) } else { fault };
    let fault = fault.at(&place);
    RenderHalt::from(if place.file == source.place.file { fault } else { named_at(fault, source) })
}

/// The hint for an expression that is written as a template.
fn with_braces(fault: Fault, source: &Source<'_>) -> Fault {
    if source.form != EXPRESSION || !source.text.contains("{{") {
        return fault;
    }
    let inner = source.text.trim().strip_prefix("{{").and_then(|text| text.strip_suffix("}}"));
    match inner.filter(|inner| !inner.contains("{{")) {
        Some(inner) => fault.hint(format!("an expression has no braces: write `{}`", inner.trim())),
        None => fault.hint("an expression has no braces around its names"),
    }
}

fn named_at(mut fault: Fault, source: &Source<'_>) -> Fault {
    fault.causes.push(format!("this template is used at {}", source.place));
    fault
}

/// The halt with a place, if it has none of its own.
pub(super) fn placed(halt: RenderHalt, place: &Place) -> RenderHalt {
    match halt {
        RenderHalt::Fault(mut fault) => {
            fault.place.get_or_insert_with(|| place.clone());
            RenderHalt::Fault(fault)
        }
        pending @ RenderHalt::Pending(_) => pending,
    }
}

fn halted(error: &Error) -> Option<RenderHalt> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = error.source();
    while let Some(cause) = next {
        if let Some(Halted(halt)) = cause.downcast_ref() {
            return Some(halt.clone());
        }
        next = cause.source();
    }
    None
}

/// The engine wraps an error once for each include that it passes; the first one is what the user wants.
fn innermost(error: &Error) -> &Error {
    let mut found = error;
    while let Some(inner) = found.source().and_then(|cause| cause.downcast_ref::<Error>()) {
        found = inner;
    }
    found
}

/// The expression that the engine found undefined.
fn undefined_in(error: &Error) -> Option<&str> {
    let (before, _) = error.detail()?.split_once("` is undefined")?;
    let (_, expression) = before.rsplit_once('`')?;
    (!expression.contains("(...)") && !expression.is_empty()).then_some(expression)
}

/// The first name of the template's that its scope does not have. An undefined value in a list or mapping is found
/// only in the result, of which the engine knows no place.
fn missing_name(source: &Source<'_>, shared: &Shared) -> Option<String> {
    let known = shared.scope.names();
    let missing = shared
        .engine
        .names(&source.name())
        .filter(|name| !known.contains(&&**name) && !filters::FUNCTIONS.contains(&&**name));
    missing.min_by_key(|name| spot::find_word(source.text, name).map_or(usize::MAX, |found| found.start))
}

fn undefined_fault(expression: &str, shared: &Shared, root: Value) -> Fault {
    match expression.rsplit_once('.') {
        None => unknown_name(expression, shared),
        Some((base, key)) if !expression.ends_with(']') => unknown_key(base, key, shared, root),
        Some(_) => Fault::input(format!("`{expression}` is not there")),
    }
}

fn unknown_name(name: &str, shared: &Shared) -> Fault {
    let fault = Fault::input(format!("there is no variable `{name}`"));
    if let Some(hint) = ansible_name(name) {
        return fault.hint(hint);
    }
    match nearest(name, shared.scope.names()) {
        Some(near) => fault.hint(format!("did you mean `{near}`?")),
        None => match shared.scope.params.get(name) {
            Some(_) => fault.hint(format!("parameters are found under `params`: `params.{name}`")),
            None => fault,
        },
    }
}

/// Names that Ansible's users know, and where their values are found here.
fn ansible_name(name: &str) -> Option<&'static str> {
    match name {
        "item" => Some("`item` is there only in a step that has a `loop`"),
        "inventory_hostname" | "inventory_hostname_short" => Some("the host's name is `host.name`"),
        "group_names" => Some("the host's groups are `host.groups`"),
        "hostvars" => Some("variables of other hosts cannot be read; put what both need into a group's vars"),
        "lookup" | "query" | "q" => Some("there are no lookups; put the value into vars or params"),
        "vars" => Some("variables are plain names: `app`, not `vars.app`"),
        "address" | "port" | "user" | "transport" | "key_file" | "password" => {
            Some("in an inventory this word says how a host is reached, and makes no variable; use another name")
        }
        _ if name.starts_with("ansible_") => Some("what is known of a host is found under `facts`"),
        _ => None,
    }
}

fn unknown_key(base: &str, key: &str, shared: &Shared, root: Value) -> Fault {
    let fault = Fault::input(format!("`{base}` has no `{key}`"));
    let known: Vec<String> = match shared.engine.evaluate(base, root) {
        Ok(value) => value.try_iter().into_iter().flatten().map(|key| key.to_string()).collect(),
        Err(_) => Vec::new(),
    };
    // A look at the base may have raised what it halts on; that is no news.
    shared.raised();
    match nearest(key, known.iter().map(String::as_str)) {
        Some(near) => fault.hint(format!("did you mean `{base}.{near}`?")),
        None if (1..=12).contains(&known.len()) => fault.hint(format!("it has: {}", known.join(", "))),
        None => fault,
    }
}

/// The engine keeps only the name of a file that it should include.
fn missing_file(error: &Error, shared: &Shared) -> Option<Fault> {
    let detail = error.detail().filter(|_| error.kind() == ErrorKind::TemplateNotFound)?;
    let names = detail.split(['\'', '"']).skip(1).step_by(2);
    names.filter_map(|name| shared.engine.files.find(name, TEMPLATE_FOLDERS).err()).next()
}

fn describe(error: &Error) -> Fault {
    let detail = error.detail().unwrap_or_default();
    let word = || detail.split_whitespace().find(|word| !matches!(*word, "filter" | "test" | "function")).unwrap_or("");
    match error.kind() {
        ErrorKind::SyntaxError => Fault::input(format!("the template cannot be read: {detail}")),
        ErrorKind::OutOfFuel => Fault::input("the template does too much, and was stopped")
            .hint("look for a loop or a repetition that is far larger than meant"),
        ErrorKind::WriteFailure => Fault::input(format!("the template gives more than {} MiB", OUTPUT_MAX >> 20)),
        ErrorKind::UnknownFilter => unknown_word("filter", word(), filters::FILTERS),
        ErrorKind::UnknownTest => unknown_word("test", word(), filters::TESTS),
        ErrorKind::UnknownFunction => match ansible_name(word()) {
            Some(hint) => Fault::input(format!("there is no function `{}`", word())).hint(hint),
            None => unknown_word("function", word(), filters::FUNCTIONS),
        },
        ErrorKind::UndefinedError => Fault::input("a value is used that is not there"),
        kind if detail.is_empty() => Fault::input(format!("the template cannot be rendered: {kind}")),
        _ => Fault::input(format!("the template cannot be rendered: {detail}")),
    }
}

fn unknown_word(what: &str, word: &str, known: &[&str]) -> Fault {
    let fault = Fault::input(format!("there is no {what} `{word}`"));
    match filters::instead(word) {
        Some(hint) => fault.hint(hint),
        None => match nearest(word, known.iter().copied()) {
            Some(near) => fault.hint(format!("did you mean `{near}`?")),
            None => fault,
        },
    }
}

/// A condition that gives no boolean.
pub(super) fn no_condition(text: &str, given: &Data) -> Fault {
    let fault = Fault::input(format!("this condition gives {}, not true or false", what(given)));
    match given {
        Data::String(word) if matches!(&*word.to_lowercase(), "yes" | "no" | "on" | "off" | "true" | "false") => {
            fault.hint(format!("to read such a word as a boolean, write `({text}) | bool`"))
        }
        _ => fault.hint("compare it with something, as in `x == 1`, `x != \"\"` or `x | length > 0`"),
    }
}

/// A loop over something that is no list.
pub(super) fn no_list(given: &Data) -> Fault {
    let fault = Fault::input(format!("this loop gives {}, not a list", what(given)));
    match given {
        Data::Object(_) => fault.hint("to loop over a mapping, write `x | dict2items`: `item.key`, `item.value`"),
        Data::String(_) => fault.hint("to loop over the lines of a text, write `x | lines`"),
        _ => fault,
    }
}

fn what(data: &Data) -> String {
    match data {
        Data::Null => "nothing".into(),
        Data::Bool(truth) => format!("the boolean {truth}"),
        Data::Number(number) => format!("the number {number}"),
        Data::String(text) => format!("the text {text:.60?}"),
        Data::Array(_) => "a list".into(),
        Data::Object(_) => "a mapping".into(),
    }
}

/// Where in the user's files `error` is, or more exactly the `undefined` expression in what it points at.
fn locate(error: &Error, undefined: Option<&str>, source: &Source<'_>, engine: &Engine) -> Place {
    let name = error.name().unwrap_or_default();
    if let Some(path) = name.strip_prefix(FILE) {
        let text = engine.source(name).unwrap_or_default();
        let file = engine.files.find(path, TEMPLATE_FOLDERS).map_or_else(|_| path.into(), |f| f.display().to_string());
        return spot::in_file(&file, &text, spot::bytes(error, undefined, &text, 0));
    }
    if source.form == FILE {
        return source.place.clone();
    }
    let added = match name {
        _ if name.starts_with(EXPRESSION) => SET_OPEN.len(),
        _ if name.starts_with(PRINTED) => PRINT_OPEN.len(),
        _ => 0,
    };
    // A whole `{{ expression }}` is evaluated without its braces.
    let inner =
        if source.form == TEXT && !name.starts_with(TEXT) { source.text.find("{{").map_or(0, |at| at + 2) } else { 0 };
    let evaluated = &source.text[inner..];
    let found = spot::bytes(error, undefined, evaluated, added);
    spot::in_text(source.place, source.text, found.start + inner..found.end + inner)
}
