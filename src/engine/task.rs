//! One step of one host, rendered: what the agent is sent, or why it cannot be said yet.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use serde_json::Value as Data;

use crate::{
    base::{Fault, Faults, Masker, Place, Secret, fault::nearest},
    engine::{desk::HostDesk, job::Job},
    model::{
        change::CommandSpec,
        decode,
        event::StepLabel,
        ids::TaskNo,
        inventory::Host,
        node::{Node, Value},
        runbook::Step,
        state::Content,
        strategy::Confirm,
    },
    render::{Pending, RenderHalt, Scope},
    report,
    steps::{self, Spec, fields::CommandLine},
    wire::{
        frame::payload_bytes,
        message::{TASK_BYTES_MAX, Task},
    },
};

/// A step, rendered for a host as far as it can be.
pub enum Rendered {
    /// What to do for each item of its loop (one item where there is none).
    Work(Vec<Prepared>),
    /// It waits for something.
    Wait(Pending),
    /// It is wrong.
    Wrong(Faults),
}

/// One item of a step.
#[derive(Clone)]
pub struct Prepared {
    /// What it is called.
    pub label: Arc<StepLabel>,
    /// Whether the name could be rendered by now.
    pub is_named: bool,
    /// The loop's item, if there is a loop.
    pub item: Option<Arc<Data>>,
    /// What to do.
    pub work: Work,
}

/// What to do for one item.
#[derive(Clone)]
pub enum Work {
    /// Nothing, and why.
    Skip(String),
    /// The agent does it; these contents go ahead of it.
    Agent(Box<Task>, Vec<Content>),
    /// Another host's agent does it.
    Delegated(Arc<Host>, Box<Task>),
    /// The login shell does it.
    Raw {
        /// The command line.
        line: String,
        /// Seconds until it is given up.
        timeout_s: u64,
    },
}

/// Seconds that a `raw` step may take where it does not say.
const RAW_TIMEOUT_S: u64 = 300;

/// Items of one loop.
const LOOP_ITEMS_MAX: usize = 10_000;

/// Why rendering stopped.
enum Halt {
    Wait(Pending),
    Wrong(Faults),
}

impl From<RenderHalt> for Halt {
    fn from(halt: RenderHalt) -> Self {
        match halt {
            RenderHalt::Pending(pending) => Halt::Wait(pending),
            RenderHalt::Fault(fault) => Halt::Wrong((*fault).into()),
        }
    }
}

impl From<Fault> for Halt {
    fn from(fault: Fault) -> Self {
        Halt::Wrong(fault.into())
    }
}

/// Renders a step for a host.
pub fn render(job: &Job, step: &Step, no: TaskNo, scope: &Scope) -> Rendered {
    let vars = scope.vars.with_step(&job.step_vars[no.step as usize]);
    let scope = Scope { vars, ..scope.clone() };
    let rendered = items(job, step, &scope).and_then(|items| {
        let mut prepared = Vec::new();
        for (at, item) in items.into_iter().enumerate() {
            let no = TaskNo { item: u32::try_from(at).expect("bounded by LOOP_ITEMS_MAX"), ..no };
            let scope = Scope { item: item.clone(), ..scope.clone() };
            let (label, is_named) = label(job, step, no, &scope);
            prepared.push(Prepared { label, is_named, work: work(job, step, no, &scope)?, item });
        }
        Ok(prepared)
    });
    match rendered {
        Ok(prepared) => Rendered::Work(prepared),
        Err(Halt::Wait(pending)) => Rendered::Wait(pending),
        Err(Halt::Wrong(faults)) => Rendered::Wrong(faults),
    }
}

/// The items of the step's loop; one that is `None` without a loop.
fn items(job: &Job, step: &Step, scope: &Scope) -> Result<Vec<Option<Arc<Data>>>, Halt> {
    let Some(each) = &step.each else { return Ok(vec![None]) };
    let items = whole(job.renderer.items(each, scope))?;
    if items.len() > LOOP_ITEMS_MAX {
        let message = format!("a loop of {} items; at most {LOOP_ITEMS_MAX} are allowed", items.len());
        return Err(Fault::input(message).at(&each.place).into());
    }
    Ok(items.into_iter().map(|item| Some(Arc::new(item))).collect())
}

