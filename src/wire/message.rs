//! The messages. Both sides are built from one source and find each other by content hash, so there is no
//! negotiation: the hello's version must be equal.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::model::witness::Witness;
use crate::{
    base::Digest,
    model::{
        change::{CommandSpec, DeedReport},
        event::{Counts, HostOutcome, Mode, Output, StepOutcome, Undone},
        facts::Facts,
        ids::{RunId, TaskNo},
        lease::{Bid, OpenRun},
        runbook::{Mark, Retry},
        state::Content,
        strategy::OnFailure,
    },
    wire::{Piece, frame::PAYLOAD_BYTES_MAX},
};

/// What the agent writes before its first frame. A login shell's chatter may come before it.
pub const HELLO_MAGIC: &[u8; 16] = b"\x00ROLLBOOK-AGENT\n";

/// The protocol's version; part of the hello.
pub const WIRE_VERSION: u32 = 1;

/// Contents that travel in up to this many bytes are sent ahead of their task; larger ones when the agent asks.
pub const AHEAD_BYTES_MAX: u64 = 32 * 1024;

/// Bytes of content in one frame.
pub const CHUNK_BYTES: usize = 128 * 1024;

/// The longest task, and the longest word on handlers: what is told of one, with a diff, still fits into a frame.
pub const TASK_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - 128 * 1024;

/// The longest pause between two words of a controller, in milliseconds.
pub const PING_MS: u32 = 10_000;

/// After so many attempts to put everything back that failed, someone has to look.
pub const ATTEMPTS_MAX: u32 = 3;

/// From the controller to the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToAgent {
    /// Begins a plan or an apply. Answered by nothing; an agent that must refuse sends `Closed`.
    Open(Open),
    /// A piece of content. Pieces of one content come in order, without gaps.
    Blob(BlobChunk),
    /// Handlers of the run, as far as they can be told by now. Comes before the first task; not answered.
    Handlers(Handlers),
    /// One thing to do. Tasks are done in the order in which they come.
    Task(Box<Task>),
    /// The tasks that come are another part of a block. An end is answered by `BlockEnded`, unless the run fails with it.
    Mark(Mark),
    /// No more tasks. An apply becomes final: its journal is closed. Answered by `Closed`.
    Close {
        /// The head of the record's chain, kept on the target as a witness.
        witness: Option<Witness>,
    },
    /// Undo everything of this apply. Answered by `Undone`s and `Closed`.
    Unwind,
    /// Undo what these tasks did, and go on. Answered by `Undone`s and `BlockEnded`. What cannot be undone is told again
    /// with `Closed`.
    UndoTasks(Vec<TaskNo>),
    /// End the process group that runs now; the task fails and the apply is unwound.
    Cancel,
    /// The operator stops the run: the resource at hand is finished, a command of the runbook's that runs is ended, and
    /// nothing more is begun. Answered by `Held`, unless the run has ended; `Unwind` or `Keep` follows.
    Stop,
    /// What a stopped run has done stays, when it is confirmed where that is asked for. Answered by `Closed`.
    Keep,
    /// The controller is still there. Said every [`PING_MS`] at least; answered by `Alive`, whatever the agent is at.
    Ping,
    /// A run on this host that another agent holds is confirmed with its token. Answered by `Closed` when it is settled, or
    /// when it goes on behind a step.
    Confirm {
        /// The run.
        run: RunId,
        /// What its agent had told.
        token: String,
        /// Whether it is a step that is confirmed.
        of_step: bool,
    },
    /// Which witnesses are kept? Answered by `Witnesses`.
    AskWitnesses,
    /// Settle the run that is found open. Answered as `Unwind` is; where nothing that is meant is open, by a `Closed` without
    /// a message: how the run that is meant had ended, or `NotStarted` where nothing of it is kept.
    Recover {
        /// Only this run.
        run: Option<RunId>,
        /// How.
        how: Settle,
    },
    /// The same of a run that another agent is at work for: that is asked to let go first.
    Steal {
        /// Only this run.
        run: RunId,
        /// A sentence that its agent is told: who takes it over, and why.
        words: String,
    },
    /// Undo a run that is settled. Answered by tasks as they go back, by `Undone`s for what does not, and by `Ready`; it
    /// becomes final with `Close`.
    Undo(Box<UndoRun>),
}

/// How a run that was cut off is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Settle {
    /// Look at each resource, put back what is ours. Refused once that was tried [`ATTEMPTS_MAX`] times in vain.
    Back,
    /// The same, however often it was tried: someone has looked, and says that it may work now.
    BackAgain,
    /// It stays as it is: someone has looked, and answers for it. Nothing is changed.
    AsItIs,
}

/// How a plan or an apply begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Open {
    /// The run, and who runs it and why, for the lock and for whoever meets it.
    pub bid: Bid,
    /// Whether anything may be written.
    pub mode: Mode,
    /// What to do at the first failure.
    pub on_failure: OnFailure,
    /// The head of the record's chain when the run was opened.
    pub witness: Option<Witness>,
    /// What becomes of an apply that its controller leaves alone.
    pub vigil: Vigil,
}

