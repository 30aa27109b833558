//! systemd is told what to do.

use std::{thread, time::Duration};

use crate::{
    model::{
        event::Output,
        state::{Enablement, ServiceState},
    },
    resources::{
        Halt, program,
        service::{Unit, is_linked, look, supported},
    },
    target::Tools,
};

/// How long a program that systemd takes for active at once is watched after its start.
const SETTLE: Duration = Duration::from_millis(150);

/// Lines of the journal that a message repeats.
const JOURNAL_LINES: &str = "10";

/// Brings a service to a state, forward or back.
pub(super) fn bring(tools: &Tools<'_>, name: &str, wanted: &ServiceState) -> Result<(), Halt> {
    let found = fresh(tools, name)?;
    if found.is_missing() {
        return match wanted.enabled {
            Enablement::NotFound => Ok(()),
            _ => Err(Halt::Failed(format!("there is no unit {name} any more"))),
        };
    }
    let state = found.state(|| is_linked(tools.probe(), name))?;
    // What keeps a unit from running goes first and comes last.
    if state.active && !wanted.active {
        systemctl(tools, "stop", name)?;
    }
    if state.masked && (!wanted.masked || state.enabled != wanted.enabled) {
        systemctl(tools, "unmask", name)?;
    }
    match (&state.enabled, &wanted.enabled) {
        (before, after) if before == after => {}
        (_, Enablement::Enabled) => systemctl(tools, "enable", name)?,
        (_, Enablement::Disabled) => systemctl(tools, "disable", name)?,
        (_, Enablement::NotFound | Enablement::Fixed(_)) => {}
    }
    if wanted.active && !look(tools.probe(), name)?.is_active() {
        start(tools, name, "start")?;
    }
    if wanted.masked && look(tools.probe(), name)?.file != "masked" {
        systemctl(tools, "mask", name)?;
    }
    prove(tools, name, wanted)
}

/// Restarts a service, or starts it.
pub fn restart(tools: &Tools<'_>, name: &str) -> Result<(), Halt> {
    if !there(tools, name)?.is_active() {
        // One that has failed too often of late would be refused. What is not known to be failed has nothing to forget.
        let _nothing_to_forget = run(tools, &["reset-failed", "--", name])?;
    }
    start(tools, name, "restart")
}

/// Tells a service to read its configuration again. One that does not run is left so: it will read it when it starts.
pub fn reload(tools: &Tools<'_>, name: &str) -> Result<(), Halt> {
    let unit = there(tools, name)?;
    if !unit.is_up() {
        return Ok(());
    }
    if !unit.reloads {
        return Err(Halt::Failed(format!("{name} cannot reload its configuration; use state: restarted")));
    }
    start(tools, name, "reload")
}

/// Lets systemd read all unit files again, whatever it thinks of them. It goes by their times, and a file that has come
/// back has its old ones.
pub fn reread(tools: &Tools<'_>) -> Result<(), Halt> {
    let output = run(tools, &["daemon-reload"])?;
    if output.succeeded() {
        return Ok(());
    }
    Err(Halt::Failed(format!("systemctl daemon-reload failed: {}", program::last_words(&output))))
}

fn there(tools: &Tools<'_>, name: &str) -> Result<Unit, Halt> {
    supported(tools.probe().facts())?;
    let unit = fresh(tools, name)?;
    if unit.is_missing() {
        return Err(Halt::Failed(format!("there is no unit {name} any more")));
    }
    Ok(unit)
}

/// The unit, after systemd has read its file again where that has changed.
fn fresh(tools: &Tools<'_>, name: &str) -> Result<Unit, Halt> {
    let unit = look(tools.probe(), name)?;
    if !unit.is_stale {
        return Ok(unit);
    }
    reread(tools)?;
    look(tools.probe(), name)
}

/// Starts, restarts or reloads, and sees that it runs. A failure comes with the service's own last words.
fn start(tools: &Tools<'_>, name: &str, verb: &str) -> Result<(), Halt> {
    let output = run(tools, &[verb, "--", name])?;
    if !output.succeeded() {
        return Err(failed(tools, name, verb, &program::last_words(&output)));
    }
    let mut unit = look(tools.probe(), name)?;
    if unit.is_simple && unit.is_active() {
        thread::sleep(SETTLE);
        unit = look(tools.probe(), name)?;
    }
    if unit.is_active() || unit.ends && unit.active != "failed" {
        return Ok(());
    }
    Err(failed(tools, name, verb, &format!("it is {} ({}) right after", unit.active, unit.sub)))
}

fn failed(tools: &Tools<'_>, name: &str, verb: &str, why: &str) -> Halt {
    let journal = program::look(["journalctl", "--no-pager", "-q", "-o", "cat", "-n", JOURNAL_LINES, "-u", name]);
    let said = tools.probe().ask(&journal).map(|output| output.stdout.text).unwrap_or_default();
    let said = program::tail([&said]);
    let said = if said.is_empty() { String::new() } else { format!("\nits journal ends:\n{said}") };
    Halt::Failed(format!("systemctl {verb} {name} failed: {why}{said}"))
}

fn systemctl(tools: &Tools<'_>, verb: &str, name: &str) -> Result<(), Halt> {
    let output = run(tools, &[verb, "--", name])?;
    if output.succeeded() {
        return Ok(());
    }
    Err(Halt::Failed(format!("systemctl {verb} {name} failed: {}", program::last_words(&output))))
}

fn run(tools: &Tools<'_>, words: &[&str]) -> Result<Output, Halt> {
    let call = program::call(["systemctl", "--no-ask-password"].iter().chain(words));
    tools.run(&call).map_err(|error| Halt::io("running systemctl", &error))
}

/// Looks whether the service is as it should be.
fn prove(tools: &Tools<'_>, name: &str, wanted: &ServiceState) -> Result<(), Halt> {
    let unit = look(tools.probe(), name)?;
    let state = unit.state(|| is_linked(tools.probe(), name))?;
    if state == *wanted {
        return Ok(());
    }
    let is = |state: &ServiceState| {
        let ServiceState { enabled, masked, active } = state;
        let masked = if *masked { ", masked" } else { "" };
        format!("enabled: {}{masked}, active: {}", super::word(enabled), if *active { "yes" } else { "no" })
    };
    Err(Halt::Failed(format!(
        "systemctl ended without a failure, but {name} is {} ({}) and not {}",
        is(&state),
        unit.sub,
        is(wanted)
    )))
}
