//! The step kinds. A new one is one file here and one line in the list below.

pub mod assert;
pub mod blockinfile;
pub mod command;
pub mod copy;
pub mod debug;
pub mod fail;
pub mod fields;
pub mod file;
pub mod group;
pub mod http;
pub mod lineinfile;
pub mod package;
pub mod raw;
pub mod service;
pub mod shell;
pub mod template;
pub mod user;
pub mod wait_for;

// What several kinds decide alike.
mod accounts;
mod address;
mod editing;
#[cfg(test)]
mod fake;
mod guards;
mod home;
mod lines;
mod paths;
mod placing;
mod tree;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    base::Fault,
    model::{
        change::{Act, CommandSpec},
        event::Output,
        runbook::KindWord,
        state::{Content, Resource, State},
    },
    resources::{Halt, View},
};

/// What a step kind is: a typed struct, and one decision.
///
/// The struct's doc comments are its manual: the struct's own says what it is for, each field's says what it means,
/// its unit and its default.
pub trait Kind: Serialize + DeserializeOwned {
    /// The word that the user writes.
    const NAME: &'static str;

    /// A runbook's `steps:` list with one or two steps of this kind, as YAML; shown in the manual and parsed by a
    /// test.
    const EXAMPLE: &'static str;

    /// The field that a plain text (or list) fills where no mapping is given: `command: uptime`.
    const SHORT: Option<&'static str> = None;

    /// Fields whose texts are expressions, evaluated by the controller to a value: `that: facts.cpus > 2`.
    const EXPRESSIONS: &'static [&'static str] = &[];

    /// Whether it runs what the runbook says, so that only the runbook can say how that is undone.
    const RUNS: bool = false;

    /// Whether its answer depends on the host. In a plan, what fails on a host that earlier steps may yet change is not
    /// known to fail; what depends on the runbook alone is.
    const LOOKS: bool = true;

    /// Whether its answer follows from the states of paths alone, without a program or a service being asked: then what it
    /// will want can be foreseen while earlier steps are still to be done.
    const FORESEEABLE: bool = false;

    /// On the controller, after rendering: reads local files, renders templates, checks what the types could not.
    fn prepare(&mut self, _desk: &mut dyn Desk) -> Result<(), Fault> {
        Ok(())
    }

    /// On the target: given what it may observe, what should be how. It cannot write, and it is asked again after
    /// its decision was carried out: then it must want nothing new.
    fn want(&self, now: &mut dyn View) -> Result<Decision, Halt>;

    /// How long to ask again while the answer is [`Halt::NotYet`], where the step has no `retry` of its own.
    fn patience(&self) -> Option<Patience> {
        None
    }
}

/// What the controller does for a step before it is sent.
pub trait Desk {
    /// Takes in a local file, found beside the runbook (`files/` and `templates/` included), streamed; its content's
    /// name. Paths that lead out of the runbook's project are refused.
    fn file(&mut self, path: &str) -> Result<Content, Fault>;

    /// Renders a local template with the step's variables; the result's name.
    fn template(&mut self, path: &str) -> Result<Content, Fault>;

    /// Takes in bytes; their name.
    fn put(&mut self, bytes: Vec<u8>) -> Content;

    /// Whether a text holds a sensitive value: it must not become an argument, which every user of the target could
    /// read in its process list.
    fn holds_secret(&self, text: &str) -> bool;
}

/// How long to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Milliseconds in all.
    pub limit_ms: u64,
    /// Milliseconds between two looks.
    pub interval_ms: u64,
}

/// What a step wants.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// Resources and the states they should be in, in the order in which to bring them there. Those that are there
    /// already may be among them.
    pub states: Vec<(Resource, State)>,
    /// What to do after that, each time the step runs.
    pub acts: Vec<Act>,
    /// The acts have guards: when they are done, asking the step again must want no act, else it fails. (`creates`
    /// names a file, and the command did not make it.)
    pub guarded: bool,
    /// A command that must succeed before (with `%s`, the new content's temporary path) or after the states are
    /// reached, if any of them changes; else the step fails.
    pub validate: Option<Validate>,
    /// One sentence for the reader.
    pub message: Option<String>,
    /// What a look of the step's printed.
    pub output: Option<Output>,
    /// More results for `steps.<id>.*`.
    pub data: serde_json::Map<String, serde_json::Value>,
}

/// A command that judges new content.
#[derive(Clone, Debug, PartialEq)]
pub struct Validate {
    /// The command. An argument that contains `%s` gets the path of a private copy of `content`.
    pub command: CommandSpec,
    /// What is judged.
    pub content: Content,
}

impl Decision {
    /// Nothing to do.
    pub fn nothing() -> Self {
        Decision::default()
    }