/// What becomes of an apply that its controller leaves alone. All times are counted on the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vigil {
    /// A controller that says nothing for so many milliseconds is lost.
    pub silence_ms: u32,
    /// When the controller is lost, the run waits for so many milliseconds until one is back, then it is undone.
    pub grace_ms: u32,
    /// When everything is done, it becomes final only if it is confirmed over another line within so many milliseconds.
    /// The agent answers `Open` with a `Token` then.
    pub confirm_ms: Option<u32>,
}

impl Default for Vigil {
    fn default() -> Self {
        Vigil { silence_ms: 3 * PING_MS, grace_ms: 120_000, confirm_ms: None }
    }
}

/// How the undo of a settled run begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UndoRun {
    /// The run that undoes, as any other. What fails in it is put back.
    pub open: Open,
    /// The run that is undone.
    pub of: RunId,
    /// What someone else has changed since goes back too.
    pub force_drift: bool,
}

/// A piece of content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlobChunk {
    /// The content that it is a piece of.
    pub content: Content,
    /// Where it begins.
    pub offset: u64,
    /// The bytes.
    pub piece: Piece,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its number.
    pub no: TaskNo,
    /// The step kind's word.
    pub kind: String,
    /// The kind's struct, packed by `steps::Spec::pack`.
    #[serde(with = "super::bytes")]
    pub args: Vec<u8>,
    /// Steps (handlers) to wake if this one changes something.
    pub notify: Vec<u32>,
    /// A handler: done only if its step number has been woken.
    pub only_if_notified: bool,
    /// How an act of this task is undone.
    pub undo: Option<CommandSpec>,
    /// How often to try.
    pub retry: Option<Retry>,
    /// Seconds for the whole task.
    pub timeout_s: Option<u64>,
    /// If it has changed something, no other task begins before that is confirmed over another line within so many
    /// milliseconds; else all of the apply is undone. The agent sends a `Token` before it begins.
    pub confirm_ms: Option<u32>,
    /// Variables for its commands.
    pub environment: BTreeMap<String, String>,
    /// No diffs, no output.
    pub sensitive: bool,
}

/// Handlers, and who notifies them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Handlers {
    /// The handlers, as they may come later.
    pub tasks: Vec<Task>,
    /// Which handlers each step notifies, by their numbers.
    pub notified_by: BTreeMap<u32, Vec<u32>>,
}

/// From the agent to the controller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromAgent {
    /// First of all.
    Hello(Box<Hello>),
    /// A task begins.
    Started(TaskNo),
    /// A deed is done.
    Done {
        /// By which task.
        no: TaskNo,
        /// What.
        report: Box<DeedReport>,
        /// Microseconds that it took.
        took_us: u64,
    },
    /// A task has ended.
    Ended(Box<TaskEnd>),
    /// A block has ended: whole, or rescued.
    BlockEnded,
    /// The agent is still there.
    Alive,
    /// A deed was undone, or could not be.
    Undone {
        /// The task that had done it.
        no: TaskNo,
        /// What.
        report: Box<DeedReport>,
        /// How that went.
        how: Undone,
    },
    /// The run is stopped, and waits to be told what becomes of what was done.
    Held,
    /// What this apply is to be confirmed with, over another line.
    Token {
        /// The task after which that is waited for; the end of the apply where it is none.
        no: Option<TaskNo>,
        /// Words that nobody can guess.
        token: String,
    },
    /// What is to stay, at the end of an apply, waits to be confirmed.
    Awaits,
    /// All of an undo is done: it waits for `Close`.
    Ready,
    /// A content that a task needs and that was not sent ahead.
    Need(Content),
    /// The plan or apply is over, or was refused.
    Closed(Closed),
    /// The witnesses that are kept.
    Witnesses(Vec<Witness>),
    /// Something worth telling.
    Note(String),
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`WIRE_VERSION`].
    pub wire: u32,
    /// SHA-256 of the agent's own program file.
    pub digest: Digest,
    /// What is true of the host.
    pub facts: Facts,
    /// A run that holds the host or was never settled, if there is one.
    pub open_run: Option<OpenRun>,
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskEnd {
    /// Which.
    pub no: TaskNo,
    /// How.
    pub outcome: StepOutcome,
    /// In a plan: what would be done; the first of very many came before, as `Done`. In an apply all came so.
    pub deeds: Vec<DeedReport>,
    /// What its command printed.
    pub output: Option<Output>,
    /// One sentence.
    pub message: Option<String>,
    /// More results for `steps.<id>.*`, a JSON object; empty when there are none.
    pub data: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Microseconds that it took.
    pub took_us: u64,
}

/// How a plan or an apply ended on this host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Closed {
    /// How.
    pub outcome: HostOutcome,
    /// What was counted.
    pub counts: Counts,
    /// Why, when it did not succeed.
    pub message: Option<String>,
}
