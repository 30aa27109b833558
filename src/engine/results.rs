//! What later steps can see of earlier ones: `steps.<id>`.

use std::collections::BTreeMap;

use serde_json::{Value as Data, json};

use crate::{
    model::{
        change::{Deed, DeedReport},
        event::{Capped, StepOutcome},
        ids::StepId,
    },
    wire::message::TaskEnd,
};

/// The results of a step's items so far.
#[derive(Debug)]
pub(super) struct Results {
    id: StepId,
    is_loop: bool,
    due: usize,
    items: BTreeMap<u32, Option<Data>>,
}

impl Results {
    /// None yet, of a step with so many items.
    pub(super) fn new(id: StepId, is_loop: bool, due: usize) -> Self {
        Results { id, is_loop, due, items: BTreeMap::new() }
    }

    /// An item has ended; `None` where a plan cannot know its result.
    pub(super) fn add(&mut self, number: u32, item: Option<&Data>, result: Option<Data>) {
        let with_item = result.map(|mut result| {
            if let (Some(item), Data::Object(fields)) = (item, &mut result) {
                fields.insert("item".to_owned(), item.clone());
            }
            result
        });
        self.items.insert(number, with_item);
    }

    /// What the step is known by, and its result, when all its items have ended. The result is `None` where a plan
    /// cannot know it.
    pub(super) fn conclusion(&self) -> Option<(&StepId, Option<Data>)> {
        if self.items.len() < self.due {
            return None;
        }
        let known: Option<Vec<Data>> = self.items.values().cloned().collect();
        let result = known.map(|mut items| if self.is_loop { sum_up(&items) } else { items.remove(0) });
        Some((&self.id, result))
    }
}

/// The result of a step whose `when` is false.
pub(super) fn of_skipped() -> Data {
    json!({"changed": false, "failed": false, "skipped": true})
}

/// Whether a plan can tell a step's results: what it would change is known, what a command would print is not.
pub(super) fn is_foreseen(outcome: StepOutcome, deeds: &[DeedReport]) -> bool {
    let states_only = deeds.iter().all(|report| matches!(report.deed, Deed::Change(_)));
    states_only && matches!(outcome, StepOutcome::Ok | StepOutcome::Changed | StepOutcome::Skipped)
}

/// What a step's result looks like under `steps.<id>`.
pub(super) fn of_task(end: &TaskEnd) -> Data {
    let mut result = match serde_json::from_str(&end.data) {
        Ok(Data::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    result.insert("changed".into(), (end.outcome == StepOutcome::Changed).into());
    result.insert("failed".into(), (end.outcome == StepOutcome::Failed).into());
    result.insert("skipped".into(), (end.outcome == StepOutcome::Skipped).into());
    if let Some(message) = &end.message {
        result.insert("message".into(), message.as_str().into());
    }
    if let Some(output) = &end.output {
        result.insert("rc".into(), output.code.into());
        let (stdout, stderr) = (unended(&output.stdout), unended(&output.stderr));
        result.insert("stdout".into(), stdout.into());
        result.insert("stderr".into(), stderr.into());
        result.insert("stdout_lines".into(), stdout.lines().collect());
    }
    Data::Object(result)
}

/// What was printed without the line ends that close it, as a shell's `$(…)` and Ansible give it.
fn unended(stream: &Capped) -> &str {
    stream.text.trim_end_matches(['\r', '\n'])
}

/// The result of a loop: always a list of its items' results, and what holds for all.
fn sum_up(results: &[Data]) -> Data {
    let any = |field: &str| results.iter().any(|result| result[field] == Data::Bool(true));
    let skipped = results.iter().all(|result| result["skipped"] == Data::Bool(true));
    json!({"changed": any("changed"), "failed": any("failed"), "skipped": skipped, "results": results})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{event::Output, ids::TaskNo};

    #[test]
    fn what_a_command_printed_has_no_line_end_at_its_end() {
        let printed = |text: &str| Capped { text: text.to_owned(), ..Capped::default() };
        let end = TaskEnd {
            no: TaskNo { step: 0, item: 0 },
            outcome: StepOutcome::Changed,
            deeds: Vec::new(),
            output: Some(Output {
                code: Some(0),
                signal: None,
                timed_out: false,
                stdout: printed("\n one\ntwo \r\n\n"),
                stderr: printed("2\n"),
            }),
            message: None,
            data: String::new(),
            attempts: 1,
            took_us: 0,
        };
        let result = of_task(&end);
        assert_eq!((&result["stdout"], &result["stderr"]), (&json!("\n one\ntwo "), &json!("2")));
        assert_eq!(result["stdout_lines"], json!(["", " one", "two "]));
    }

    #[test]
    fn a_loop_gives_a_list_in_the_order_of_its_items() {
        let id = || StepId("id".into());
        let mut results = Results::new(id(), true, 2);
        results.add(1, Some(&json!("b")), Some(of_skipped()));
        assert!(results.conclusion().is_none(), "the first item is still at work");
        results.add(0, Some(&json!("a")), Some(json!({"changed": true, "failed": false, "skipped": false})));
        let (_, result) = results.conclusion().unwrap();
        let result = result.unwrap();
        assert_eq!((&result["changed"], &result["skipped"]), (&json!(true), &json!(false)));
        assert_eq!((&result["results"][0]["item"], &result["results"][1]["item"]), (&json!("a"), &json!("b")));
        assert_eq!(Results::new(id(), true, 0).conclusion().unwrap().1.unwrap()["results"], json!([]));
    }
}
