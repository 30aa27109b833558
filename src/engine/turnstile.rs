//! Steps that hosts go through one after the other: `throttle`, and `run_once`.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value as Data;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::model::{
    ids::HostName,
    runbook::{Step, Turn},
};

/// The turnstiles of a run, by the numbers of their steps.
#[derive(Debug, Default)]
pub struct Turnstiles(BTreeMap<usize, Turnstile>);

#[derive(Debug)]
enum Turnstile {
    Throttle(Arc<Semaphore>),
    Once { by: HostName, done: watch::Sender<Option<Once>> },
}

/// How a step went that is done once: its result, if anything asks for one, or nothing where it was not done.
type Once = Option<Option<Data>>;

/// What a host may do at a turnstile.
#[derive(Debug)]
pub enum Pass {
    /// The step is its own to do.
    Do,
    /// The step was done by another host, with this result.
    Done(HostName, Option<Data>),
    /// The step was to be done by another host, and was not.
    Missed(HostName),
}

/// What a host holds between entering and leaving.
pub type Permit = Option<OwnedSemaphorePermit>;

impl Turnstiles {
    /// Those of all steps, for a run whose first host is `first`.
    pub fn new<'s>(steps: impl Iterator<Item = &'s Step>, first: Option<&HostName>) -> Self {
        let of = |step: &Step| match (step.turn?, first) {
            (Turn::Throttle(hosts), _) => Some(Turnstile::Throttle(Arc::new(Semaphore::new(hosts as usize)))),
            (Turn::Once, first) => Some(Turnstile::Once { by: first?.clone(), done: watch::Sender::default() }),
        };
        Turnstiles(steps.enumerate().filter_map(|(number, step)| Some((number, of(step)?))).collect())
    }

    /// Which other host does a step once for all, if one does.
    pub fn done_by_another(&self, step: usize, host: &HostName) -> Option<&HostName> {
        match self.0.get(&step) {
            Some(Turnstile::Once { by, .. }) if by != host => Some(by),
            _ => None,
        }
    }

    /// Waits until a host may pass.
    pub async fn enter(&self, step: usize, host: &HostName) -> (Pass, Permit) {
        match self.0.get(&step) {
            None => (Pass::Do, None),
            Some(Turnstile::Throttle(turns)) => {
                let permit = Arc::clone(turns).acquire_owned().await.expect("the semaphore is never closed");
                (Pass::Do, Some(permit))
            }
            Some(Turnstile::Once { by, .. }) if by == host => (Pass::Do, None),
            Some(Turnstile::Once { by, done }) => {
                let mut done = done.subscribe();
                let ended = done.wait_for(Option::is_some).await.map(|ended| ended.clone());
                match ended.ok().flatten().flatten() {
                    Some(result) => (Pass::Done(by.clone(), result), None),
                    None => (Pass::Missed(by.clone()), None),
                }
            }
        }
    }

    /// A host has done a step.
    pub fn leave(&self, step: usize, host: &HostName, result: Option<Data>) {
        if let Some(Turnstile::Once { by, done }) = self.0.get(&step)
            && by == host
        {
            done.send_replace(Some(Some(result)));
        }
    }

    /// A host has ended: what it has not done once will not be done.
    pub fn ended(&self, host: &HostName) {
        for turnstile in self.0.values() {
            if let Turnstile::Once { by, done } = turnstile
                && by == host
            {
                done.send_if_modified(|ended| {
                    let is_new = ended.is_none();
                    *ended = ended.take().or(Some(None));
                    is_new
                });
            }
        }
    }
}
