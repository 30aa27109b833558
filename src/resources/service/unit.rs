//! What systemd says of a unit: `systemctl show` with the few properties that matter.

use std::collections::BTreeMap;

use crate::{
    model::{
        change::CommandSpec,
        event::Output,
        state::{Enablement, ServiceState},
    },
    resources::{Halt, program},
};

/// The properties that are asked for.
const PROPERTIES: &str =
    "Id,LoadState,LoadError,ActiveState,SubState,UnitFileState,NeedDaemonReload,Type,RemainAfterExit,CanReload";

/// A unit as systemd sees it. Texts are the host's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// Its own name, where it was asked for by another of its names.
    pub id: String,
    /// `loaded`, `not-found`, `masked`, `error`, `bad-setting`, …
    pub load: String,
    /// Why it could not be loaded.
    pub load_error: String,
    /// `active`, `inactive`, `failed`, `activating`, …
    pub active: String,
    /// In more detail: `running`, `exited`, `auto-restart`, …
    pub sub: String,
    /// `enabled`, `disabled`, `static`, `masked`, …; empty where it has no file.
    pub file: String,
    /// Its file has changed since systemd read it.
    pub is_stale: bool,
    /// It runs to its end and is not active then.
    pub ends: bool,
    /// It can be told to read its configuration again.
    pub reloads: bool,
    /// It is started and taken for active before it has shown that it can run.
    pub is_simple: bool,
}

/// The call that asks for a unit.
pub(super) fn question(name: &str) -> CommandSpec {
    program::look(["systemctl", "show", "-p", PROPERTIES, "--", name])
}

/// The call that asks which units a stop of these spreads to (systemd.unit(5)), a word each.
pub(super) fn needed_by(names: &[String]) -> CommandSpec {
    let ask =
        ["systemctl", "show", "--value", "-p", "RequiredBy,RequisiteOf,BoundBy,ConsistsOf,PropagatesStopTo", "--"];
    program::look(ask.into_iter().chain(names.iter().map(String::as_str)))
}

impl Unit {
    /// Reads the answer.
    pub(super) fn read(name: &str, output: &Output) -> Result<Unit, Halt> {
        if !output.succeeded() || !output.stdout.text.contains("LoadState=") {
            return Err(silent(name, output));
        }
        Ok(Unit::parse(&output.stdout.text))
    }

    fn parse(text: &str) -> Unit {
        let mut properties: BTreeMap<&str, &str> = BTreeMap::new();
        properties.extend(text.lines().filter_map(|line| line.split_once('=')));
        let value = |name: &str| properties.get(name).copied().unwrap_or_default();
        let word = |name: &str| value(name).chars().take(300).collect::<String>();
        Unit {
            id: word("Id"),
            load: word("LoadState"),
            load_error: quoted(&word("LoadError")),
            active: word("ActiveState"),
            sub: word("SubState"),
            file: word("UnitFileState"),
            is_stale: value("NeedDaemonReload") == "yes",
            ends: value("Type") == "oneshot" && value("RemainAfterExit") == "no",
            reloads: value("CanReload") == "yes",
            is_simple: matches!(value("Type"), "simple" | "exec" | "idle"),
        }
    }

    /// Whether there is no such unit.
    pub fn is_missing(&self) -> bool {
        self.load == "not-found"
    }

    /// Whether it runs.
    pub fn is_active(&self) -> bool {
        matches!(self.active.as_str(), "active" | "reloading" | "refreshing")
    }

    /// Whether it runs, or is on the way to it: also one that has failed, and is tried again.
    pub fn is_up(&self) -> bool {
        self.is_active() || self.active == "activating"
    }

    /// Whether it was stopped: it has not failed, nor run to its end.
    pub fn is_stopped(&self) -> bool {
        self.active == "inactive" && !self.ends
    }