    /// Adds a resource and the state that it should be in.
    pub fn bring(mut self, resource: Resource, state: State) -> Self {
        self.states.push((resource, state));
        self
    }

    /// Adds an act.
    pub fn act(mut self, act: Act) -> Self {
        self.acts.push(act);
        self
    }

    /// Says something.
    pub fn say(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }
}

/// Makes the list of kinds from one line each: `Type in module`.
macro_rules! kinds {
    ($($kind:ident in $module:ident),+ $(,)?) => {
        /// A step of any kind, rendered and checked, as it is sent to the agent.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub enum Spec {
            $(#[doc = concat!("`", stringify!($module), "`")] $kind($module::$kind),)+
        }

        impl Spec {
            /// What it wants: see [`Kind::want`].
            pub fn want(&self, now: &mut dyn View) -> Result<Decision, Halt> {
                match self { $(Spec::$kind(step) => step.want(now),)+ }
            }

            /// See [`Kind::prepare`].
            pub fn prepare(&mut self, desk: &mut dyn Desk) -> Result<(), Fault> {
                match self { $(Spec::$kind(step) => step.prepare(desk),)+ }
            }

            /// See [`Kind::patience`].
            pub fn patience(&self) -> Option<Patience> {
                match self { $(Spec::$kind(step) => step.patience(),)+ }
            }

            /// See [`Kind::LOOKS`].
            pub fn looks(&self) -> bool {
                match self { $(Spec::$kind(_) => $module::$kind::LOOKS,)+ }
            }

            /// See [`Kind::FORESEEABLE`].
            pub fn is_foreseeable(&self) -> bool {
                match self { $(Spec::$kind(_) => $module::$kind::FORESEEABLE,)+ }
            }

            /// The kind's word.
            pub fn kind(&self) -> &'static str {
                match self { $(Spec::$kind(_) => $module::$kind::NAME,)+ }
            }

            /// Reads a kind's struct from whatever holds its fields.
            pub fn decode<'de, D: serde::Deserializer<'de>>(kind: &str, fields: D) -> Result<Spec, D::Error> {
                match kind {
                    $($module::$kind::NAME => $module::$kind::deserialize(fields).map(Spec::$kind),)+
                    _ => Err(serde::de::Error::custom(format_args!("there is no step kind {kind:?}"))),
                }
            }
        }

        /// Every kind, sorted by name.
        pub const KINDS: &[Manual] = &[$(Manual {
            name: $module::$kind::NAME,
            example: $module::$kind::EXAMPLE,
            short: $module::$kind::SHORT,
            expressions: $module::$kind::EXPRESSIONS,
            runs: $module::$kind::RUNS,
            fields: fields::names_of::<$module::$kind>,
            #[cfg(feature = "controller")]
            schema: || schemars::schema_for!($module::$kind),
        }),+];
    };
}

kinds! {
    Assert in assert,
    Blockinfile in blockinfile,
    Command in command,
    Copy in copy,
    Debug in debug,
    Fail in fail,
    File in file,
    Group in group,
    Http in http,
    Lineinfile in lineinfile,
    Package in package,
    Raw in raw,
    Service in service,
    Shell in shell,
    Template in template,
    User in user,
    WaitFor in wait_for,
}

/// What is known of a kind without a step of it.
#[derive(Debug)]
pub struct Manual {
    /// The word that the user writes.
    pub name: &'static str,
    /// See [`Kind::EXAMPLE`].
    pub example: &'static str,
    /// See [`Kind::SHORT`].
    pub short: Option<&'static str>,
    /// See [`Kind::EXPRESSIONS`].
    pub expressions: &'static [&'static str],
    /// See [`Kind::RUNS`].
    pub runs: bool,
    /// The names of its fields, in the order in which the manual shows them.
    pub fields: fn() -> &'static [&'static str],
    /// Its fields, their types and meanings, from the doc comments.
    #[cfg(feature = "controller")]
    pub schema: fn() -> schemars::Schema,
}

/// The default of fields that are true unless the step says otherwise.
fn yes() -> bool {
    true
}

/// The kinds as the language knows them.
pub fn words() -> Vec<KindWord> {
    let word = |kind: &Manual| {
        let Manual { name, short, runs, .. } = *kind;
        KindWord { name, short, fields: (kind.fields)(), runs }
    };
    KINDS.iter().map(word).collect()
}

/// The kind called `name`.
pub fn find(name: &str) -> Option<&'static Manual> {
    KINDS.iter().find(|kind| kind.name == name)
}

impl Spec {
    /// The bytes that the agent is sent.
    pub fn pack(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("a spec is plain data")
    }

    /// Reads the bytes back.
    pub fn unpack(bytes: &[u8]) -> Result<Spec, postcard::Error> {
        postcard::from_bytes(bytes)
    }
}
