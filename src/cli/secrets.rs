//! What must not be seen of what is given.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value as Data};

use crate::{
    base::{Fault, Faults, Place, Secret, secret::HIDDEN},
    cli::ask,
    model::{
        inventory::Host,
        node::{Node, Value},
    },
    syntax::runbook::Bound,
};

/// Every value of an inventory or the environment that must not be seen.
pub(crate) fn of_hosts(hosts: &[Arc<Host>]) -> Vec<Secret> {
    let of_hosts = hosts.iter().flat_map(|host| {
        let connection = &host.connection;
        [connection.password.clone(), connection.become_password.clone()].into_iter().flatten()
    });
    of_hosts.chain(ask::secrets_of_environment()).collect()
}

/// Every value of a sensitive parameter: of a list or a mapping, every text and number in it.
pub(crate) fn of_params(params: &BTreeMap<String, Bound>) -> Vec<Secret> {
    let sensitive = params.values().filter(|param| param.sensitive);
    let found = sensitive.map(|param| match &param.value {
        Data::Bool(truth) => vec![Secret::new(truth.to_string())],
        value => Secret::all_in(value),
    });
    found.flatten().collect()
}

/// Faults in what `--set` names: their line is told, and not shown. It may hold what is sensitive.
pub(crate) fn unquoted(mut faults: Faults, set: &[String]) -> Faults {
    let is_given = |place: &Place| set.iter().any(|argument| argument.strip_prefix('@') == Some(&*place.file));
    for Fault { message, place, .. } in &mut faults.0 {
        if let Some(given) = place.take_if(|place| place.line > 0 && is_given(place)) {
            *message = format!("{given}: {message}");
        }
    }
    faults
}

/// A variable's value, without what its name or a name in it says is secret.
pub(crate) fn shown(name: &str, node: &Node) -> Data {
    if is_secret(name) && node.value != Value::Null {
        return Data::from(HIDDEN);
    }
    match &node.value {
        Value::Map(entries) => {
            let entries = entries.iter().map(|entry| (entry.key.clone(), shown(&entry.key, &entry.value)));
            Data::Object(entries.collect::<Map<_, _>>())
        }
        Value::List(items) => items.iter().map(|item| shown("", item)).collect(),
        _ => node.to_data(),
    }
}

/// Names under which people keep secrets.
fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    let parts = ["passw", "passphrase", "secret", "token", "private_key", "api_key", "apikey", "credential"];
    parts.iter().any(|part| name.contains(part)) || name.ends_with("_pass") || name == "pass"
}
