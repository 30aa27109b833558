//! A runbook's file to its model. The format's reference is docs/runbook-format.md.

mod ansible;
mod block;
mod clash;
mod params;
mod step;
mod strategy;

use std::{collections::HashSet, path::Path};

use crate::{
    base::{Digest, Fault, Faults, fault::nearest},
    model::{
        decode::{self, Fields},
        inventory::{self, Become},
        node::{Entry, Node, Value},
        runbook::{KindWord, Runbook, Step, Turn},
    },
    syntax::yaml,
};

use block::Outline;
pub use params::{Bound, bind_params};

/// Names that a variable cannot have: templates find other things under them.
const RESERVED: [&str; 8] = ["params", "vars", "host", "groups", "facts", "steps", "item", "loop"];

/// Reads and checks a runbook. `kinds` are the step kinds that there are. All faults are given, in the order of the
/// file; where only steps are wrong, there is a runbook beside them, in which those are marked.
pub fn load(path: &Path, kinds: &[KindWord]) -> (Option<Runbook>, Faults) {
    match yaml::text_of(path) {
        Ok(text) => parse(&path.to_string_lossy(), &text, kinds),
        Err(fault) => (None, fault.into()),
    }
}

/// Reads and checks the text of a runbook: see [`load`].
pub fn parse(file: &str, text: &str, kinds: &[KindWord]) -> (Option<Runbook>, Faults) {
    let mut faults = Faults::default();
    let node = faults.keep(yaml::parse(file, text));
    let fields = node.as_ref().and_then(|node| faults.keep(fields_of(node)));
    let Some(mut fields) = fields else { return (None, faults) };
    let name = fields.required("runbook").and_then(|node| fields.faults.keep(decode::text(node)));
    let hosts = fields.required("hosts").and_then(|node| fields.faults.keep(decode::text(node)));
    let description = fields.text("description").map(|text| text.value);
    let owner = fields.text("owner").map(|text| text.value);
    let risk = fields.read("risk", |node| decode::with(node, |reader| serde::Deserialize::deserialize(reader)));
    let become_user = fields.read("become", read_become).unwrap_or_default();
    let params = fields.read("params", params::read).unwrap_or_default();
    let vars = fields.read("vars", read_vars).unwrap_or_default();
    let (strategy, verify) = fields.read("strategy", |node| strategy::read(node, kinds)).unwrap_or_default();
    let (steps, handlers) = (fields.required("steps"), fields.value("handlers"));
    let is_head_sound = fields.faults.0.is_empty();
    let Outline { steps, marks, .. } =
        steps.map(|node| Outline::read(node, kinds, &mut fields.faults)).unwrap_or_default();
    let sound = fields.faults.0.len();
    let handlers = handlers.map(|node| step::list(node, kinds, &mut fields.faults)).unwrap_or_default();
    let handlers_are_whole = fields.faults.0.len() == sound;
    for handler in handlers.iter().filter(|handler| handler.turn == Some(Turn::Once)) {
        let fault = Fault::input("a handler runs on each host that notified it, and not once for all");
        fields.faults.push(fault.at(&handler.place));
    }
    for delegate in handlers.iter().filter_map(|handler| handler.delegate_to.as_ref()) {
        let fault = Fault::input("a handler runs on the host that notified it, and not on another");
        fields.faults.push(fault.at(&delegate.place));
    }
    check_raw(&handlers, &mut fields.faults);
    check_ids(steps.iter().chain(&handlers).chain(&verify), &mut fields.faults);
    if handlers_are_whole {
        check_handlers(&steps, &handlers, &mut fields.faults);
    }
    let runbook = name.zip(hosts).filter(|_| is_head_sound).map(|(name, hosts)| Runbook {
        file: file.into(),
        digest: Digest::of(text.as_bytes()),
        name: name.value,
        description,
        owner,
        risk,
        hosts,
        become_user,
        strategy,
        verify,
        params,
        vars,
        steps,
        marks,
        handlers,
    });
    fields.refuse(ansible::instead_of_key);
    (runbook, fields.finish(Some(())).err().unwrap_or_default())
}

