//! Templates and expressions to values. The only place that names minijinja.
//!
//! A rendering is pure: it reads its [`Scope`] and template files of the project, nothing else. What it gives is data
//! and is never rendered again. It is bounded in work, memory and output.

mod diagnosis;
mod engine;
mod files;
mod filters;
mod methods;
mod places;
mod reads;
mod results;
mod scope;
mod spot;
mod value;
mod vars;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use minijinja::Value;
use serde_json::Value as Data;

use crate::{
    base::{Fault, Place},
    model::{
        node::{Entry, Node, Value as Shape},
        runbook::Placed,
    },
    render::{
        diagnosis::Source,
        engine::Engine,
        files::Files,
        scope::{Root, Shared},
    },
};

pub use reads::{Inputs, Reads};
pub use scope::{FactSheet, PLACES, Pending, RenderHalt, Scope, is_plain};
pub use vars::{VarLayer, Vars};

/// Renders everything of one runbook. Templates are compiled once; a rendering has bounded fuel and output.
#[derive(Clone)]
pub struct Renderer {
    engine: Arc<Engine>,
}

impl Renderer {
    /// A renderer for a runbook whose templates and files are found in `project` (and its `templates/`).
    pub fn new(project: PathBuf) -> Self {
        Renderer { engine: Arc::new(Engine::new(Files::new(project))) }
    }

    /// Renders a text. Where the whole of it is one `{{ expression }}`, the result keeps the expression's type;
    /// else it is a text. A result is data: it is never rendered again.
    pub fn text(&self, text: &str, place: &Place, scope: &Scope) -> Result<Data, RenderHalt> {
        self.run(scope).text(text, place)
    }

    /// Evaluates an expression.
    pub fn expression(&self, text: &str, place: &Place, scope: &Scope) -> Result<Data, RenderHalt> {
        self.run(scope).expression(text, place)
    }

    /// Evaluates an expression that must give a boolean: `when`, `assert.that`.
    pub fn condition(&self, text: &Placed<String>, scope: &Scope) -> Result<bool, RenderHalt> {
        match self.expression(&text.value, &text.place, scope)? {
            Data::Bool(truth) => Ok(truth),
            other => Err(diagnosis::no_condition(&text.value, &other).at(&text.place).into()),
        }
    }

    /// The items of a loop: a list whose texts are rendered, or a text that is one expression which gives a list.
    pub fn items(&self, each: &Node, scope: &Scope) -> Result<Vec<Data>, Vec<RenderHalt>> {
        let run = self.run(scope);
        let data = match each.as_text() {
            Some(text) => run.list_text(text, &each.place).map_err(|halt| vec![halt])?,
            None => run.node(each, &[])?.to_data(),
        };
        match data {
            Data::Array(items) => Ok(items),
            other => Err(vec![diagnosis::no_list(&other).at(&each.place).into()]),
        }
    }

    /// Renders every text of a node; the texts directly in (or in a list directly in) the keys of `expressions` are
    /// evaluated instead. Keys are no templates. Places stay. All faults are found, not the first.
    pub fn node(&self, node: &Node, expressions: &[&str], scope: &Scope) -> Result<Node, Vec<RenderHalt>> {
        self.run(scope).node(node, expressions)
    }

    /// Renders a template file of the project. `path` is looked up beside the runbook, then in `templates/`; `place`
    /// is where it is named.
    pub fn file(&self, path: &str, place: &Place, scope: &Scope) -> Result<String, RenderHalt> {
        self.run(scope).file(path, place)
    }

    /// Finds a file or directory of the project by the relative `path` that stands at `place`, looking in `folders`
    /// of the project in their order (`""` is the project's own). A path that leads out of the project is refused,
    /// by `..`, from the root, or through a link.
    pub fn local_file(&self, path: &str, place: &Place, folders: &[&str]) -> Result<PathBuf, Fault> {
        self.engine.files.find(path, folders).map_err(|fault| fault.at(place))
    }

    /// The directory that the runbook's templates and files are found in.
    pub fn project(&self) -> &Path {
        self.engine.files.root()
    }

    fn run(&self, scope: &Scope) -> Run {
        Run { shared: Arc::new(Shared::new(self.engine.clone(), scope.clone())), chain: None }
    }
}

