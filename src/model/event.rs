//! The one stream of events. Terminal, record and JSON lines are sinks of it.
//!
//! Its JSON form is public and stable (docs/events.md): a field is never renamed or removed within a version,
//! and readers must pass over fields and events that they do not know.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    base::{Digest, Fault, Timestamp},
    model::{
        change::DeedReport,
        ids::{HostName, RunId, TaskNo},
        runbook::Risk,
    },
};

/// The version of the events' JSON form.
pub const EVENT_VERSION: u32 = 1;

/// An event and when it was seen by the controller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stamped {
    /// When.
    pub at: Timestamp,
    /// Of which run.
    pub run: RunId,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// Everything that can be told of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Before the first connection.
    RunOpened(Box<RunOpened>),
    /// The agent of a host has said hello.
    HostConnected(HostConnected),
    /// A host could not be reached, or is not who it says.
    HostUnreachable {
        /// Which.
        host: HostName,
        /// Why.
        fault: Fault,
    },
    /// A step begins on a host. Shown, not recorded.
    StepStarted {
        /// Where.
        host: HostName,
        /// What.
        step: Arc<StepLabel>,
    },
    /// A deed is done on a host. Recorded.
    DeedDone {
        /// Where.
        host: HostName,
        /// By what.
        step: Arc<StepLabel>,
        /// What.
        report: Box<DeedReport>,
        /// Microseconds that it took.
        took_us: u64,
    },
    /// A step has ended on a host.
    StepEnded {
        /// Where.
        host: HostName,
        /// What.
        step: Arc<StepLabel>,
        /// How.
        end: Box<StepEnd>,
    },
    /// A deed was undone, or could not be.
    DeedUndone {
        /// Where.
        host: HostName,
        /// The step that had done it.
        step: Arc<StepLabel>,
        /// The deed.
        report: Box<DeedReport>,
        /// How that went.
        how: Undone,
    },
    /// A host is finished with.
    HostEnded {
        /// Which.
        host: HostName,
        /// How.
        outcome: HostOutcome,
        /// What was counted.
        counts: Counts,
        /// Why, when it did not succeed.
        fault: Option<Fault>,
    },
    /// The run is over.
    RunClosed {
        /// How it ended.
        outcome: RunOutcome,
        /// Hosts by outcome.
        hosts: BTreeMap<HostOutcome, u32>,
        /// All hosts' counts together.
        counts: Counts,
        /// Milliseconds from opening to closing.
        took_ms: u64,
    },
    /// Something worth knowing that changes nothing.
    Note {
        /// Which host it is about, if one.
        host: Option<HostName>,
        /// One sentence.
        message: String,
    },
}

impl Event {
    /// Its word in the JSON form.
    pub fn word(&self) -> &'static str {
        match self {
            Event::RunOpened(_) => "run_opened",
            Event::HostConnected(_) => "host_connected",
            Event::HostUnreachable { .. } => "host_unreachable",
            Event::StepStarted { .. } => "step_started",
            Event::DeedDone { .. } => "deed_done",
            Event::StepEnded { .. } => "step_ended",
            Event::DeedUndone { .. } => "deed_undone",
            Event::HostEnded { .. } => "host_ended",
            Event::RunClosed { .. } => "run_closed",
            Event::Note { .. } => "note",
        }
    }
}

/// Who runs what, why, and on which hosts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunOpened {
    /// The version of the events' JSON form.
    pub version: u32,
    /// Rollbook's own version.
    pub rollbook: String,
    /// A plan writes nothing.
    pub mode: Mode,
    /// Who.
    pub operator: Operator,
    /// `--reason`.
    pub reason: Option<String>,
    /// `--change`: the ticket that allows it.
    pub change: Option<String>,
    /// What.
    pub runbook: RunbookLabel,
    /// Inventory files and their digests.
    pub inventory: Vec<(String, Digest)>,
    /// Parameters as used; sensitive ones are hidden.
    pub params: BTreeMap<String, serde_json::Value>,
    /// Variables that were given beside them; what their names say is secret is hidden.
    #[serde(default)]
    pub set: BTreeMap<String, serde_json::Value>,
    /// `--tags`.
    pub tags: Vec<String>,
    /// `--limit`.
    pub limit: Option<String>,
    /// The hosts, in the order of the inventory.
    pub hosts: Vec<HostName>,
    /// The run that this one undoes.
    pub undoes: Option<RunId>,
    /// Whom the runbook becomes on hosts of which the inventory does not say it.
    pub becomes: Option<String>,
}

/// Whether anything may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Nothing may.
    Plan,
    /// It may.
    Apply,
}

/// Who runs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// Login name on the controller.
    pub user: String,
    /// The one behind sudo, if any.
    pub sudo_user: Option<String>,
    /// The controller's host name.
    pub host: String,
    /// Where that login came from (`SSH_CONNECTION`), if remote.
    pub from: Option<String>,
}

impl std::fmt::Display for Operator {
    /// Who and where, for whoever meets the run.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.user, self.host)
    }
}

