//! `raw`: runs a line without an agent.

use serde::{Deserialize, Serialize};

use crate::{
    base::Fault,
    resources::{Halt, View},
    steps::{Decision, Desk, Kind, fields::refuse_secret},
};

/// Runs a line by the login shell of the remote user, without the agent: for hosts on which it cannot run.
///
/// Nothing is known of what the line does: it has no guards, runs each time, and is irreversible. It takes no `retry` and
/// no `environment`. Use `command` or `shell` wherever the agent runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "controller", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// The line, as the login shell reads it.
    pub line: String,
}

impl Kind for Raw {
    const NAME: &'static str = "raw";
    const EXAMPLE: &'static str = "\
- name: the switch saves its configuration
  raw: write memory
";
    const SHORT: Option<&'static str> = Some("line");
    const LOOKS: bool = false;

    fn prepare(&mut self, desk: &mut dyn Desk) -> Result<(), Fault> {
        if self.line.trim().is_empty() || self.line.contains('\0') {
            return Err(Fault::input("line is empty, or holds a NUL"));
        }
        let hint = "use `command` or `shell`, which get it in `stdin`, or in the step's `environment`";
        refuse_secret(desk, &self.line, "the line", hint)
    }

    fn want(&self, _now: &mut dyn View) -> Result<Decision, Halt> {
        Err(Halt::Failed(
            "raw is run without an agent, and was sent to one: this is a mistake of Rollbook's own".into(),
        ))
    }
}
