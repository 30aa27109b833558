//! Variables: four layers, the higher hides the lower, and each variable may use every other.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use minijinja::Value;
use serde_json::Value as Data;

use crate::{
    base::Fault,
    model::{inventory::Host, node::Node},
    render::reads::Reads,
};

/// Variables of a runbook or a step as written: names and values, which may be templates.
#[derive(Clone, Default)]
pub struct VarLayer(Arc<BTreeMap<String, Node>>);

impl From<&[(String, Node)]> for VarLayer {
    fn from(vars: &[(String, Node)]) -> Self {
        VarLayer(Arc::new(vars.iter().cloned().collect()))
    }
}

/// The variables that hold for one host in one step: inventory < runbook < step < `--set`.
///
/// They are rendered when something asks for them. A variable sees the names that its user sees: an inventory's
/// `url: "http://{{ name }}/"` uses the `name` that the runbook sets. Its own name means the layer below, so that
/// `path: "{{ path }}/bin"` extends the inventory's. Using each other in a circle is a fault.
///
/// Cloning is cheap: layers are shared.
#[derive(Clone, Default)]
pub struct Vars {
    /// The lowest first.
    layers: Vec<Layer>,
    /// Values in which there is nothing to render, by name and layer: made once for all steps of the host.
    plain: Arc<Mutex<Plain>>,
}

type Plain = HashMap<(String, usize), Value>;

/// The layers that every step has in common.
const COMMON_LAYERS: usize = 2;

#[derive(Clone)]
enum Layer {
    Host(Arc<Host>),
    Written(VarLayer),
    Given(Arc<BTreeMap<String, Data>>),
}

/// What a variable is.
#[derive(Clone, Copy)]
pub(super) enum Definition<'a> {
    /// As written; may be a template.
    Node(&'a Node),
    /// Given on the command line; never a template.
    Data(&'a Data),
}

impl Vars {
    /// The variables of `host`, of the runbook, and of the command line (`--set`, which is never rendered).
    pub fn new(host: &Arc<Host>, runbook: &VarLayer, set: &Arc<BTreeMap<String, Data>>) -> Self {
        let layers = [Layer::Host(host.clone()), Layer::Written(runbook.clone()), Layer::Given(set.clone())];
        Vars { layers: layers.into(), plain: Arc::default() }
    }

    /// The same with a step's own variables, which stand below `--set` and above all others.
    pub fn with_step(&self, step: &VarLayer) -> Self {
        let mut layers = self.layers.clone();
        let below_set = layers.iter().position(|layer| matches!(layer, Layer::Given(_))).unwrap_or(layers.len());
        if !step.0.is_empty() {
            layers.insert(below_set, Layer::Written(step.clone()));
        }
        Vars { layers, plain: Arc::clone(&self.plain) }
    }

    /// Notes in `reads` that `name` was looked for in the inventory, if the search for it got that far down.
    pub(super) fn note(&self, name: &str, found: Option<usize>, reads: &Reads) {
        for (level, layer) in self.layers.iter().enumerate() {
            if let Layer::Host(host) = layer
                && found.is_none_or(|found| found <= level)
            {
                reads.note_variable(name, host.vars.get(name));
            }
        }
    }

    /// A value that was kept.
    pub(super) fn kept(&self, key: &(String, usize)) -> Option<Value> {
        self.plain().get(key).cloned()
    }

    /// Keeps the value of a variable in which there is nothing to render, if it is the same in all steps.
    pub(super) fn keep(&self, name: &str, level: usize, value: &Value) {
        if level < COMMON_LAYERS {
            self.plain().insert((name.to_owned(), level), value.clone());
        }
    }

    fn plain(&self) -> MutexGuard<'_, Plain> {
        self.plain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The variables' names; one that stands in several layers comes several times.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.layers.iter().flat_map(Layer::names)
    }

    /// The highest definition of `name` (under the layer `below`, if given) and its layer.
    pub(super) fn find(&self, name: &str, below: Option<usize>) -> Option<(usize, Definition<'_>)> {
        let layers = &self.layers[..below.unwrap_or(self.layers.len())];
        let found = layers.iter().enumerate().rev();
        found.filter_map(|(level, layer)| Some((level, layer.find(name)?))).next()
    }
}

impl Layer {
    fn find(&self, name: &str) -> Option<Definition<'_>> {
        match self {
            Layer::Host(host) => host.vars.get(name).map(|node| Definition::Node(node)),
            Layer::Written(layer) => layer.0.get(name).map(Definition::Node),
            Layer::Given(set) => set.get(name).map(Definition::Data),
        }
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Layer::Host(host) => Box::new(host.vars.keys().map(|name| &**name)),
            Layer::Written(layer) => Box::new(layer.0.keys().map(|name| &**name)),
            Layer::Given(set) => Box::new(set.keys().map(|name| &**name)),
        }
    }
}

/// A variable that is being rendered, and for whom.
pub(super) struct Link {
    pub(super) name: String,
    pub(super) level: usize,
    parent: Option<Arc<Link>>,
}

impl Link {
    /// `chain` with one more. A variable that is in it already, or a chain that is too long, is a fault.
    pub(super) fn extend(
        chain: Option<&Arc<Link>>,
        name: &str,
        level: usize,
        depth_max: usize,
    ) -> Result<Arc<Link>, Fault> {
        let users: Vec<&Link> = std::iter::successors(chain, |link| link.parent.as_ref()).map(|link| &**link).collect();
        if users.iter().any(|user| user.name == name && user.level == level) {
            let circle = users.iter().rev().skip_while(|user| user.name != name).map(|user| &*user.name).chain([name]);
            let circle: Vec<String> = circle.map(|name| format!("`{name}`")).collect();
            return Err(Fault::input(format!("the variable `{name}` needs itself: {}", circle.join(" -> "))));
        }
        if users.len() >= depth_max {
            let fault =
                Fault::input(format!("the variable `{name}` is the {}th of a row that need each other", depth_max + 1));
            return Err(fault.hint(format!("variables may use each other {depth_max} deep")));
        }
        Ok(Arc::new(Link { name: name.to_owned(), level, parent: chain.cloned() }))
    }
}