    /// Its state. A mask hides whether it would start at boot: that is seen from the links that start it.
    pub(super) fn state(&self, is_linked: impl FnOnce() -> Result<bool, Halt>) -> Result<ServiceState, Halt> {
        let masked = self.file == "masked";
        let enabled = match self.file.as_str() {
            _ if self.is_missing() => Enablement::NotFound,
            "enabled" => Enablement::Enabled,
            "disabled" => Enablement::Disabled,
            "masked" if is_linked()? => Enablement::Enabled,
            "masked" => Enablement::Disabled,
            "" => Enablement::Fixed("without a file".into()),
            other => Enablement::Fixed(other.to_owned()),
        };
        Ok(ServiceState { enabled, masked, active: self.is_up() })
    }
}

/// systemd does not answer what was asked of a unit.
pub(super) fn silent(name: &str, output: &Output) -> Halt {
    Halt::Failed(format!("systemd does not say how {name} is: {}", program::last_words(output)))
}

/// The text in quotes of `org.freedesktop.systemd1.NoSuchUnit "Unit x.service not found."`
fn quoted(error: &str) -> String {
    let inner = error.split_once('"').and_then(|(_, rest)| rest.rsplit_once('"')).map(|(inner, _)| inner);
    inner.unwrap_or(error).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As systemd 252 printed them.
    const RUNNING: &str = "\
Type=notify
RemainAfterExit=no
Id=ssh.service
LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled
CanReload=yes
NeedDaemonReload=yes
LoadError=
";
    const MISSING: &str = "\
Type=
RemainAfterExit=no
Id=nosuch.service
LoadState=not-found
ActiveState=inactive
SubState=dead
UnitFileState=
CanReload=no
NeedDaemonReload=no
LoadError=org.freedesktop.systemd1.NoSuchUnit \"Unit nosuch.service not found.\"
";
    const TIMER: &str = "\
Id=systemd-tmpfiles-clean.timer
LoadState=loaded
ActiveState=active
SubState=waiting
UnitFileState=static
CanReload=no
NeedDaemonReload=no
LoadError=
";

    fn state(text: &str, linked: bool) -> ServiceState {
        Unit::parse(text).state(|| Ok(linked)).unwrap()
    }

    #[test]
    fn units_are_read() {
        let unit = Unit::parse(RUNNING);
        assert!(unit.id == "ssh.service" && unit.is_stale && unit.reloads && !unit.ends && !unit.is_simple);
        assert_eq!(state(RUNNING, false), ServiceState { enabled: Enablement::Enabled, masked: false, active: true });
        assert_eq!(Unit::parse(MISSING).load_error, "Unit nosuch.service not found.");
        assert_eq!(state(MISSING, true), ServiceState { enabled: Enablement::NotFound, masked: false, active: false });
        let fixed = Enablement::Fixed("static".into());
        assert_eq!(state(TIMER, true), ServiceState { enabled: fixed, masked: false, active: true });
        for (now, active) in [("activating", true), ("reloading", true), ("failed", false), ("deactivating", false)] {
            assert_eq!(state(&RUNNING.replace("=active", &format!("={now}")), false).active, active, "{now}");
        }
        let masked = RUNNING.replace("=enabled", "=masked");
        for (linked, enabled) in [(true, Enablement::Enabled), (false, Enablement::Disabled)] {
            assert_eq!(state(&masked, linked), ServiceState { enabled, masked: true, active: true });
        }
    }

    #[test]
    fn nonsense_is_no_unit() {
        let output = |text: &str| Output {
            code: Some(0),
            stdout: crate::model::event::Capped { text: text.into(), ..Default::default() },
            ..Output::default()
        };
        assert!(Unit::read("x.service", &output("")).is_err());
        assert!(Unit::read("x.service", &Output { code: Some(1), ..output(RUNNING) }).is_err());
        assert_eq!(Unit::read("x.service", &output("LoadState=\u{1b}\n=\n==\n")).unwrap().load, "\u{1b}");
    }
}