/// All halts of a rendering as one: what is wrong comes before what is pending.
fn whole<T>(result: Result<T, Vec<RenderHalt>>) -> Result<T, Halt> {
    result.map_err(|halts| {
        let mut faults = Faults::default();
        let mut waits = None;
        for halt in halts {
            match halt {
                RenderHalt::Fault(fault) => faults.push(*fault),
                RenderHalt::Pending(pending) => waits = waits.or(Some(pending)),
            }
        }
        match waits {
            Some(pending) if faults.0.is_empty() => Halt::Wait(pending),
            _ => Halt::Wrong(faults),
        }
    })
}

/// The step as people name it, and whether that is rendered: a name that cannot be (yet) stands as it was written.
fn label(job: &Job, step: &Step, no: TaskNo, scope: &Scope) -> (Arc<StepLabel>, bool) {
    let (name, is_named) = match job.renderer.text(&step.name.value, &step.name.place, scope) {
        Ok(Data::String(name)) => (name, true),
        Ok(other) => (other.to_string(), true),
        Err(_) => (step.name.value.clone(), false),
    };
    (labelled(job, step, no, name), is_named)
}

/// A step under a name.
pub(super) fn labelled(job: &Job, step: &Step, no: TaskNo, name: String) -> Arc<StepLabel> {
    Arc::new(StepLabel {
        no,
        name,
        kind: step.kind.value.clone(),
        place: format!("{}:{}", step.place.file, step.place.line),
        sensitive: step.sensitive,
        handler: job.is_handler(no.step as usize),
    })
}

fn work(job: &Job, step: &Step, no: TaskNo, scope: &Scope) -> Result<Work, Halt> {
    for condition in &step.when {
        if !job.renderer.condition(condition, scope)? {
            return Ok(Work::Skip(format!("when: {} is false", condition.value)));
        }
    }
    let (spec, contents) = spec(job, step, scope)?;
    let timeout_s = step.timeout_s;
    if let Spec::Raw(raw) = spec {
        return Ok(Work::Raw { line: raw.line, timeout_s: timeout_s.unwrap_or(RAW_TIMEOUT_S) });
    }
    let environment = environment(job, step, scope)?;
    let task = Task {
        no,
        kind: step.kind.value.clone(),
        args: spec.pack(),
        notify: job.notified(step),
        only_if_notified: job.is_handler(no.step as usize),
        undo: step.undo.as_ref().map(|undo| undo_command(job, undo, scope)).transpose()?,
        retry: step.retry,
        timeout_s,
        confirm_ms: step.confirm.as_ref().map(Confirm::within_ms),
        environment,
        sensitive: step.sensitive,
    };
    check_size(&task, step)?;
    Ok(match delegate(job, step, scope)? {
        Some(other) => Work::Delegated(other, Box::new(task)),
        None => Work::Agent(Box::new(task), contents),
    })
}

/// A task goes in one message.
fn check_size(task: &Task, step: &Step) -> Result<(), Fault> {
    let bytes = payload_bytes(task);
    if bytes <= TASK_BYTES_MAX {
        return Ok(());
    }
    let fault = Fault::input(format!("this step is too large: {bytes} bytes, of which {TASK_BYTES_MAX} can be sent"));
    Err(fault.at(&step.args.place).hint("put what is large into a file of the project, and have `copy` bring it"))
}

