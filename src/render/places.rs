//! The named places as the template engine sees them. Each value is converted when it is asked for.

use std::{collections::BTreeMap, fmt, sync::Arc};

use minijinja::{
    Value,
    value::{Enumerator, Object},
};
use serde_json::Value as Data;

use crate::{
    base::{Fault, fault::nearest},
    model::inventory::Inventory,
    render::{
        scope::{Pending, RenderHalt, Shared},
        value,
    },
};

fn keys<'a>(keys: impl Iterator<Item = &'a String>) -> Enumerator {
    Enumerator::Values(keys.map(|key| Value::from(&**key)).collect())
}

/// A mapping of the data.
#[derive(Debug)]
pub(super) struct Keyed(pub(super) Arc<Data>);

impl Object for Keyed {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.0.get(key).map(value::from_data)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.0.as_object().map_or(Enumerator::Empty, |map| keys(map.keys()))
    }
}

/// `params`
#[derive(Debug)]
pub(super) struct Named(pub(super) Arc<BTreeMap<String, Data>>);

impl Object for Named {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.0.get(key).map(value::from_data)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        keys(self.0.keys())
    }
}

/// `groups`
#[derive(Debug)]
pub(super) struct Groups(pub(super) Arc<Inventory>);

impl Object for Groups {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.0.groups.get(key).map(|hosts| hosts.iter().map(|host| Value::from(host.as_str())).collect())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        keys(self.0.groups.keys())
    }
}

/// `steps`. An id that no step has is a fault at once, even where `is defined` or `default` would hide it: ids are
/// known before the run, so it can only be a slip.
pub(super) struct Results(pub(super) Arc<Shared>);

impl fmt::Debug for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.scope.steps.keys()).finish()
    }
}

impl Object for Results {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, id: &str) -> Option<Value> {
        let steps = &self.0.scope.steps;
        Some(match steps.get(id) {
            Some(Some(result)) => Value::from_object(Keyed(result.clone())),
            Some(None) => self.0.raise(RenderHalt::Pending(Pending::Step(id.to_owned()))),
            None => self.0.raise(no_such_step(id, steps.keys().map(String::as_str)).into()),
        })
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        keys(self.0.scope.steps.keys())
    }
}

fn no_such_step<'a>(id: &str, known: impl Iterator<Item = &'a str>) -> Fault {
    let fault = Fault::input(format!("no step has the id `{id}`"));
    match nearest(id, known) {
        Some(name) => fault.hint(format!("did you mean `{name}`?")),
        None => fault.hint(format!("give the step whose result you want an id: `id: {id}`")),
    }
}
