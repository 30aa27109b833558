//! Services (systemd units).

mod manager;
mod unit;

use std::io;

use crate::{
    base::{ByteText, fault::nearest},
    model::{
        change::Change,
        facts::Facts,
        state::{Difference, Enablement, Resource, ServiceState, State},
    },
    resources::{Family, Halt, View, program},
    target::{Probe, Tools},
};

pub use manager::{reload, reread, restart};
pub use unit::Unit;

/// Where links that start units at boot are made.
const CONFIGURATION: &str = "/etc/systemd/system";

/// Who would stop more than this stops the machine.
const DEPENDENTS_MAX: usize = 100;

/// The family of services.
#[derive(Debug)]
pub struct Services;

impl Family for Services {
    type State = ServiceState;

    fn observe(probe: &Probe, resource: &Resource) -> Result<ServiceState, Halt> {
        supported(probe.facts())?;
        let Resource::Service(name) = resource else { resource.is_misplaced() };
        look(probe, name)?.state(|| is_linked(probe, name))
    }

    fn differences(before: &ServiceState, after: &ServiceState) -> Vec<Difference> {
        let mut found = Vec::new();
        let mut add = |attribute: &str, before: String, after: String| {
            if before != after {
                found.push(Difference { attribute: attribute.into(), before, after });
            }
        };
        let yes_no = |truth: bool| if truth { "yes" } else { "no" }.to_owned();
        add("enabled", word(&before.enabled), word(&after.enabled));
        add("masked", yes_no(before.masked), yes_no(after.masked));
        add("active", yes_no(before.active), yes_no(after.active));
        found
    }

    fn converge(tools: &Tools<'_>, changes: &[Change]) -> Result<(), Halt> {
        supported(tools.probe().facts())?;
        for change in changes {
            match change {
                Change { resource: Resource::Service(name), after: State::Service(after), .. } => {
                    manager::bring(tools, name, after)?;
                }
                other => other.resource.is_misplaced(),
            }
        }
        Ok(())
    }
}

fn word(enabled: &Enablement) -> String {
    match enabled {
        Enablement::NotFound => "no such unit".into(),
        Enablement::Enabled => "yes".into(),
        Enablement::Disabled => "no".into(),
        Enablement::Fixed(word) => word.clone(),
    }
}

/// Whether the host's services are managed by something that Rollbook knows.
pub fn supported(facts: &Facts) -> Result<(), Halt> {
    match facts.init.as_str() {
        "systemd" => Ok(()),
        other => Err(Halt::Failed(format!(
            "services need systemd, and this host was started by {other}; use command with undo instead"
        ))),
    }
}

/// A unit on the host.
pub fn look(probe: &Probe, name: &str) -> Result<Unit, Halt> {
    let output = probe.ask(&unit::question(name)).map_err(|error| Halt::io("running systemctl", &error))?;
    Unit::read(name, &output)
}

/// A unit in a view. This is the host's own, whatever a plan has staged.
pub fn inspect(now: &mut dyn View, name: &str) -> Result<Unit, Halt> {
    let output = now.ask(&unit::question(name))?;
    Unit::read(name, &output)
}

/// The units that a stop of this one stops as well, those that need the others first. What runs nothing, or cannot be started
/// again (the scope of a login), is left out; those that go with it are not.
pub fn dependents(now: &mut dyn View, name: &str) -> Result<Vec<String>, Halt> {
    let mut found = vec![name.to_owned()];
    let mut asked = 0;
    while asked < found.len() {
        let output = now.ask(&unit::needed_by(&found[asked..]))?;
        if !output.succeeded() {
            return Err(unit::silent(name, &output));
        }
        asked = found.len();
        for unit in output.stdout.text.split_whitespace() {
            if !found.iter().any(|known| known == unit) {
                found.push(unit.to_owned());
            }
        }
        if found.len() > DEPENDENTS_MAX {
            return Err(Halt::Failed(format!("more than {DEPENDENTS_MAX} other units would be stopped with {name}")));
        }
    }
    let is_kept = |unit: &str| ![".target", ".slice", ".scope"].iter().any(|kind| unit.ends_with(kind));
    found.retain(|unit| unit != name && is_kept(unit));
    found.reverse();
    Ok(found)
}

/// Whether anything starts a unit at boot: a link in one of the folders `*.wants`, `*.requires`, `*.upholds`.
fn is_linked(probe: &Probe, name: &str) -> Result<bool, Halt> {
    let fail = |error: io::Error| Halt::io(format_args!("looking for links to {name} in {CONFIGURATION}"), &error);
    let folders = match probe.list(&CONFIGURATION.into()) {
        Ok(folders) => folders,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(fail(error)),
    };
    let starts = |folder: &ByteText| {
        let kind = folder.as_path().extension().and_then(|kind| kind.to_str());
        matches!(kind, Some("wants" | "requires" | "upholds"))
    };
    for folder in folders.iter().filter(|folder| starts(folder)) {
        let link = ByteText::from(folder.as_path().join(name));
        if probe.lstat(&link).map_err(fail)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The unit whose name is most like `name`, for a hint.
pub fn nearest_unit(now: &mut dyn View, name: &str) -> Option<String> {
    let kind = name.rsplit('.').next().unwrap_or("service");
    let kind = format!("--type={kind}");
    let output = now.ask(&program::look(["systemctl", "list-unit-files", "--plain", "--no-legend", &kind])).ok()?;
    let names: Vec<&str> = output.stdout.text.lines().filter_map(|line| line.split_whitespace().next()).collect();
    nearest(name, names).map(str::to_owned)
}
