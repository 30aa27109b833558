//! A runbook as its file says it: nothing is rendered yet, everything has its place.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    base::{Digest, Place},
    model::{
        ids::StepId,
        inventory::Become,
        node::Node,
        strategy::{Confirm, Strategy},
    },
};

/// A text of a file and its place. Where it may be a template, it is not rendered yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub place: Place,
}

/// A runbook.
#[derive(Clone, Debug)]
pub struct Runbook {
    /// The file's name as the user wrote it.
    pub file: Arc<str>,
    /// SHA-256 of the file.
    pub digest: Digest,
    /// What it is called.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// How much can go wrong.
    pub risk: Option<Risk>,
    /// Which hosts, as a pattern.
    pub hosts: Placed<String>,
    /// Whom to become on them.
    pub become_user: Become,
    /// How it goes through its hosts.
    pub strategy: Strategy,
    /// What the caller may or must give.
    pub params: BTreeMap<String, Param>,
    /// Plain names for templates; may refer to params, host, groups, facts and to vars above them.
    pub vars: Vec<(String, Node)>,
    /// The work, the steps of blocks among it.
    pub steps: Vec<Step>,
    /// Where blocks begin, change and end: each before the step of that number, in the order in which they are met.
    pub marks: Vec<(usize, Mark)>,
    /// What runs at the end if a changed step notified it.
    pub handlers: Vec<Step>,
    /// What looks at a host when its batch has done all that (`strategy: {verify: …}`).
    pub verify: Vec<Step>,
}

/// How much can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    /// Little.
    Low,
    /// Some.
    Medium,
    /// A lot.
    High,
}

impl Runbook {
    /// All steps in the order of their numbers: steps, handlers, `verify`.
    pub fn all_steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().chain(&self.handlers).chain(&self.verify)
    }

    /// Whether the step of that number stands in a block.
    pub fn is_in_block(&self, number: usize) -> bool {
        let before = self.marks.iter().take_while(|(at, _)| *at <= number);
        let (begun, ended) = before.fold((0, 0), |(begun, ended), (_, mark)| match mark {
            Mark::Begin => (begun + 1, ended),
            Mark::End => (begun, ended + 1),
            Mark::Rescue | Mark::Always => (begun, ended),
        });
        begun > ended
    }
}

/// What happens to a block between two steps. Blocks can be nested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// A block begins.
    Begin,
    /// Its `rescue` begins.
    Rescue,
    /// Its `always` begins.
    Always,
    /// It ends.
    End,
}

/// A step kind as the language knows it.
#[derive(Clone, Copy, Debug)]
pub struct KindWord {
    /// The word that the user writes.
    pub name: &'static str,
    /// The field that a plain value fills.
    pub short: Option<&'static str>,
    /// The names of all its fields.
    pub fields: &'static [&'static str],
    /// Whether it runs what the runbook says: then a step of it can have an `undo`.
    pub runs: bool,
}

/// A parameter of a runbook.
#[derive(Clone, Debug)]
pub struct Param {
    /// What it takes.
    pub kind: ParamType,
    /// Must be given. A parameter is either required or has a default.
    pub required: bool,
    /// What it is when not given.
    pub default: Option<Node>,
    /// A regular expression that the whole text must match (strings only).
    pub pattern: Option<Placed<String>>,
    /// The only values allowed, if any.
    pub choices: Option<Vec<Node>>,
    /// What it means.
    pub description: Option<String>,
    /// Never shown, never recorded.
    pub sensitive: bool,
    /// Where it is declared.
    pub place: Place,
}

/// What a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParamType {
    /// Text.
    String,
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// `true` or `false`.
    Bool,
    /// A list.
    List,
    /// A mapping.
    Map,
}

/// A step or handler as written.
#[derive(Clone, Debug)]
pub struct Step {
    /// Where it begins.
    pub place: Place,
    /// What it is called; the kind's word where it has no name.
    pub name: Placed<String>,
    /// What its results are found under, `steps.<id>`.
    pub id: Option<StepId>,
    /// The kind's word, one of the list in `steps`.
    pub kind: Placed<String>,
    /// What the kind is told.
    pub args: Node,
    /// Expressions that must all be true, else the step is skipped. Each must give a boolean.
    pub when: Vec<Placed<String>>,
    /// The items to repeat it for: a list, or a text that is one expression which gives a list.
    pub each: Option<Node>,
    /// Names of handlers to run at the end if it changed something.
    pub notify: Vec<Placed<String>>,
    /// The command that undoes it (kinds without observable state only): text or list of texts.
    pub undo: Option<Node>,
    /// How often to try.
    pub retry: Option<Retry>,
    /// Seconds until it is ended.
    pub timeout_s: Option<u64>,
    /// Variables for every command that it starts: texts, may be templates.
    pub environment: Vec<(String, Node)>,
    /// Plain names for this step alone.
    pub vars: Vec<(String, Node)>,
    /// Its arguments, diffs and output are shown and recorded nowhere.
    pub sensitive: bool,
    /// Words to choose steps by.
    pub tags: Vec<String>,
    /// How hosts go through it, if not all at once.
    pub turn: Option<Turn>,
    /// The host that does it for the one whose turn it is, if that is another: a template of a host's name.
    pub delegate_to: Option<Placed<String>>,
    /// The dead man's switch: what comes after it is begun only where the host can still be reached.
    pub confirm: Option<Confirm>,
    /// Something in it is wrong, and was told: it is here for others to refer to.
    pub is_broken: bool,
}

/// How hosts go through a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The first host of the run does it, and the others go on when it is done.
    Once,
    /// So many hosts do it at once.
    Throttle(u32),
}

/// How often to try, and how long to wait in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Further tries after the first.
    pub times: u32,
    /// Milliseconds between tries.
    pub delay_ms: u64,
}
