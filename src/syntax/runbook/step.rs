//! Steps and handlers.

use serde::Deserialize;

use crate::{
    base::{Fault, Faults, fault::nearest},
    model::{
        decode::{self, Fields},
        ids::StepId,
        node::{Entry, Node, Value},
        runbook::{KindWord, Placed, Retry, Step, Turn},
    },
    syntax::runbook::{ansible, clash, is_identifier, read_vars, strategy},
};

/// Keys that make a block of steps.
const OF_BLOCKS: [&str; 3] = ["block", "rescue", "always"];

/// What a step may have beside its kind.
const KEYS: [&str; 17] = [
    "name",
    "id",
    "when",
    "loop",
    "notify",
    "undo",
    "retry",
    "timeout",
    "environment",
    "vars",
    "sensitive",
    "tags",
    "run_once",
    "throttle",
    "delegate_to",
    "confirm_within",
    "confirm_via",
];

/// Reads a list of steps; those that are wrong are told, and marked.
pub(super) fn list(node: &Node, kinds: &[KindWord], faults: &mut Faults) -> Vec<Step> {
    let items = items(node, faults).unwrap_or_default();
    items.iter().filter_map(|item| read(item, kinds, faults)).collect()
}

/// The items of a list of steps.
pub(super) fn items<'n>(node: &'n Node, faults: &mut Faults) -> Option<&'n [Node]> {
    if let Value::List(items) = &node.value {
        return Some(items);
    }
    let fault = Fault::input(format!("expected a list of steps, and this is {}", node.what())).at(&node.place);
    faults.push(fault.hint("begin each step with a dash"));
    None
}

/// Reads a step; one that is wrong is told, and marked.
pub(super) fn read(node: &Node, kinds: &[KindWord], faults: &mut Faults) -> Option<Step> {
    let mut fields = faults.keep(Fields::of(node, "a step"))?;
    let kind = kind_of(node, kinds, &mut fields.faults);
    if let Some((kind, entry)) = kind {
        fields.pass(kind.name);
        beside(kind, entry).for_each(|field| {
            fields.value(field);
        });
        misplaced(kind, entry, node).for_each(|(field, fault)| {
            fields.pass(field);
            fields.faults.push(fault);
        });
        fields.faults.0.extend(empty(entry));
    }
    OF_BLOCKS.iter().for_each(|key| fields.pass(key));
    let name = fields.text("name");
    let id = fields.read("id", read_id);
    let when = fields.read("when", conditions).unwrap_or_default();
    let each = fields.value("loop").cloned();
    let notify = fields.read("notify", decode::texts).unwrap_or_default();
    let undo = fields.value("undo").cloned();
    let retry = fields.read("retry", read_retry);
    let timeout_s = fields.read("timeout", read_timeout);
    let environment = fields.read("environment", pairs).unwrap_or_default();
    let vars = fields.read("vars", read_vars).unwrap_or_default();
    let sensitive = fields.truth("sensitive");
    let tags = fields.read("tags", tags).unwrap_or_default();
    let turn = turn(&mut fields);
    let confirm = strategy::confirm(&mut fields);
    let delegate_to = fields.text("delegate_to");
    fields.faults.0.extend(kind.iter().flat_map(|(kind, _)| clash::faults(node, kind, kinds)));
    let (word, args) = match kind {
        Some((kind, entry)) => {
            (Placed { value: kind.name.to_owned(), place: entry.key_place.clone() }, arguments(kind, entry, node))
        }
        None => (
            Placed { value: String::new(), place: node.place.clone() },
            Node { value: Value::Null, place: node.place.clone() },
        ),
    };
    fields.refuse(ansible::instead_of_key);
    // Without a kind, the word that was meant as one would be told twice.
    let told = if kind.is_some() { fields.finish(Some(())).err() } else { Some(fields.faults) };
    let is_broken = told.is_some();
    faults.0.extend(told.unwrap_or_default().0);
    Some(Step {
        place: node.place.clone(),
        name: name.unwrap_or_else(|| word.clone()),
        id,
        args,
        kind: word,
        when,
        each,
        notify,
        undo,
        retry,
        timeout_s,
        environment,
        vars,
        sensitive,
        tags,
        turn,
        delegate_to,
        confirm,
        is_broken,
    })
}

/// The one key that is a kind.
fn kind_of<'a>(node: &'a Node, kinds: &'a [KindWord], faults: &mut Faults) -> Option<(&'a KindWord, &'a Entry)> {
    let entries = node.as_map().unwrap_or_default();
    let find = |entry: &'a Entry| kinds.iter().find(|kind| kind.name == entry.key).map(|kind| (kind, entry));
    let mut found = entries.iter().filter_map(find);
    let first = found.next();
    if let (Some((first, _)), Some((second, entry))) = (first, found.next()) {
        let message = format!("a step is of one kind, and this one is `{}` and `{}`", first.name, second.name);
        faults.push(Fault::input(message).at(&entry.key_place).hint("make two steps of it"));
        return None;
    }
    let told = faults.0.len();
    for entry in entries {
        let message = match &*entry.key {
            "block" => "a block stands among `steps`, and not here".to_owned(),
            key if OF_BLOCKS.contains(&key) => format!("`{key}` stands beside `block`, and there is none"),
            _ => continue,
        };
        faults.push(Fault::input(message).at(&entry.key_place));
    }
    if first.is_none() && faults.0.len() == told {
        faults.push(no_kind(node, entries, kinds));
    }
    first
}

