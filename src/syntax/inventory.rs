//! Inventories: hosts and groups from Ansible's YAML format.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use crate::{
    base::{Digest, Faults},
    model::{
        decode::{self, Fields},
        ids::HostName,
        inventory::{Connection, Host, Inventory, Transport},
        node::Node,
    },
    syntax::yaml,
};

/// Reads an inventory.
pub fn load(path: &Path) -> Result<(Inventory, Vec<(String, Digest)>), Faults> {
    let text = yaml::text_of(path)?;
    let node = yaml::parse(&path.to_string_lossy(), &text)?;
    let mut hosts = Vec::new();
    for entry in node.child("all").and_then(|all| all.child("hosts")).and_then(Node::as_map).unwrap_or_default() {
        let mut connection = Connection::default();
        let mut vars = BTreeMap::new();
        if entry.value.as_map().is_some() {
            let mut fields = Fields::of(&entry.value, "a host")?;
            connection.address = fields.text("address").map(|text| text.value);
            connection.user = fields.text("user").map(|text| text.value);
            connection.key_file = fields.text("key_file").map(|text| text.value);
            connection.known_hosts =
                fields.read("known_hosts", decode::texts).map(|files| files.into_iter().map(|f| f.value).collect());
            connection.port = fields.text("port").and_then(|text| text.value.parse().ok());
            connection.transport = match fields.text("transport").map(|text| text.value).as_deref() {
                Some("local") => Transport::Local,
                Some("openssh") => Transport::Openssh,
                _ => Transport::Ssh2,
            };
            for entry in entry.value.as_map().unwrap_or_default() {
                vars.insert(entry.key.as_str().into(), entry.value.clone().into());
            }
        }
        let name = HostName::from(entry.key.as_str());
        hosts.push(Arc::new(Host { name, groups: vec!["all".into()], vars, connection }));
    }
    let names = hosts.iter().map(|host| host.name.clone()).collect();
    let groups = [("all".to_owned(), names)].into();
    Ok((Inventory { hosts, groups }, vec![(path.to_string_lossy().into_owned(), Digest::of(text.as_bytes()))]))
}
