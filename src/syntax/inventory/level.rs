//! The variables and settings of one group or host in one place.

use std::sync::Arc;

use crate::{
    base::{Fault, Faults},
    model::node::{Node, Value},
    syntax::{inventory::setting::Setting, runbook},
};

/// What one mapping of variables says, checked.
#[derive(Debug, Default)]
pub(super) struct Level {
    pub(super) vars: Vec<(Arc<str>, Arc<Node>)>,
    pub(super) settings: Vec<Setting>,
}

impl Level {
    /// Reads a mapping; nothing counts as an empty one.
    pub(super) fn read(node: &Node, what: &str, faults: &mut Faults) -> Level {
        let mut level = Level::default();
        if node.value == Value::Null {
            return level;
        }
        let Some(entries) = node.as_map() else {
            let fault = Fault::input(format!("{what} are a mapping of names to values, and this is {}", node.what()));
            faults.push(fault.at(&node.place));
            return level;
        };
        for entry in entries {
            match Setting::read(&entry.key, &entry.value) {
                Some(setting) => level.settings.extend(faults.keep(setting)),
                None if entry.key == "ansible_become_method" => {}
                None => {
                    if let Err(fault) = runbook::check_var_name(entry) {
                        faults.push(fault);
                    }
                    level.vars.push((entry.key.as_str().into(), Arc::new(entry.value.clone())));
                }
            }
        }
        level
    }
}
