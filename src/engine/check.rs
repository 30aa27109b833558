//! Finds what is wrong before the first connection.

use std::{
    collections::BTreeSet,
    panic,
    sync::Arc,
    thread::{self, available_parallelism},
};

use crate::{
    base::{Fault, Faults, Masker, Secret, fault::nearest},
    engine::{job::Job, order, task},
    model::{
        decode,
        ids::TaskNo,
        inventory::Host,
        node::{Entry, Node, Value},
        runbook::Step,
    },
    render::{self, Pending, Reads, Scope},
    report,
    steps::{self, Spec},
};

/// Hosts for which it is worth while to render on one more processor.
const HOSTS_A_PROCESSOR: usize = 5;

/// Renders every step for every host as far as it can be without a connection, once for all hosts that give it the same,
/// and gives all that is wrong, each fault once. Steps that are known to be wrong are passed over.
pub fn check(job: &Job) -> Result<(), Faults> {
    let mut faults = Distinct::default();
    faults.add(Faults(unknown_tags(job)));
    let mut sound = Vec::new();
    for (number, step) in (0..).map_while(|number| Some((number, job.step(number)?))) {
        if step.is_broken || !job.chooses(number, step) {
            continue;
        }
        faults.add(as_written(step));
        let found = order::faults(job, number, step);
        if found.0.is_empty() {
            sound.push((number, step));
        }
        faults.add(found);
    }
    let processors = available_parallelism().map_or(1, usize::from);
    let each = job.hosts.len().div_ceil(processors).max(HOSTS_A_PROCESSOR);
    let (first, others) = job.hosts.split_at(each.min(job.hosts.len()));
    thread::scope(|scope| {
        let sound = &sound[..];
        let others: Vec<_> =
            others.chunks(each).map(|hosts| scope.spawn(move || rendered(job, sound, hosts))).collect();
        faults.add(rendered(job, sound, first));
        let found = others.into_iter().map(|other| other.join().unwrap_or_else(|panic| panic::resume_unwind(panic)));
        found.for_each(|found| faults.add(found));
    });
    faults.all.or(())
}

/// What is wrong with these steps on these hosts.
fn rendered(job: &Job, steps: &[(usize, &Step)], hosts: &[Arc<Host>]) -> Faults {
    let mut faults = Distinct::default();
    for host in hosts {
        let scope = job.scope(host);
        for (number, step) in steps {
            let no = TaskNo { step: u32::try_from(*number).expect("steps are counted in u32"), item: 0 };
            if job.drafts.has_common(host, no.step) {
                continue;
            }
            let reads = Reads::default();
            let scope = Scope { reads: Some(reads.clone()), ..scope.clone() };
            match task::render(job, step, no, &scope) {
                task::Rendered::Work(items) => job.drafts.keep(host, no.step, items, &reads),
                task::Rendered::Wait(pending) => faults.add(in_vain(job, *number, step, &pending)),
                task::Rendered::Wrong(found) => faults.add(found),
            }
        }
    }
    faults.all
}

/// Faults in the order in which they were found, each once.
#[derive(Default)]
struct Distinct {
    all: Faults,
    seen: BTreeSet<String>,
}

impl Distinct {
    fn add(&mut self, found: Faults) {
        self.all.0.extend(found.0.into_iter().filter(|fault| self.seen.insert(fault.to_string())));
    }
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