fn no_kind(node: &Node, entries: &[Entry], kinds: &[KindWord]) -> Fault {
    let is_strange = |entry: &&Entry| !KEYS.contains(&&*entry.key) && ansible::instead_of_key(&entry.key).is_none();
    let Some(stranger) = entries.iter().find(is_strange) else {
        let fault = Fault::input("this step has no kind: it does not say what to do").at(&node.place);
        return fault.hint("`rollbook kinds` lists the kinds");
    };
    let fault = Fault::input(format!("there is no step kind `{}`", stranger.key)).at(&stranger.key_place);
    let names = || kinds.iter().map(|kind| kind.name);
    let word = ansible::module(&stranger.key);
    if let Some(hint) = ansible::instead_of_module(word) {
        return fault.hint(hint);
    }
    match names().find(|name| *name == word).or_else(|| nearest(word, names().chain(KEYS))) {
        Some(near) => fault.hint(format!("did you mean `{near}`?")),
        None => fault.hint("`rollbook kinds` lists the kinds"),
    }
}

/// The fields that may stand beside the kind's word, where a plain value has filled its short field:
/// `command: make` with `creates: /srv/made` beside it.
fn beside(kind: &KindWord, entry: &Entry) -> impl Iterator<Item = &'static str> {
    let is_short = kind.short.is_some() && entry.value.as_map().is_none();
    let short = kind.short;
    let fields = kind.fields.iter().copied().filter(move |field| is_short && Some(*field) != short);
    fields.filter(|field| !KEYS.contains(field))
}

/// Fields of the kind that stand beside its mapping instead of in it.
fn misplaced<'a>(
    kind: &'a KindWord,
    entry: &'a Entry,
    step: &'a Node,
) -> impl Iterator<Item = (&'static str, Fault)> + 'a {
    let is_map = entry.value.as_map().is_some();
    let fields =
        kind.fields.iter().copied().filter(move |field| is_map && !KEYS.contains(field) && *field != kind.name);
    fields.filter_map(move |field| {
        let other = step.as_map()?.iter().find(|other| other.key == field)?;
        let fault = Fault::input(format!("`{field}` stands beside `{}`", kind.name)).at(&other.key_place);
        Some((field, fault.hint(format!("indent it: it is a key of `{}`", kind.name))))
    })
}

/// Arguments that are named and not given. What a template gives may be nothing: that leaves them open.
fn empty(entry: &Entry) -> impl Iterator<Item = Fault> {
    let arguments = entry.value.as_map().unwrap_or_default();
    arguments.iter().filter(|argument| argument.value.value == Value::Null).map(decode::no_value)
}

/// The kind's arguments as a mapping: a plain value fills the kind's short field.
fn arguments(kind: &KindWord, entry: &Entry, step: &Node) -> Node {
    let Some(short) = kind.short.filter(|_| entry.value.as_map().is_none()) else { return entry.value.clone() };
    let mut arguments: Vec<Entry> = Vec::new();
    if entry.value.value != Value::Null {
        let key_place = entry.value.place.clone();
        arguments.push(Entry { key: short.to_owned(), key_place, value: entry.value.clone() });
    }
    let others = step.as_map().unwrap_or_default();
    arguments.extend(others.iter().filter(|other| beside(kind, entry).any(|field| field == other.key)).cloned());
    Node { value: Value::Map(arguments), place: entry.value.place.clone() }
}

fn turn(fields: &mut Fields<'_>) -> Option<Turn> {
    let throttle = fields.value("throttle").and_then(|node| {
        let hosts = fields.faults.keep(decode::with(node, |reader| u32::deserialize(reader)));
        if hosts == Some(0) {
            fields.faults.push(Fault::input("with a throttle of 0 no host would do it").at(&node.place));
        }
        hosts.map(|hosts| (node, hosts))
    });
    match (fields.truth("run_once"), throttle) {
        (true, Some((node, _))) => {
            let fault = Fault::input("what is done once needs no throttle").at(&node.place);
            fields.faults.push(fault);
            None
        }
        (true, None) => Some(Turn::Once),
        (false, throttle) => throttle.map(|(_, hosts)| Turn::Throttle(hosts)),
    }
}

fn read_id(node: &Node) -> Result<StepId, Fault> {
    let text = decode::text(node)?;
    if !is_identifier(&text.value) {
        return Err(Fault::input(format!("`{}` is no step id", text.value))
            .at(&node.place)
            .hint("use letters, digits and underscores, not beginning with a digit"));
    }
    Ok(StepId(text.value.into()))
}

pub(super) fn conditions(node: &Node) -> Result<Vec<Placed<String>>, Faults> {
    match &node.value {
        Value::Bool(truth) => Ok(vec![Placed { value: truth.to_string(), place: node.place.clone() }]),
        Value::List(items) => {
            let mut faults = Faults::default();
            let found: Vec<_> = items.iter().filter_map(|item| faults.keep(conditions(item))).flatten().collect();
            faults.or(found)
        }
        _ => Ok(vec![decode::text(node)?]),
    }
}

fn read_retry(node: &Node) -> Result<Retry, Faults> {
    let mut fields = Fields::of(node, "`retry`")?;
    let times = fields
        .required("times")
        .and_then(|node| fields.faults.keep(decode::with(node, |reader| serde::Deserialize::deserialize(reader))));
    let delay_ms = fields.read("delay", duration_ms).unwrap_or(1000);
    fields.finish(times.map(|times| Retry { times, delay_ms }))
}

/// Seconds until a step is ended.
fn read_timeout(node: &Node) -> Result<u64, Fault> {
    match duration_ms(node)? {
        0 => {
            Err(Fault::input("a step that may take no time can only fail").at(&node.place).hint("leave `timeout` out"))
        }
        limit_ms => Ok(limit_ms.div_ceil(1000)),
    }
}

/// Milliseconds of `30s`, `1m`, `2h`, `500ms`; a bare number counts seconds.
pub(super) fn duration_ms(node: &Node) -> Result<u64, Fault> {
    let wrong = || {
        Fault::input(format!("expected a duration, and this is {}", node.what()))
            .at(&node.place)
            .hint("write a whole number with ms, s, m or h: `30s`")
    };
    let text = decode::text(node).map_err(|_| wrong())?.value;
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms)).ok_or_else(wrong)
}

