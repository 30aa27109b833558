//! Templates and expressions to values. The only place that names minijinja.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use serde_json::Value as Data;

use crate::{
    base::{Fault, Place},
    model::node::Node,
};

/// What templates and expressions see, each in its named place.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// `params.*`
    pub params: Arc<BTreeMap<String, Data>>,
    /// Plain names: inventory < runbook vars < step vars < `--set`, merged already.
    pub vars: BTreeMap<String, Data>,
    /// `host.*`: `name`, `groups`, `address`.
    pub host: Arc<Data>,
    /// `groups.*`: lists of host names.
    pub groups: Arc<BTreeMap<String, Vec<String>>>,
    /// `facts.*`; `None` while the host has not said them.
    pub facts: Option<Arc<Data>>,
    /// `steps.<id>.*`; a step that is declared but has no result yet is `None`.
    pub steps: BTreeMap<String, Option<Data>>,
    /// `item` inside a loop.
    pub item: Option<Data>,
}

/// Why something could not be rendered.
#[derive(Clone, Debug, PartialEq)]
pub enum RenderHalt {
    /// It is wrong.
    Fault(Box<Fault>),
    /// It waits for something that is not known yet: `facts`, or the result of a step (its id).
    Pending(Pending),
}

/// What a rendering waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pending {
    /// The host's facts.
    Facts,
    /// A step's result.
    Step(String),
}

/// Renders everything of one runbook. Templates are compiled once; a rendering has bounded fuel and output.
pub struct Renderer {
    _project: PathBuf,
}

impl Renderer {
    /// A renderer for a runbook whose templates and files are found in `project` (and its `templates/`).
    pub fn new(project: PathBuf) -> Self {
        Renderer { _project: project }
    }

    /// Renders a text. Where the whole of it is one `{{ expression }}`, the result keeps the expression's type;
    /// else it is a text. A result is data: it is never rendered again.
    pub fn text(&self, _text: &str, _place: &Place, _scope: &Scope) -> Result<Data, RenderHalt> {
        todo!("render")
    }

    /// Evaluates an expression.
    pub fn expression(&self, _text: &str, _place: &Place, _scope: &Scope) -> Result<Data, RenderHalt> {
        todo!("render")
    }

    /// Renders every text of a node; the texts directly in (or in a list directly in) the keys of `expressions` are
    /// evaluated instead. Places stay. All faults are found, not the first.
    pub fn node(&self, _node: &Node, _expressions: &[&str], _scope: &Scope) -> Result<Node, Vec<RenderHalt>> {
        todo!("render")
    }

    /// Renders a template file of the project.
    pub fn file(&self, _path: &str, _place: &Place, _scope: &Scope) -> Result<String, RenderHalt> {
        todo!("render")
    }
}
