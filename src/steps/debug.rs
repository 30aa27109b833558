//! `debug`: says something.

use serde::{Deserialize, Serialize};

use crate::{
    resources::{Halt, View},
    steps::{Decision, Kind},
};

/// Prints a message. Changes nothing.
///
/// Show a value to see what a template makes of it: `msg: "{{ facts }}"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "controller", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Debug {
    /// What to say.
    pub msg: String,
}

impl Kind for Debug {
    const NAME: &'static str = "debug";
    const FORESEEABLE: bool = true;
    const EXAMPLE: &'static str = "\
- name: say where we are
  debug: {msg: \"{{ host.name }} runs {{ facts.distribution }}\"}
";
    const SHORT: Option<&'static str> = Some("msg");
    const LOOKS: bool = false;

    fn want(&self, _now: &mut dyn View) -> Result<Decision, Halt> {
        Ok(Decision::nothing().say(&self.msg))
    }
}