/// Variables of the environment.
pub(super) fn pairs(node: &Node) -> Result<Vec<(String, Node)>, Faults> {
    let entries = node.as_map().ok_or_else(|| {
        Fault::input(format!("expected a mapping of names to texts, and this is {}", node.what())).at(&node.place)
    })?;
    let is_wrong = |entry: &&Entry| entry.key.is_empty() || entry.key.contains(['=', '\0']);
    let no_name = |entry: &Entry| {
        let fault = Fault::input(format!("{:?} is no name of a variable of the environment", entry.key));
        fault.at(&entry.key_place).hint("a name is not empty, and has no `=` in it")
    };
    let faults = Faults(entries.iter().filter(is_wrong).map(no_name).collect());
    faults.or(entries.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect())
}

pub(super) fn tags(node: &Node) -> Result<Vec<String>, Faults> {
    let texts = decode::texts(node)?;
    let words = texts.iter().flat_map(|text| text.value.split(',')).map(|tag| tag.trim().to_owned());
    Ok(words.filter(|tag| !tag.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::yaml;

    const KINDS: [KindWord; 2] = [
        KindWord { name: "command", short: Some("cmd"), fields: &["cmd", "creates", "vars"], runs: true },
        KindWord { name: "raw", short: Some("line"), fields: &["line"], runs: false },
    ];

    fn arguments(text: &str) -> Result<serde_json::Value, String> {
        let node = yaml::parse("x.yml", text).map_err(|faults| faults.to_string())?;
        let mut faults = Faults::default();
        let steps = list(&node, &KINDS, &mut faults);
        faults.or(()).map(|()| steps[0].args.to_data()).map_err(|faults| faults.to_string())
    }

    #[test]
    fn fields_may_stand_beside_a_short_form() {
        let expected = serde_json::json!({"cmd": "make all", "creates": "/made"});
        assert_eq!(arguments("- command: make all\n  creates: /made\n  vars: {a: b}\n"), Ok(expected.clone()));
        assert_eq!(arguments("- command: {cmd: make all, creates: /made}\n"), Ok(expected));
    }

    #[test]
    fn an_unknown_kind_is_told_once() {
        let told = arguments("- comand: make\n").unwrap_err();
        assert_eq!(told.matches("comand").count(), 1, "{told}");
    }

    #[test]
    fn what_cannot_be_confirmed_is_told() {
        for (text, words) in [
            ("- command: make\n  confirm_within: 1s\n", "too short"),
            ("- command: make\n  confirm_via: 192.0.2.1\n", "none is asked for"),
            ("- raw: make\n  confirm_within: 10s\n", "`raw` cannot be confirmed"),
        ] {
            let told = arguments(text).unwrap_err();
            assert!(told.contains(words), "{text}: {told}");
        }
        assert!(arguments("- command: make\n  confirm_within: 10s\n  confirm_via: 192.0.2.1\n").is_ok());
    }

    #[test]
    fn beside_a_mapping_they_are_misplaced() {
        let told = arguments("- command: {cmd: make}\n  creates: /made\n").unwrap_err();
        assert!(told.contains("`creates` stands beside `command`"), "{told}");
        assert!(arguments("- command: make\n  cmd: make\n").unwrap_err().contains("`cmd`"));
    }
}