/// Which runbook, exactly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunbookLabel {
    /// The file as given.
    pub file: String,
    /// Its name.
    pub name: String,
    /// Who answers for it.
    pub owner: Option<String>,
    /// How much can go wrong.
    pub risk: Option<Risk>,
    /// SHA-256 of the file.
    pub digest: Digest,
    /// The git commit that it is in, if it is in a repository.
    pub commit: Option<String>,
    /// Whether that checkout had uncommitted changes.
    pub dirty: bool,
    /// Why git told nothing of a checkout that is there, if so.
    #[serde(default)]
    pub untold: Option<String>,
}

/// A step as people name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepLabel {
    /// Its number, and the item of its loop.
    pub no: TaskNo,
    /// Its name, rendered.
    pub name: String,
    /// Its kind's word.
    pub kind: String,
    /// `file:line` in the runbook.
    pub place: String,
    /// Nothing of it is shown.
    pub sensitive: bool,
    /// It is a handler.
    pub handler: bool,
}

/// A host that answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostConnected {
    /// Which.
    pub host: HostName,
    /// `address:port`, or `local`.
    pub address: String,
    /// The transport's word.
    pub transport: String,
    /// The host key's fingerprint (`SHA256:…`), where the transport knows it.
    pub host_key: Option<String>,
    /// Digest of the agent program, short; none where no agent runs.
    pub agent: Option<String>,
    /// Whether the agent had to be put there.
    pub installed: bool,
    /// Distribution, version and machine, for the record.
    pub system: String,
    /// Milliseconds from connecting to hello.
    pub took_ms: u64,
}

/// How a step ended on a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepEnd {
    /// How.
    pub outcome: StepOutcome,
    /// In a plan: what would be done. In an apply every deed has come as an event of its own.
    pub deeds: Vec<DeedReport>,
    /// What its command printed, if it ran one.
    pub output: Option<Output>,
    /// One sentence: what it says, why it failed, was skipped or cannot be known.
    pub message: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
    /// Microseconds that it took.
    pub took_us: u64,
}

/// How a step can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// All was as wanted.
    Ok,
    /// It changed something; in a plan, it would.
    Changed,
    /// Its `when` is false, its handler was not notified, or its tags were not chosen.
    Skipped,
    /// In a plan: it cannot be known before it is applied.
    Unknown,
    /// It failed.
    Failed,
}

/// What a command printed, capped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// It ran past its time and was ended.
    pub timed_out: bool,
    /// What it wrote.
    pub stdout: Capped,
    /// What it wrote beside that.
    pub stderr: Capped,
}

impl Output {
    /// Whether it ended with code 0.
    pub fn succeeded(&self) -> bool {
        self.code == Some(0) && !self.timed_out
    }
}

/// The beginning and the end of a stream, and how long it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capped {
    /// What was kept, invalid UTF-8 replaced. When cut, the head, a line that says how much is missing, the tail.
    pub text: String,
    /// How many bytes there were in all.
    pub bytes: u64,
    /// Whether something is missing.
    pub cut: bool,
}

/// How undoing a deed went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undone {
    /// It is as it was before.
    Undone,
    /// It was already as it was before.
    AlreadyBefore,
    /// Someone else has changed it since: left alone.
    Drifted(String),
    /// Nothing undoes it.
    Irreversible,
    /// Undoing failed.
    Failed(String),
}

/// How a host ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostOutcome {
    /// All steps are done.
    Succeeded,
    /// It failed, and is as it was before, also because nothing had been done yet.
    RolledBack,
    /// It failed, and what was done stays (`on_failure: stop`), or it refused the run. In a plan: a step failed.
    Failed,
    /// It failed, and something could not be put back.
    NeedsRecovery,
    /// It could not be reached; nothing was done.
    Unreachable,
    /// The line was lost: the agent finishes by itself, with a result that nobody has seen yet.
    Unknown,
    /// The run ended before its turn.
    NotStarted,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// Every host succeeded.
    Succeeded,
    /// At least one host failed; everything that was done on failed hosts is undone.
    RolledBack,
    /// Something failed with nothing to undo, or with what was done left in place as asked; or only some hosts
    /// were reached.
    Failed,
    /// At least one host is not as it was before.
    NeedsRecovery,
}

/// What is counted per host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Steps that found all as wanted.
    pub ok: u32,
    /// Steps that changed something.
    pub changed: u32,
    /// Steps that were skipped.
    pub skipped: u32,
    /// Steps that failed.
    pub failed: u32,
    /// In a plan: steps that cannot be known.
    pub unknown: u32,
    /// Deeds that were undone.
    pub undone: u32,
}

/// Where events go. What a sink refuses does not happen: the engine stops and undoes.
pub trait Sink: Send {
    /// Takes an event in; when it returns, the event is where it should be (for the record: on disk).
    fn take(&mut self, event: &Stamped) -> Result<(), Fault>;

    /// Takes several in, in their order. After an error, none or some of them are where they should be.
    fn take_all(&mut self, events: &[Stamped]) -> Result<(), Fault> {
        events.iter().try_for_each(|event| self.take(event))
    }
}