/// The other host that does a step, if one does.
fn delegate(job: &Job, step: &Step, scope: &Scope) -> Result<Option<Arc<Host>>, Halt> {
    let Some(delegate) = &step.delegate_to else { return Ok(None) };
    let wrong = |message: String| Fault::input(message).at(&delegate.place);
    scope.note_own();
    let name = match job.renderer.text(&delegate.value, &delegate.place, scope)? {
        Data::String(name) => name,
        other => return Err(wrong(format!("a host's name is needed here, and this is {other}")).into()),
    };
    if scope.host["name"] == *name {
        return Ok(None);
    }
    let Some(other) = job.inventory.hosts.iter().find(|host| host.name.as_str() == name) else {
        let fault = wrong(format!("there is no host `{name}` in the inventory"));
        let known = job.inventory.hosts.iter().map(|host| host.name.as_str());
        let hint = match nearest(&name, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None if name == "localhost" => "add it: localhost: {transport: local}".to_owned(),
            None => "a step can be delegated to a host that the inventory knows how to reach".to_owned(),
        };
        return Err(fault.hint(hint).into());
    };
    if job.hosts.iter().any(|host| host.name == other.name) {
        let fault = wrong(format!("`{name}` is a host of this run, and does its own steps"));
        let hint = format!(
            "leave it out of the run (hosts: \"{}:!{name}\"), or give it a step of its own",
            job.runbook.hosts.value
        );
        return Err(fault.hint(hint).into());
    }
    Ok(Some(Arc::clone(other)))
}

/// The kind's struct: rendered, typed, prepared. Of a sensitive step it is told what is wrong, and not with which value.
fn spec(job: &Job, step: &Step, scope: &Scope) -> Result<(Spec, Vec<Content>), Halt> {
    let manual = steps::find(&step.kind.value).expect("loading a runbook checks the kinds");
    let args = whole(job.renderer.node(&step.args, manual.expressions, scope))?;
    typed(job, step, scope, &args).map_err(|halt| match halt {
        Halt::Wrong(faults) if step.sensitive => {
            Halt::Wrong(report::hidden(faults, &Masker::new(Secret::all_in(&args.to_data()))))
        }
        halt => halt,
    })
}

fn typed(job: &Job, step: &Step, scope: &Scope, args: &Node) -> Result<(Spec, Vec<Content>), Halt> {
    let mut spec = decode::with(args, |fields| Spec::decode(&step.kind.value, fields)).map_err(Halt::Wrong)?;
    let mut desk = HostDesk {
        shelf: &job.shelf,
        renderer: &job.renderer,
        scope,
        place: &step.args.place,
        masker: &job.masker,
        contents: Vec::new(),
        halt: None,
    };
    if let Err(fault) = spec.prepare(&mut desk) {
        return Err(desk.halt.take().map_or_else(|| located(fault, &step.args.place).into(), Halt::from));
    }
    Ok((spec, desk.contents))
}

fn located(fault: Fault, place: &Place) -> Fault {
    if fault.place.is_some() { fault } else { fault.at(place) }
}

fn environment(job: &Job, step: &Step, scope: &Scope) -> Result<BTreeMap<String, String>, Halt> {
    let (mut variables, mut faults) = (BTreeMap::new(), Faults::default());
    for (name, node) in &step.environment {
        let value = whole(job.renderer.node(node, &[], scope))?;
        variables.extend(faults.keep(decode::text(&value)).map(|text| (name.clone(), text.value)));
    }
    faults.or(variables).map_err(Halt::Wrong)
}

/// `undo:` as a command: a text or a list as `command` takes them, and `{shell: text}` is given to a shell.
fn undo_command(job: &Job, undo: &Node, scope: &Scope) -> Result<CommandSpec, Halt> {
    let node = whole(job.renderer.node(undo, &[], scope))?;
    let wrong = |message: &str| Fault::input(message).at(&undo.place);
    let argv = match &node.value {
        Value::Map(entries) => match &entries[..] {
            [entry] if entry.key == "shell" => vec!["/bin/sh".into(), "-c".into(), decode::text(&entry.value)?.value],
            _ => return Err(wrong("`undo` takes a text, a list, or {shell: text}").into()),
        },
        _ => decode::with(&node, |reader| CommandLine::deserialize(reader)).map_err(Halt::Wrong)?.0,
    };
    if argv.iter().any(|word| job.masker.finds(word)) {
        return Err(wrong("`undo` has a sensitive value among its arguments, where every user could read it")
            .hint("pass it in `environment:`")
            .into());
    }
    Ok(CommandSpec { argv, ..CommandSpec::default() })
}
