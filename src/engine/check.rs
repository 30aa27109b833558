//! Finds what is wrong before the first connection.

use std::collections::BTreeSet;

use crate::{
    base::{Fault, Faults, Masker, Secret, fault::nearest},
    engine::{job::Job, order, task},
    model::{
        decode,
        ids::TaskNo,
        node::{Entry, Node, Value},
        runbook::Step,
    },
    render::{self, Pending, Reads, Scope},
    report,
    steps::{self, Spec},
};

/// Renders every step for every host as far as it can be without a connection, once for all hosts that give it the same,
/// and gives all that is wrong, each fault once. Steps that are known to be wrong are passed over.
pub fn check(job: &Job) -> Result<(), Faults> {
    let mut seen = BTreeSet::new();
    let mut faults = Faults(unknown_tags(job));
    let mut add = |found: Faults| faults.0.extend(found.0.into_iter().filter(|fault| seen.insert(fault.to_string())));
    let chosen = || {
        let numbered = (0..).map_while(|number| Some((number, job.step(number)?)));
        numbered.filter(|(number, step)| !step.is_broken && job.chooses(*number, step))
    };
    let mut blind = BTreeSet::new();
    for (number, step) in chosen() {
        add(as_written(step));
        let found = order::faults(job, number, step);
        if !found.0.is_empty() {
            blind.insert(number);
            add(found);
        }
    }
    for host in &job.hosts {
        let scope = job.scope(host);
        for (number, step) in chosen().filter(|(number, _)| !blind.contains(number)) {
            let no = TaskNo { step: u32::try_from(number).expect("steps are counted in u32"), item: 0 };
            if job.drafts.has_common(host, no.step) {
                continue;
            }
            let reads = Reads::default();
            let scope = Scope { reads: Some(reads.clone()), ..scope.clone() };
            match task::render(job, step, no, &scope) {
                task::Rendered::Work(items) => job.drafts.keep(&host.name, no.step, items, &reads),
                task::Rendered::Wait(pending) => add(in_vain(job, number, step, &pending)),
                task::Rendered::Wrong(found) => add(found),
            }
        }
    }
    faults.or(())
}

/// What is wrong with the keys of a step, and with those of its values in which nothing is to be rendered: no host needs to be
/// known for that, whatever else the step waits for.
fn as_written(step: &Step) -> Faults {
    let (Some(manual), Value::Map(entries)) = (steps::find(&step.kind.value), &step.args.value) else {
        return Faults::default();
    };
    let mut faults = Faults::default();
    for entry in entries {
        let is_plain = !manual.expressions.contains(&&*entry.key) && render::is_plain(&entry.value);
        let empty = || Node { value: Value::Null, place: entry.value.place.clone() };
        let value = if is_plain { entry.value.clone() } else { empty() };
        // Each alone: that others are missing is said of the step as a whole, and is not asked here.
        let alone = Node { value: Value::Map(vec![Entry { value, ..entry.clone() }]), ..step.args.clone() };
        let read = decode::with(&alone, |fields| Spec::decode(&step.kind.value, fields).map(drop));
        let counts = |fault: &Fault| match &fault.place {
            Some(place) if is_plain => *place != step.args.place,
            // Where the kind's only field is given without its name, the key stands where the value does.
            place => place.as_ref() == Some(&entry.key_place) && entry.key_place != entry.value.place,
        };
        faults.0.extend(read.err().into_iter().flat_map(|found| found.0).filter(counts));
    }
    match step.sensitive {
        true => report::hidden(faults, &Masker::new(Secret::all_in(&step.args.to_data()))),
        false => faults,
    }
}

/// What is wrong with a step that waits for a result that never comes.
fn in_vain(job: &Job, number: usize, step: &Step, pending: &Pending) -> Faults {
    let fault = match pending {
        Pending::Step(id) => order::out_of_reach(job, number, id),
        Pending::Facts => None,
    };
    Faults(fault.into_iter().map(|fault| fault.at(&step.place)).collect())
}

/// A word of `--tags` that no step has is a mistake: with it alone, nothing would be done, and that would be well.
fn unknown_tags(job: &Job) -> Vec<Fault> {
    let known = || job.runbook.steps.iter().flat_map(|step| &step.tags).map(String::as_str);
    let unknown = job.tags.iter().filter(|tag| known().all(|known| known != *tag));
    let fault = |tag: &String| {
        let fault = Fault::input(format!("--tags: no step has the tag `{tag}`"));
        match nearest(tag, known()) {
            Some(near) => fault.hint(format!("did you mean `{near}`?")),
            None => fault,
        }
    };
    unknown.map(fault).collect()
}
