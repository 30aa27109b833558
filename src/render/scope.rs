//! What templates and expressions see.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

use minijinja::{
    Error, ErrorKind, Value,
    value::{Enumerator, Object},
};
use serde_json::Value as Data;

use crate::{
    base::Fault,
    model::{
        inventory::Inventory,
        node::{Node, Value as Shape},
    },
    render::{
        Run, Vars,
        engine::{self, Engine},
        places::{Groups, Keyed, Named, Results},
        reads::Reads,
        value,
        vars::{Definition, Link},
    },
};

/// The named places, in which values that are no variables live. No variable can have such a name.
pub const PLACES: [&str; 6] = ["params", "host", "groups", "facts", "steps", "item"];

/// What is known of a host, made when something asks for it: few templates do.
pub type FactSheet = LazyLock<Arc<Data>, Box<dyn FnOnce() -> Arc<Data> + Send>>;

/// What templates and expressions see, each in its named place. Cloning one is cheap.
///
/// Variables are rendered when something asks for them, in this very scope. So one that needs facts halts only what
/// uses it, and one that uses `item` has its own value for each item.
#[derive(Clone, Default)]
pub struct Scope {
    /// `params.*`
    pub params: Arc<BTreeMap<String, Data>>,
    /// Plain names: inventory < runbook vars < step vars < `--set`.
    pub vars: Vars,
    /// `host.*`: `name`, `groups`, `address`.
    pub host: Arc<Data>,
    /// `groups.*`: lists of host names, as the inventory has them.
    pub groups: Arc<Inventory>,
    /// `facts.*`; `None` while the host has not said them.
    pub facts: Option<Arc<FactSheet>>,
    /// `steps.<id>.*`; a step that is declared but has no result yet is `None`.
    pub steps: BTreeMap<String, Option<Arc<Data>>>,
    /// `item` inside a loop.
    pub item: Option<Arc<Data>>,
    /// Where is noted what was taken from the host, if anyone wants to know.
    pub reads: Option<Reads>,
}

impl Scope {
    /// Every name that can be used in it, sorted.
    pub fn names(&self) -> Vec<&str> {
        let places = PLACES.into_iter().filter(|place| *place != "item" || self.item.is_some());
        let mut names: Vec<&str> = places.chain(self.vars.names()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Notes that something is taken which no other host has.
    pub fn note_own(&self) {
        if let Some(reads) = &self.reads {
            reads.note_own();
        }
    }
}

/// Names only: values may be secret.
impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Scope").field(&self.names()).finish()
    }
}

/// Why something could not be rendered.
#[derive(Clone, Debug, PartialEq)]
pub enum RenderHalt {
    /// It is wrong.
    Fault(Box<Fault>),
    /// It waits for something that is not known yet: `facts`, or the result of a step (its id).
    Pending(Pending),
}

impl From<Fault> for RenderHalt {
    fn from(fault: Fault) -> Self {
        RenderHalt::Fault(Box::new(fault))
    }
}

/// What a rendering waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pending {
    /// The host's facts.
    Facts,
    /// A step's result.
    Step(String),
}

/// A halt on its way through the template engine, which knows only its own errors.
#[derive(Debug)]
pub(super) struct Halted(pub(super) RenderHalt);

impl fmt::Display for Halted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            RenderHalt::Fault(fault) => fault.fmt(f),
            RenderHalt::Pending(_) => f.write_str("not known yet"),
        }
    }
}

impl std::error::Error for Halted {}

impl From<RenderHalt> for Error {
    fn from(halt: RenderHalt) -> Self {
        Error::new(ErrorKind::InvalidOperation, "halted").with_source(Halted(halt))
    }
}

/// Bytes that the rendered variables of one call may hold together.
const HELD_MAX: usize = 64 << 20;

/// How deep variables may use each other.
const DEPTH_MAX: usize = 16;

/// What one call of the renderer shares with the variables that it renders on the way.
pub(super) struct Shared {
    pub(super) engine: Arc<Engine>,
    pub(super) scope: Scope,
    /// Rendered variables by name and layer.
    rendered: Mutex<HashMap<(String, usize), Result<Value, RenderHalt>>>,
    held: AtomicUsize,
    /// The first halt that was handed to the template engine. Some filters swallow errors; this one stays.
    raised: Mutex<Option<RenderHalt>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock can panic")
}

impl Shared {
    pub(super) fn new(engine: Arc<Engine>, scope: Scope) -> Self {
        Shared { engine, scope, rendered: Mutex::default(), held: AtomicUsize::new(0), raised: Mutex::default() }
    }