/// One call of the renderer: variables that it needs are rendered once in it.
struct Run {
    shared: Arc<Shared>,
    chain: Option<Arc<vars::Link>>,
}

impl Run {
    fn root(&self) -> Value {
        Value::from_object(Root { shared: self.shared.clone(), chain: self.chain.clone() })
    }

    fn text(&self, text: &str, place: &Place) -> Result<Data, RenderHalt> {
        if !engine::is_template(text) {
            return Ok(Data::String(text.to_owned()));
        }
        if let Some(expression) = self.shared.engine.single_expression(text) {
            return self.evaluate(expression, &Source::text(text, place));
        }
        let source = Source::text(text, place);
        let rendered = self.shared.engine.render(&source.name(), self.root());
        self.settle(rendered, &source).map(Data::String)
    }

    fn expression(&self, text: &str, place: &Place) -> Result<Data, RenderHalt> {
        self.evaluate(text, &Source::expression(text, place))
    }

    fn evaluate(&self, expression: &str, source: &Source<'_>) -> Result<Data, RenderHalt> {
        let value = self.shared.engine.evaluate(expression, self.root());
        let value = self.settle(value, source)?;
        value::to_data(&value).map_err(|error| self.halt(&error, source))
    }

    /// A loop's text: an expression, with or without the braces.
    fn list_text(&self, text: &str, place: &Place) -> Result<Data, RenderHalt> {
        if engine::is_template(text) { self.text(text, place) } else { self.expression(text, place) }
    }

    fn file(&self, path: &str, place: &Place) -> Result<String, RenderHalt> {
        let source = Source::file(path, place);
        self.shared.engine.files.find(path, files::TEMPLATE_FOLDERS).map_err(|fault| fault.at(place))?;
        let rendered = self.shared.engine.render(&source.name(), self.root());
        self.settle(rendered, &source)
    }

    /// What came of a rendering. A value that is not known yet, or wrong, halts it even where a filter hid that.
    fn settle<T>(&self, result: Result<T, minijinja::Error>, source: &Source<'_>) -> Result<T, RenderHalt> {
        match result {
            Ok(value) => self.shared.raised().map_or(Ok(value), |halt| Err(diagnosis::placed(halt, source.place))),
            Err(error) => Err(self.halt(&error, source)),
        }
    }

    fn halt(&self, error: &minijinja::Error, source: &Source<'_>) -> RenderHalt {
        diagnosis::halt(error, source, &self.shared, self.root())
    }

    fn node(&self, node: &Node, expressions: &[&str]) -> Result<Node, Vec<RenderHalt>> {
        let mut halts = Vec::new();
        let rendered = self.walk(node, expressions, false, &mut halts);
        if halts.is_empty() { Ok(rendered) } else { Err(halts) }
    }

    /// Renders a node and what is in it; where that fails, keeps it as it is and adds to `halts`.
    fn walk(&self, node: &Node, expressions: &[&str], evaluated: bool, halts: &mut Vec<RenderHalt>) -> Node {
        let value = match &node.value {
            Shape::Text { text, .. } if evaluated || engine::is_template(text) => {
                return self.leaf(node, text, evaluated, halts);
            }
            Shape::List(items) => {
                Shape::List(items.iter().map(|item| self.walk(item, &[], evaluated, halts)).collect())
            }
            Shape::Map(entries) => Shape::Map(
                entries
                    .iter()
                    .map(|entry| Entry {
                        key: entry.key.clone(),
                        key_place: entry.key_place.clone(),
                        value: self.walk(&entry.value, &[], expressions.contains(&&*entry.key), halts),
                    })
                    .collect(),
            ),
            plain => plain.clone(),
        };
        Node { value, place: node.place.clone() }
    }

    fn leaf(&self, node: &Node, text: &str, evaluated: bool, halts: &mut Vec<RenderHalt>) -> Node {
        let data = if evaluated { self.expression(text, &node.place) } else { self.text(text, &node.place) };
        match data {
            Ok(data) => Node::from_data(&data, &node.place),
            Err(halt) => {
                if !halts.contains(&halt) {
                    halts.push(halt);
                }
                node.clone()
            }
        }
    }
}

#[cfg(test)]
mod tests;
