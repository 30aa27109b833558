//! Parameters: what a runbook declares, and what its caller gives.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value as Data;

use crate::{
    base::{Fault, Faults, fault::nearest, secret::HIDDEN},
    model::{
        decode::{self, Fields},
        node::{Entry, Node, Value},
        runbook::{Param, ParamType, Runbook},
    },
    syntax::runbook::is_identifier,
};

/// Reads the declarations.
pub(super) fn read(node: &Node) -> Result<BTreeMap<String, Param>, Faults> {
    let entries = node.as_map().ok_or_else(|| {
        Fault::input(format!("params are a mapping of names to declarations, and this is {}", node.what()))
            .at(&node.place)
    })?;
    let mut faults = Faults::default();
    let mut params = BTreeMap::new();
    for entry in entries {
        if !is_identifier(&entry.key) {
            let fault = Fault::input(format!("`{}` is no parameter name", entry.key)).at(&entry.key_place);
            faults.push(fault.hint("use letters, digits and underscores, not beginning with a digit"));
        }
        if let Some(param) = faults.keep(read_one(entry)) {
            params.insert(entry.key.clone(), param);
        }
    }
    faults.or(params)
}

fn read_one(entry: &Entry) -> Result<Param, Faults> {
    let mut fields = Fields::of(&entry.value, "a parameter's declaration")?;
    let kind = fields
        .required("type")
        .and_then(|node| fields.faults.keep(decode::with(node, |reader| serde::Deserialize::deserialize(reader))));
    let required = fields.truth("required");
    let default = fields.value("default").cloned();
    let pattern = fields.text("pattern");
    let choices = fields.read("choices", |node| match &node.value {
        Value::List(items) => Ok(items.clone()),
        _ => Err(Fault::input(format!("expected a list, and this is {}", node.what())).at(&node.place)),
    });
    let description = fields.text("description").map(|text| text.value);
    let sensitive = fields.truth("sensitive");
    let param = kind.map(|kind| Param {
        kind,
        required,
        default,
        pattern,
        choices,
        description,
        sensitive,
        place: entry.key_place.clone(),
    });
    if let Some(param) = &param {
        check(param, &mut fields.faults);
    }
    fields.finish(param)
}

fn check(param: &Param, faults: &mut Faults) {
    if param.required && param.default.is_some() {
        faults.push(Fault::input("a required parameter has no default: remove one of the two").at(&param.place));
    }
    if !param.required && param.default.is_none() {
        faults.push(
            Fault::input("a parameter is required or has a default, and this one is neither")
                .at(&param.place)
                .hint("add `required: true` or `default: …`"),
        );
    }
    if let Some(pattern) = &param.pattern {
        if param.kind != ParamType::String {
            faults.push(Fault::input("only a parameter of type string has a pattern").at(&pattern.place));
        }
        faults.keep(compile(param).map(drop));
    }
    for value in param.choices.iter().flatten() {
        faults.keep(typed(value, param.kind).map(drop));
    }
    if let Some(default) = &param.default {
        faults.keep(value_of(param, default).map(drop));
    }
}

fn compile(param: &Param) -> Result<Option<Regex>, Fault> {
    let Some(pattern) = &param.pattern else { return Ok(None) };
    let build = |text: &str| regex::RegexBuilder::new(text).size_limit(10 << 20).build();
    // The whole value must match, whatever alternatives the pattern has, and it must be one by itself: `a)|(b` is none.
    let whole = format!("^(?:{})$", pattern.value);
    build(&pattern.value).and_then(|_| build(&whole)).map(Some).map_err(|_| {
        let error = Regex::new(&pattern.value).err().map_or_else(|| "too large".to_owned(), |error| error.to_string());
        // The crate draws the place over several lines; its reason is the last.
        let error = error.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Fault::input(format!("the pattern is no regular expression: {error}")).at(&pattern.place)
    })
}