    /// Hands a halt to the template engine as a value that fails whoever uses it.
    pub(super) fn raise(&self, halt: RenderHalt) -> Value {
        lock(&self.raised).get_or_insert_with(|| halt.clone());
        Value::from(Error::from(halt))
    }

    /// The first halt that was raised since the last call of this.
    pub(super) fn raised(&self) -> Option<RenderHalt> {
        lock(&self.raised).take()
    }

    /// The variable `name` as a template sees that is rendered at the end of `chain`; `None` if there is none.
    fn variable(self: &Arc<Self>, name: &str, chain: Option<&Arc<Link>>) -> Option<Value> {
        // A variable that names itself means the one of the layer below: `path: "{{ path }}/bin"`.
        let below = chain.filter(|link| link.name == name).map(|link| link.level);
        let found = self.scope.vars.find(name, below);
        if let Some(reads) = &self.scope.reads {
            self.scope.vars.note(name, found.map(|(level, _)| level), reads);
        }
        let (level, definition) = found?;
        let key = (name.to_owned(), level);
        let kept = || self.scope.vars.kept(&key).map(Ok);
        let known = lock(&self.rendered).get(&key).cloned().or_else(kept);
        let result = known.unwrap_or_else(|| {
            let result = self.render(name, level, definition, chain);
            lock(&self.rendered).insert(key, result.clone());
            result
        });
        Some(result.unwrap_or_else(|halt| self.raise(halt)))
    }

    fn render(
        self: &Arc<Self>,
        name: &str,
        level: usize,
        definition: Definition<'_>,
        chain: Option<&Arc<Link>>,
    ) -> Result<Value, RenderHalt> {
        let node = match definition {
            Definition::Data(data) => return Ok(value::from_data(data)),
            Definition::Node(node) if is_plain(node) => {
                let value = value::from_data(&node.to_data());
                self.scope.vars.keep(name, level, &value);
                return Ok(value);
            }
            Definition::Node(node) => node,
        };
        let link = Link::extend(chain, name, level, DEPTH_MAX).map_err(|fault| fault.at(&node.place))?;
        let rendered = Run { shared: self.clone(), chain: Some(link) }.node(node, &[]);
        let rendered = rendered.map_err(|mut halts| halts.swap_remove(0))?;
        self.hold(&rendered)?;
        Ok(value::from_data(&rendered.to_data()))
    }

    fn hold(&self, node: &Node) -> Result<(), RenderHalt> {
        let size = value::size(node);
        if self.held.fetch_add(size, Ordering::Relaxed).saturating_add(size) <= HELD_MAX {
            return Ok(());
        }
        let fault = Fault::input(format!("the variables hold more than {} MiB together", HELD_MAX >> 20));
        Err(fault.at(&node.place).hint("look for one that repeats another many times").into())
    }
}

/// Whether there is nothing to render in a node.
pub fn is_plain(node: &Node) -> bool {
    match &node.value {
        Shape::Text { text, .. } => !engine::is_template(text),
        Shape::List(items) => items.iter().all(is_plain),
        Shape::Map(entries) => entries.iter().all(|entry| is_plain(&entry.value)),
        Shape::Null | Shape::Bool(_) | Shape::Int(_) | Shape::Float(_) => true,
    }
}

/// The outermost names.
pub(super) struct Root {
    pub(super) shared: Arc<Shared>,
    pub(super) chain: Option<Arc<Link>>,
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.scope.fmt(f)
    }
}

impl Object for Root {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, name: &str) -> Option<Value> {
        let scope = &self.shared.scope;
        if ["host", "facts", "steps"].contains(&name) {
            scope.note_own();
        }
        match name {
            "params" => Some(Value::from_object(Named(scope.params.clone()))),
            "host" => Some(Value::from_object(Keyed(scope.host.clone()))),
            "groups" => Some(Value::from_object(Groups(scope.groups.clone()))),
            "facts" => Some(match &scope.facts {
                Some(facts) => Value::from_object(Keyed(Arc::clone(facts))),
                None => self.shared.raise(RenderHalt::Pending(Pending::Facts)),
            }),
            "steps" => Some(Value::from_object(Results(self.shared.clone()))),
            "item" => scope.item.as_deref().map(value::from_data),
            _ => self.shared.variable(name, self.chain.as_ref()),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.shared.scope.note_own();
        Enumerator::Values(self.shared.scope.names().into_iter().map(Value::from).collect())
    }
}
