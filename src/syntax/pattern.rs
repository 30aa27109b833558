//! Patterns of hosts.

use crate::{
    base::Fault,
    model::{ids::HostName, inventory::Inventory, runbook::Placed},
};

/// The hosts that a pattern names.
pub fn select(inventory: &Inventory, pattern: &Placed<String>) -> Result<Vec<HostName>, Fault> {
    let named = |name: &HostName| pattern.value == "all" || name.as_str() == pattern.value;
    let found: Vec<HostName> =
        inventory.hosts.iter().map(|host| host.name.clone()).filter(|name| named(name)).collect();
    if found.is_empty() {
        return Err(Fault::input(format!("{} names no host", pattern.value)).at(&pattern.place));
    }
    Ok(found)
}
