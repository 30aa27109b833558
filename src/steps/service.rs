//! `service`: what runs.

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::{
    base::Fault,
    model::{
        change::Act,
        state::{Enablement, Resource, ServiceState, State},
    },
    resources::{
        Halt, View,
        service::{self as services, Unit},
    },
    steps::{Decision, Desk, Kind},
};

/// Starts, stops, restarts or reloads a service (a systemd unit), and says whether it starts at boot.
///
/// `started`, `stopped`, `enabled` and `masked` are states: they are reached, kept, and put back in a rollback.
/// `restarted` and `reloaded` are acts, done each time the step runs; so they belong into handlers. In a rollback they
/// are done once more, when the files are back. A service that does not run is not started by `reloaded`.
///
/// A stop spreads to the units that need this one (their `Requires`, `BindsTo`, `PartOf`): the plan tells them, they are
/// stopped first, and started again in a rollback.
///
/// Where a unit's file has changed, systemd reads it again first; no daemon-reload of your own is needed. A service
/// that ends right after its start fails the step, with the last lines of its journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "controller", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The unit's name; without a suffix it is a service: `nginx` is `nginx.service`.
    pub name: UnitName,
    /// What it should be. Default: as it is.
    #[serde(default)]
    pub state: Option<Running>,
    /// Whether it starts at boot. Default: as it is.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// Whether nothing at all may start it. Default: as it is.
    #[serde(default)]
    pub masked: Option<bool>,
}

/// What a service should be doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "controller", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Running {
    /// It runs.
    Started,
    /// It does not run.
    Stopped,
    /// It runs, and has been started anew.
    Restarted,
    /// It has read its configuration again, if it runs.
    Reloaded,
}

impl Kind for Service {
    const NAME: &'static str = "service";
    const EXAMPLE: &'static str = "\
- name: the web server runs, now and after a reboot
  service: {name: nginx, state: started, enabled: true}

- name: nothing starts the old one
  service: {name: apache2, state: stopped, enabled: false, masked: true}
";

    fn prepare(&mut self, _desk: &mut dyn Desk) -> Result<(), Fault> {
        if self.state.is_none() && self.enabled.is_none() && self.masked.is_none() {
            return Err(Fault::input("a service step needs a state, enabled or masked"));
        }
        if self.masked == Some(true) && !matches!(self.state, None | Some(Running::Stopped)) {
            return Err(Fault::input("a masked service cannot run: masked: true goes with state: stopped only"));
        }
        Ok(())
    }

    fn want(&self, now: &mut dyn View) -> Result<Decision, Halt> {
        services::supported(now.facts())?;
        let name = self.name.full();
        let found = observe(now, &name)?;
        if found.enabled == Enablement::NotFound {
            return self.missing(now, &name);
        }
        let mut wanted = self.over(&found);
        let mut starts_anew = self.state == Some(Running::Restarted);
        let mut decision = Decision::nothing();
        if wanted != found {
            let unit = services::inspect(now, &name)?;
            self.check(&name, &unit, &found)?;
            if starts_anew && !found.active {
                // Starting it is enough, unless it runs to its end: that is no state that could be put back.
                starts_anew = unit.ends;
                wanted.active = !unit.ends;
            }
            // Names other than a unit's own cannot be enabled.
            let own = if unit.id.is_empty() || unit.is_missing() { name.clone() } else { unit.id };
            if found.active && !wanted.active {
                decision = stop_dependents(decision, now, &own)?;
            }
            decision = decision.bring(Resource::Service(own), State::Service(wanted));
        }
        Ok(match self.state {
            Some(Running::Restarted) if starts_anew => decision.act(Act::Restart(name)),
            Some(Running::Reloaded) if found.active => decision.act(Act::Reload(name)),
            Some(Running::Reloaded) => decision.say("it does not run, and reads its files when it starts"),
            _ => decision,
        })
    }
}

fn observe(now: &mut dyn View, name: &str) -> Result<ServiceState, Halt> {
    let resource = Resource::Service(name.to_owned());
    match now.observe(&resource)? {
        State::Service(state) => Ok(state),
        _ => resource.is_misplaced(),
    }
}

/// Adds the stops that a service's own spreads to.
fn stop_dependents(mut decision: Decision, now: &mut dyn View, name: &str) -> Result<Decision, Halt> {
    for dependent in services::dependents(now, name)? {
        let state = observe(now, &dependent)?;
        if state.active {
            let stopped = ServiceState { active: false, ..state };
            decision = decision.bring(Resource::Service(dependent), State::Service(stopped));
        }
    }
    Ok(decision)
}

