//! Which results a step can see: those of the chosen steps before it.

use crate::{
    base::{Fault, Faults},
    engine::job::Job,
    model::runbook::{Placed, Step},
    steps,
};

/// A fault for each result that a step names and will never have, whatever happens.
pub(super) fn faults(job: &Job, number: usize, step: &Step) -> Faults {
    let mut found = named(job, step);
    found.sort_by_key(|id| (id.place.line, id.place.column));
    let wrong = |id: Placed<String>| Some(out_of_reach(job, number, &id.value)?.at(&id.place));
    Faults(found.into_iter().filter_map(wrong).collect())
}

/// The results that a step's texts name. Its name may name what is not there, and its variables may be for other steps
/// of its block.
fn named(job: &Job, step: &Step) -> Vec<Placed<String>> {
    let renderer = &job.renderer;
    let expressions = steps::find(&step.kind.value).map_or(&[][..], |manual| manual.expressions);
    let mut found = renderer.results_in(&step.args, expressions);
    found.extend(step.when.iter().flat_map(|when| renderer.results_in_expression(&when.value, &when.place)));
    found.extend(step.each.iter().flat_map(|each| renderer.results_in_items(each)));
    let others = step.environment.iter().map(|(_, node)| node).chain(&step.undo);
    found.extend(others.flat_map(|node| renderer.results_in(node, &[])));
    found
}

/// Why the step of that number never sees the result of the one with that id, if it does not.
pub(super) fn out_of_reach(job: &Job, number: usize, id: &str) -> Option<Fault> {
    let has_id = |step: &Step| step.id.as_ref().is_some_and(|own| *own.0 == *id);
    let (at, step) = job.runbook.all_steps().enumerate().find(|(_, step)| has_id(step))?;
    if at == number {
        let fault = Fault::input(format!("`steps.{id}` is this step's own result, which it does not see"));
        return Some(fault.hint("use it in a later step"));
    }
    if job.is_handler(at) && at > number {
        let fault = Fault::input(format!("`steps.{id}` is the result of a handler, and handlers run after all steps"));
        return Some(fault.hint("use it in a later handler, or in `verify` of the strategy"));
    }
    if at > number {
        let fault = Fault::input(format!("`steps.{id}` is the result of a step that comes later"));
        return Some(fault.hint("use it in a step behind that one"));
    }
    if !job.chooses(at, step) {
        let fault = Fault::input(format!("`steps.{id}` has no result: --tags does not choose its step"));
        return Some(fault.hint(format!("choose it too: it stands at {}", step.place)));
    }
    None
}
