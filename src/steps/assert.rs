//! `assert`: fails unless something is true.

use serde::{Deserialize, Serialize};

use crate::{
    resources::{Halt, View},
    steps::{Decision, Kind, fields::OneOrMore},
};

/// Fails unless all of its expressions are true. Changes nothing.
///
/// An expression is what stands between `{{` and `}}` elsewhere, written without the braces. It must give `true` or
/// `false`: a number or a text is a mistake, not a truth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "controller", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Assert {
    /// The expression, or a list of them.
    pub that: OneOrMore<bool>,
    /// What to say if one is false. Default: which one it is.
    #[serde(default)]
    pub fail_msg: Option<String>,
}

impl Kind for Assert {
    const NAME: &'static str = "assert";
    const FORESEEABLE: bool = true;
    const EXAMPLE: &'static str = "\
- name: this is a machine that the release runs on
  assert:
    that:
      - facts.arch == \"x86_64\"
      - facts.memory_mb >= 2000
    fail_msg: the app needs 2 GB of memory on x86_64
";
    const SHORT: Option<&'static str> = Some("that");
    const LOOKS: bool = false;
    const EXPRESSIONS: &'static [&'static str] = &["that"];

    fn want(&self, _now: &mut dyn View) -> Result<Decision, Halt> {
        let OneOrMore(truths) = &self.that;
        match truths.iter().position(|truth| !truth) {
            None => Ok(Decision::nothing()),
            Some(at) => Err(Halt::Failed(match (&self.fail_msg, truths.len()) {
                (Some(message), _) => message.clone(),
                (None, 1) => "the expression is false".into(),
                (None, count) => format!("expression {} of {count} is false", at + 1),
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_booleans_are_truths() {
        let read = |json: &str| serde_json::from_str::<Assert>(json);
        assert_eq!(read(r#"{"that": [true, false]}"#).unwrap().that.0, [true, false]);
        assert!(read(r#"{"that": "yes"}"#).is_err() && read(r#"{"that": 1}"#).is_err());
    }
}
