//! The template engine, set up: syntax, limits, cache, where templates come from.
//!
//! Every template has a name that says what it is, so that one cache holds all: `text:`, `expression:` and `printed:`
//! are followed by the source itself, `file:` by a path in the project.

use std::{
    collections::HashMap,
    io,
    sync::{PoisonError, RwLock},
};

use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value, syntax::SyntaxConfig};

use crate::{
    base::Fault,
    render::{
        files::{Files, TEMPLATE_FOLDERS},
        filters, methods,
        scope::Halted,
    },
};

pub(super) const TEXT: &str = "text:";
pub(super) const EXPRESSION: &str = "expression:";
pub(super) const PRINTED: &str = "printed:";
pub(super) const FILE: &str = "file:";

/// How an expression becomes a template: set to a name that is read afterwards.
pub(super) const SET_OPEN: &str = "{% set __result = (";
const SET_CLOSE: &str = ") %}";
const RESULT: &str = "__result";

/// The same, printed: an undefined value fails then, and the engine says where it came from.
pub(super) const PRINT_OPEN: &str = "{{ (";
const PRINT_CLOSE: &str = ") }}";

/// Fuel of one rendering. One unit pays for one instruction or 64 bytes, so that this also bounds its memory.
const FUEL: u64 = 2_000_000;

/// Bytes that one rendering may give.
pub(super) const OUTPUT_MAX: usize = 16 << 20;

/// Macros, includes and loops may be nested this deep in the engine's own count, in which an include counts ten.
/// Variables render inside of each other, and all of them must fit on the stack of a thread.
const RECURSION_MAX: usize = 100;

/// The engine. It caches what it compiles for as long as it lives.
pub(super) struct Engine {
    pub(super) files: Files,
    env: Environment<'static>,
    /// The same, but remembering where undefined values came from: slower, and it reads variables that the template
    /// doesn't use. Only for the message of a rendering that has failed.
    tracing: Environment<'static>,
    /// Which texts are one expression as a whole: a text that is none is not compiled again to find that out.
    single: RwLock<HashMap<Box<str>, bool>>,
}

impl Engine {
    pub(super) fn new(files: Files) -> Self {
        let mut env = Environment::new();
        env.set_syntax(syntax());
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_auto_escape_callback(|_| AutoEscape::None);
        env.set_unknown_method_callback(methods::call);
        env.set_recursion_limit(RECURSION_MAX);
        env.set_fuel(Some(FUEL));
        env.set_debug(false);
        // What a template includes is a file of the project, never a text.
        env.set_path_join_callback(|name, _| format!("{FILE}{name}").into());
        let loader = files.clone();
        env.set_loader(move |name| load(&loader, name));
        filters::install(&mut env);
        let mut tracing = env.clone();
        tracing.set_debug(true);
        Engine { files, env, tracing, single: RwLock::default() }
    }