/// A value of a declared type. A text given for another type is read as that type, strictly: the command line has
/// only texts.
fn typed(node: &Node, kind: ParamType) -> Result<Data, Fault> {
    let wrong = |what: &str| Fault::input(format!("expected {what}, and this is {}", node.what())).at(&node.place);
    match (kind, &node.value) {
        (ParamType::String, Value::Text { text, .. }) => Ok(text.clone().into()),
        (ParamType::String, _) => Err(wrong("a text").hint("put it in quotes")),
        (ParamType::Int, Value::Int(number)) => Ok((*number).into()),
        (ParamType::Int, Value::Text { text, .. }) => {
            text.parse::<i64>().map(Data::from).map_err(|_| wrong("a whole number"))
        }
        (ParamType::Int, _) => Err(wrong("a whole number")),
        (ParamType::Float, Value::Int(number)) => Ok((*number as f64).into()),
        (ParamType::Float, Value::Float(number)) => Ok((*number).into()),
        (ParamType::Float, Value::Text { text, .. }) => {
            let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
            number.map(Data::from).ok_or_else(|| wrong("a number"))
        }
        (ParamType::Float, _) => Err(wrong("a number")),
        (ParamType::Bool, Value::Bool(truth)) => Ok((*truth).into()),
        (ParamType::Bool, Value::Text { text, .. }) if text == "true" || text == "false" => Ok((text == "true").into()),
        (ParamType::Bool, _) => Err(wrong("true or false").hint("write `true` or `false`, in small letters")),
        (ParamType::List, Value::List(_)) | (ParamType::Map, Value::Map(_)) => Ok(node.to_data()),
        (ParamType::List, _) => Err(wrong("a list").hint("give lists in a file: --set @values.yml")),
        (ParamType::Map, _) => Err(wrong("a mapping").hint("give mappings in a file: --set @values.yml")),
    }
}

/// A value, checked against everything that its parameter declares. A sensitive value is not shown.
fn value_of(param: &Param, node: &Node) -> Result<Data, Fault> {
    let hidden = |fault: Fault| match param.sensitive {
        true => Fault { message: "this sensitive value does not fit what is declared".into(), ..fault },
        false => fault,
    };
    let value = typed(node, param.kind).map_err(hidden)?;
    let shown = if param.sensitive { HIDDEN.to_owned() } else { value.to_string() };
    // A pattern that is none was told where it is declared.
    if let (Some(pattern), Some(text)) = (compile(param).ok().flatten(), value.as_str())
        && !pattern.is_match(text)
    {
        let wanted = param.pattern.as_ref().map_or("", |pattern| &pattern.value);
        return Err(Fault::input(format!("{shown} does not match the pattern {wanted}")).at(&node.place));
    }
    if let Some(choices) = &param.choices
        && !choices.iter().filter_map(|choice| typed(choice, param.kind).ok()).any(|choice| choice == value)
    {
        let words: Vec<String> = choices.iter().map(|choice| choice.to_data().to_string()).collect();
        return Err(Fault::input(format!("{shown} is none of {}", words.join(", "))).at(&node.place));
    }
    Ok(value)
}

/// A parameter's value in a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    /// The value, of the declared type.
    pub value: Data,
    /// It must not be seen.
    pub sensitive: bool,
}

impl Bound {
    /// The value as it may be shown.
    pub fn shown(&self) -> Data {
        if self.sensitive { HIDDEN.into() } else { self.value.clone() }
    }
}

/// Gives each parameter its value: what the caller gives, else the default. All that is wrong or missing is told.
pub fn bind_params(runbook: &Runbook, given: &[(String, Node)]) -> Result<BTreeMap<String, Bound>, Faults> {
    let mut faults = Faults::default();
    for (name, node) in given {
        if !runbook.params.contains_key(name) {
            let fault = Fault::input(format!("the runbook has no parameter or variable `{name}`")).at(&node.place);
            let known = runbook.params.keys().chain(runbook.vars.iter().map(|(name, _)| name));
            faults.push(match nearest(name, known.map(String::as_str)) {
                Some(near) => fault.hint(format!("did you mean `{near}`?")),
                None => fault,
            });
        }
    }
    let mut bound = BTreeMap::new();
    for (name, param) in &runbook.params {
        let node = given.iter().find(|(given, _)| given == name).map(|(_, node)| node).or(param.default.as_ref());
        let Some(node) = node else {
            let description = param.description.as_ref().map(|text| format!(" ({text})")).unwrap_or_default();
            let fault = Fault::input(format!("the parameter `{name}`{description} must be given")).at(&param.place);
            faults.push(fault.hint(format!("add --set {name}=…")));
            continue;
        };
        let value =
            value_of(param, node).map_err(|fault| Fault { message: format!("{name}: {}", fault.message), ..fault });
        if let Some(value) = faults.keep(value) {
            bound.insert(name.clone(), Bound { value, sensitive: param.sensitive });
        }
    }
    faults.or(bound)
}
