//! `fail`: fails.

use serde::{Deserialize, Serialize};

use crate::{
    resources::{Halt, View},
    steps::{Decision, Kind},
};

/// Fails with a message. Give the step a `when`.
///
/// As with any failure, what the run has done on the host is undone, if the runbook does not say otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "controller", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Fail {
    /// Why.
    pub msg: String,
}

impl Kind for Fail {
    const NAME: &'static str = "fail";
    const EXAMPLE: &'static str = "\
- name: only Debian is supported
  fail: {msg: \"{{ facts.distribution }} is not supported\"}
  when: facts.distribution != \"debian\"
";
    const SHORT: Option<&'static str> = Some("msg");
    const LOOKS: bool = false;

    fn want(&self, _now: &mut dyn View) -> Result<Decision, Halt> {
        Err(Halt::Failed(self.msg.clone()))
    }
}