impl Service {
    /// The state that is wanted of a service that is there. What the step leaves open stays as it is.
    fn over(&self, found: &ServiceState) -> ServiceState {
        let mut wanted = found.clone();
        if let Some(enabled) = self.enabled {
            wanted.enabled = match (&found.enabled, enabled) {
                (Enablement::Fixed(word), false) => Enablement::Fixed(word.clone()),
                (_, true) => Enablement::Enabled,
                (_, false) => Enablement::Disabled,
            };
        }
        wanted.masked = self.masked.unwrap_or(found.masked);
        match self.state {
            // Restarting starts it; that it did not run before is put back like any state.
            Some(Running::Started | Running::Restarted) => wanted.active = true,
            Some(Running::Stopped) => wanted.active = false,
            Some(Running::Reloaded) | None => {}
        }
        wanted
    }

    /// Refuses what systemd would refuse, or would do without effect.
    fn check(&self, name: &str, unit: &Unit, found: &ServiceState) -> Result<(), Halt> {
        let starts = matches!(self.state, Some(Running::Started | Running::Restarted)) && !found.active;
        if found.masked && self.masked != Some(false) && (starts || self.enabled == Some(true)) {
            return Err(Halt::Failed(format!(
                "{name} is masked: nothing may start it; say masked: false to change that"
            )));
        }
        if let (Enablement::Fixed(word), Some(true)) = (&found.enabled, self.enabled) {
            return Err(Halt::Failed(format!(
                "{name} cannot be enabled: it is {word}, which means that its unit file has nothing to start it by (no [Install])"
            )));
        }
        if matches!(unit.load.as_str(), "error" | "bad-setting") && starts {
            return Err(Halt::Failed(format!("{name} cannot be started: {}", unit.load_error)));
        }
        if self.state == Some(Running::Started) && unit.ends {
            return Err(Halt::Failed(format!(
                "{name} runs to its end and does not stay active (Type=oneshot); start it with state: restarted, or enable its timer"
            )));
        }
        Ok(())
    }

    fn missing(&self, now: &mut dyn View, name: &str) -> Result<Decision, Halt> {
        if now.planning() && now.staged() {
            return Err(Halt::Unknown(format!("there is no unit {name} yet; an earlier step may bring it")));
        }
        let is_off = matches!(self.state, None | Some(Running::Stopped));
        if is_off && self.enabled != Some(true) && self.masked != Some(true) {
            return Ok(Decision::nothing().say(format!("there is no unit {name}, so nothing runs")));
        }
        let hint = match services::nearest_unit(now, name) {
            Some(near) => format!("the nearest is {near}"),
            None => "install what brings it in an earlier step".into(),
        };
        Err(Halt::Failed(format!("there is no unit {name}; {hint}")))
    }
}

/// The name of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "controller", derive(schemars::JsonSchema), schemars(inline))]
#[serde(transparent)]
pub struct UnitName(pub String);

/// The suffixes of units that can be started and enabled (systemd.unit(5)).
const SUFFIXES: [&str; 7] = [".service", ".socket", ".timer", ".path", ".target", ".mount", ".automount"];

impl UnitName {
    /// The name with its suffix.
    fn full(&self) -> String {
        let has_suffix = SUFFIXES.iter().any(|suffix| self.0.ends_with(suffix));
        if has_suffix { self.0.clone() } else { format!("{}.service", self.0) }
    }
}

impl<'de> Deserialize<'de> for UnitName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // The signs that systemd takes in names, and no glob.
        let sign = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
        let fits = (1..=200).contains(&text.len()) && !text.starts_with(['-', '.']) && text.bytes().all(sign);
        if !fits {
            return Err(D::Error::custom(format_args!(
                "{text:?} is no unit's name; write it as in \"nginx\" or \"backup.timer\""
            )));
        }
        if text.trim_end_matches(".service").ends_with('@') {
            return Err(D::Error::custom(format_args!(
                "{text:?} is a template; name an instance of it, as in \"getty@tty1\""
            )));
        }
        Ok(UnitName(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Result<UnitName, serde_json::Error> {
        serde_json::from_value(text.into())
    }

    #[test]
    fn names_get_their_suffix() {
        for (text, full) in [
            ("nginx", "nginx.service"),
            ("getty@tty1", "getty@tty1.service"),
            ("php8.2-fpm", "php8.2-fpm.service"),
            ("backup.timer", "backup.timer"),
            (r"dev-disk\x2da.mount", r"dev-disk\x2da.mount"),
        ] {
            assert_eq!(name(text).unwrap().full(), full);
        }
        for wrong in ["", "a b", "*", "-x", "../x", "a/b", "getty@", "getty@.service", "a\n"] {
            assert!(name(wrong).is_err(), "{wrong:?}");
        }
    }
}
