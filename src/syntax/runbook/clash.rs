//! Keys of a step that cannot stand together.

use crate::{
    base::Fault,
    model::{
        node::{Entry, Node, Value},
        runbook::KindWord,
    },
};

/// What a step of that kind has and cannot have.
pub(super) fn faults(step: &Node, kind: &KindWord, kinds: &[KindWord]) -> Vec<Fault> {
    let given = |key: &str| step.as_map()?.iter().find(|entry| entry.key == key && entry.value.value != Value::Null);
    let mut found = Vec::new();
    if kind.name == "raw" {
        found.extend(with_raw(given));
    } else if let Some(undo) = given("undo").filter(|_| !kind.runs) {
        found.push(no_undo(kind, kinds).at(&undo.value.place));
    }
    if let Some(delegate) = given("delegate_to") {
        found.extend(elsewhere(kind, given).map(|fault| fault.at(&delegate.value.place)));
    }
    found
}

fn no_undo(kind: &KindWord, kinds: &[KindWord]) -> Fault {
    let runs: Vec<_> = kinds.iter().filter(|kind| kind.runs).map(|kind| format!("`{}`", kind.name)).collect();
    let fault = Fault::input(format!("`{}` takes no `undo`", kind.name));
    fault.hint(format!("it is for {}: all else goes back to the state in which it was found", runs.join(" and ")))
}

/// What needs an agent, and `raw` has none.
fn with_raw<'n>(given: impl Fn(&str) -> Option<&'n Entry>) -> impl Iterator<Item = Fault> {
    let agent = "use `command` or `shell`, which an agent runs";
    let wrong = [
        ("undo", "`raw` takes no `undo`", agent),
        ("confirm_within", "`raw` cannot be confirmed: nothing can undo it", "use `command`, with an `undo`"),
        ("retry", "`raw` is not tried again: it takes no `retry`", agent),
        ("environment", "`raw` takes no `environment`: the login shell gives it its own", agent),
        ("notify", "`raw` cannot notify: an agent runs the handlers", agent),
    ];
    let told =
        move |(key, words, hint): (&str, &str, &str)| Some(Fault::input(words).at(&given(key)?.key_place).hint(hint));
    wrong.into_iter().filter_map(told)
}

/// What another host cannot do for the one whose turn it is.
fn elsewhere<'n>(kind: &KindWord, given: impl Fn(&str) -> Option<&'n Entry>) -> impl Iterator<Item = Fault> {
    let cannot = |what: &str| Fault::input(format!("what another host does cannot {what}"));
    let raw = cannot("be `raw`: nothing can undo it").hint("use `command`, with an `undo`");
    let confirmed = cannot("be confirmed: remove `confirm_within`");
    let notifies = cannot("notify: handlers run on the host itself")
        .hint("delegate a step behind it that does what the handler would");
    let told = [
        (kind.name == "raw", raw),
        (given("confirm_within").is_some(), confirmed),
        (given("notify").is_some(), notifies),
    ];
    told.into_iter().filter_map(|(is_so, fault)| is_so.then_some(fault))
}