fn fields_of(node: &Node) -> Result<Fields<'_>, Fault> {
    Fields::of(node, "a runbook").map_err(|fault| match node.value {
        Value::List(_) => fault.hint("a play of a playbook is a runbook: take its dash away, and say `runbook: NAME`"),
        _ => fault,
    })
}

fn read_become(node: &Node) -> Result<Become, Fault> {
    match &node.value {
        Value::Bool(true) => Ok(Become::Root),
        Value::Bool(false) => Ok(Become::No),
        Value::Text { text, .. } if text == "root" => Ok(Become::Root),
        Value::Text { text, plain } if *plain && ["yes", "no", "on", "off"].contains(&&*text.to_lowercase()) => {
            Err(Fault::input(format!("{text} is not a boolean here")).at(&node.place).hint("write true or false"))
        }
        Value::Text { text, .. } => {
            inventory::check_user(text).map(|()| Become::User(text.clone())).map_err(|fault| fault.at(&node.place))
        }
        _ => {
            Err(Fault::input(format!("expected true, false or a user's name, and this is {}", node.what()))
                .at(&node.place))
        }
    }
}

/// Variables in the order of the file.
pub(super) fn read_vars(node: &Node) -> Result<Vec<(String, Node)>, Faults> {
    let entries = node.as_map().ok_or_else(|| {
        Fault::input(format!("variables are a mapping of names to values, and this is {}", node.what())).at(&node.place)
    })?;
    let mut faults = Faults::default();
    for entry in entries {
        faults.keep(check_var_name(entry));
    }
    faults.or(entries.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect())
}

/// Whether a variable can have this name.
pub(super) fn check_var_name(entry: &Entry) -> Result<(), Fault> {
    if RESERVED.contains(&&*entry.key) {
        let message = format!("a variable cannot be called `{}`: templates find other things there", entry.key);
        return Err(Fault::input(message).at(&entry.key_place));
    }
    if !is_identifier(&entry.key) {
        let fault = Fault::input(format!("`{}` is no variable name", entry.key)).at(&entry.key_place);
        return Err(fault.hint("use letters, digits and underscores, not beginning with a digit"));
    }
    Ok(())
}

/// Letters, digits and underscores, not beginning with a digit.
pub(super) fn is_identifier(name: &str) -> bool {
    let begins = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    begins && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

/// `raw` is done past the agent, which runs the handlers that it hears of.
fn check_raw(handlers: &[Step], faults: &mut Faults) {
    for handler in handlers.iter().filter(|step| step.kind.value == "raw") {
        let fault = Fault::input("`raw` cannot be a handler: those are run by the agent");
        faults.push(fault.at(&handler.kind.place).hint("use `command` or `shell`"));
    }
}

/// Ids are unique.
fn check_ids<'s>(steps: impl Iterator<Item = &'s Step>, faults: &mut Faults) {
    let mut ids = HashSet::new();
    for step in steps {
        if let Some(id) = &step.id
            && !ids.insert(id.clone())
        {
            faults.push(Fault::input(format!("another step has the id `{id}`")).at(&step.place));
        }
    }
}

/// Handler names are unique, and what is notified exists.
fn check_handlers(steps: &[Step], handlers: &[Step], faults: &mut Faults) {
    let mut names = HashSet::new();
    for handler in handlers {
        if !names.insert(handler.name.value.as_str()) {
            let message = format!("another handler is called {:?}", handler.name.value);
            faults.push(Fault::input(message).at(&handler.name.place));
        }
    }
    for notified in steps.iter().chain(handlers).flat_map(|step| &step.notify) {
        if !names.contains(notified.value.as_str()) {
            let fault = Fault::input(format!("there is no handler {:?}", notified.value)).at(&notified.place);
            faults.push(match nearest(&notified.value, names.iter().copied()) {
                Some(near) => fault.hint(format!("did you mean {near:?}?")),
                None => fault.hint("handlers stand under `handlers:`, and are notified by name"),
            });
        }
    }
}