    /// The expression that the whole of `text` is, if it is one: `{{ expression }}`.
    pub(super) fn single_expression<'t>(&self, text: &'t str) -> Option<&'t str> {
        let inner = text.strip_prefix("{{")?.strip_suffix("}}")?;
        let inner = inner.strip_prefix('-').unwrap_or(inner);
        let inner = inner.strip_suffix('-').unwrap_or(inner);
        let known = self.single.read().unwrap_or_else(PoisonError::into_inner).get(inner).copied();
        let is_one = known.unwrap_or_else(|| {
            let is_one = self.env.get_template(&format!("{EXPRESSION}{inner}")).is_ok();
            self.single.write().unwrap_or_else(PoisonError::into_inner).insert(inner.into(), is_one);
            is_one
        });
        is_one.then_some(inner)
    }

    /// Renders the template called `name`.
    pub(super) fn render(&self, name: &str, root: Value) -> Result<String, Error> {
        render(&self.env, name, root)
    }

    /// Evaluates an expression.
    pub(super) fn evaluate(&self, expression: &str, root: Value) -> Result<Value, Error> {
        let template = self.env.get_template(&format!("{EXPRESSION}{expression}"))?;
        let value = template.render_captured(root)?.state().lookup(RESULT).unwrap_or_default();
        if value.is_undefined() { Err(Error::from(ErrorKind::UndefinedError)) } else { Ok(value) }
    }

    /// The error of the template called `name` once more, with all that can be known of it; `None` where it doesn't
    /// come again.
    pub(super) fn trace(&self, name: &str, root: Value) -> Option<Error> {
        let printed = name.strip_prefix(EXPRESSION).map(|expression| format!("{PRINTED}{expression}"));
        render(&self.tracing, printed.as_deref().unwrap_or(name), root).err()
    }

    /// The names that the template called `name` takes from its scope.
    pub(super) fn names(&self, name: &str) -> impl Iterator<Item = String> + use<> {
        let template = self.env.get_template(name);
        template.map(|template| template.undeclared_variables(false)).into_iter().flatten()
    }

    /// The same with what is taken of them, as in `facts.os_family`.
    pub(super) fn paths(&self, name: &str) -> impl Iterator<Item = String> + use<> {
        let template = self.env.get_template(name);
        template.map(|template| template.undeclared_variables(true)).into_iter().flatten()
    }

    /// The source of the file called `name`.
    pub(super) fn source(&self, name: &str) -> Option<String> {
        load(&self.files, name).ok().flatten()
    }
}

/// As Ansible's `template` has it: the line end after a block tag goes, blanks before one stay, and the last line end
/// of a file stays.
fn syntax() -> SyntaxConfig {
    let mut builder = SyntaxConfig::builder();
    builder.trim_blocks(true).lstrip_blocks(false).keep_trailing_newline(true);
    builder.build().expect("the delimiters are the engine's own")
}

/// Whether there is anything to render in `text`.
pub(super) fn is_template(text: &str) -> bool {
    text.contains('{') && ["{{", "{%", "{#"].iter().any(|open| text.contains(open))
}

fn render(env: &Environment<'_>, name: &str, root: Value) -> Result<String, Error> {
    let mut output = Bounded::default();
    env.get_template(name)?.render_captured_to(root, &mut output).map(drop)?;
    Ok(String::from_utf8(output.bytes).expect("a template writes whole characters"))
}

fn load(files: &Files, name: &str) -> Result<Option<String>, Error> {
    if let Some(text) = name.strip_prefix(TEXT) {
        return Ok(Some(text.to_owned()));
    }
    if let Some(text) = name.strip_prefix(EXPRESSION) {
        check(text)?;
        return Ok(Some(format!("{SET_OPEN}{text}{SET_CLOSE}")));
    }
    if let Some(text) = name.strip_prefix(PRINTED) {
        check(text)?;
        return Ok(Some(format!("{PRINT_OPEN}{text}{PRINT_CLOSE}")));
    }
    let path = name.strip_prefix(FILE).unwrap_or(name);
    match files.find(path, TEMPLATE_FOLDERS).and_then(|found| files.read(&found)) {
        Ok(source) => Ok(Some(source)),
        Err(fault) => Err(refused(path, fault)),
    }
}

/// `{% include … ignore missing %}` passes over a file that isn't there, and over nothing else.
fn refused(path: &str, fault: Fault) -> Error {
    let kind = if Files::is_missing(&fault) { ErrorKind::TemplateNotFound } else { ErrorKind::BadInclude };
    Error::new(kind, path.to_owned()).with_source(Halted(fault.into()))
}

/// An expression must be one by itself: it cannot close the tag that it is put into.
fn check(expression: &str) -> Result<(), Error> {
    Environment::empty().compile_expression(expression).map(drop)
}

/// Takes output up to a limit.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
}

impl io::Write for &mut Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > OUTPUT_MAX {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
