//! Finds what is wrong before the first connection.

use std::collections::BTreeSet;

use crate::{
    base::Faults,
    engine::{job::Job, task},
    model::ids::TaskNo,
    render::{Reads, Scope},
};

/// Renders every step for every host as far as it can be without a connection, once for all hosts that give it the same,
/// and gives all that is wrong, each fault once. Steps that are known to be wrong are passed over.
pub fn check(job: &Job) -> Result<(), Faults> {
    let mut seen = BTreeSet::new();
    let mut faults = Faults::default();
    for host in &job.hosts {
        let scope = job.scope(host);
        for (number, step) in (0..).map_while(|number| Some((number, job.step(number)?))) {
            if step.is_broken || !job.chooses(number, step) {
                continue;
            }
            let no = TaskNo { step: u32::try_from(number).expect("steps are counted in u32"), item: 0 };
            if job.drafts.has_common(host, no.step) {
                continue;
            }
            let reads = Reads::default();
            let scope = Scope { reads: Some(reads.clone()), ..scope.clone() };
            match task::render(job, step, no, &scope) {
                task::Rendered::Work(items) => job.drafts.keep(&host.name, no.step, items, &reads),
                task::Rendered::Wait(_) => {}
                task::Rendered::Wrong(found) => {
                    let new = found.0.into_iter().filter(|fault| seen.insert(fault.to_string()));
                    faults.0.extend(new);
                }
            }
        }
    }
    faults.or(())
}
