//! Everything that a run needs to know before its first connection.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value as Data, json};

use crate::{
    base::{Digest, Masker},
    engine::{desk::Shelf, drafts::Drafts, turnstile::Turnstiles},
    model::{
        event::Mode,
        ids::{HostName, RunId},
        inventory::{Host, Inventory},
        lease::Bid,
        runbook::{Runbook, Step},
        strategy::Confirm,
    },
    render::{Renderer, Scope, VarLayer, Vars},
    transport,
    wire::message::Vigil,
};

/// A controller that was silent for less is never lost.
const MIN_SILENCE_MS: u32 = 5_000;

/// A run, prepared: shared by all its hosts.
pub struct Job {
    /// The run's id.
    pub run: RunId,
    /// Whether anything may be written.
    pub mode: Mode,
    /// What to do.
    pub runbook: Arc<Runbook>,
    /// Where the hosts come from.
    pub inventory: Arc<Inventory>,
    /// The hosts, in the order of the inventory.
    pub hosts: Vec<Arc<Host>>,
    /// Parameters by name, checked.
    pub params: Arc<BTreeMap<String, Data>>,
    /// `--set` values that are no parameters.
    pub set: Arc<BTreeMap<String, Data>>,
    /// The variables of the runbook.
    pub vars: VarLayer,
    /// The variables of each step and handler, by number.
    pub step_vars: Vec<VarLayer>,
    /// Only steps with one of these tags; all where empty.
    pub tags: Vec<String>,
    /// How many hosts at once.
    pub forks: usize,
    /// Who runs it, for the lock on the target.
    pub operator: String,
    /// Why, for whoever meets the run on the target.
    pub reason: Option<String>,
    /// Finds secrets where they must not be: in arguments.
    pub masker: Masker,
    /// Renders everything.
    pub renderer: Renderer,
    /// Local files and rendered contents.
    pub shelf: Arc<Shelf>,
    /// Steps that were rendered already.
    pub drafts: Arc<Drafts>,
    /// Where hosts wait for each other in the middle of the steps.
    pub turnstiles: Turnstiles,
    /// How to connect.
    pub settings: transport::Settings,
}

impl Job {
    /// Who runs it, and what it does on a host: equal for the same command.
    pub fn bid(&self, host: &HostName) -> Bid {
        let is_open = |name: &String| self.runbook.params.get(name).is_some_and(|param| !param.sensitive);
        let params: BTreeMap<_, _> = self.params.iter().filter(|(name, _)| is_open(name)).collect();
        let what = json!([self.runbook.digest.to_string(), params, self.set, self.tags, host.as_str()]);
        let job = Some(Digest::of(what.to_string().as_bytes()));
        Bid { run: self.run.clone(), operator: self.operator.clone(), reason: self.reason.clone(), job }
    }

    /// What becomes of an apply that is left alone.
    pub fn vigil(&self) -> Vigil {
        let whole = Vigil::default();
        let strategy = &self.runbook.strategy;
        let ms = |ms: u64| u32::try_from(ms).unwrap_or(u32::MAX);
        let grace_ms = strategy.grace_ms.map_or(whole.grace_ms, ms);
        let confirm_ms = strategy.confirm.as_ref().map(Confirm::within_ms);
        let of_steps = self.runbook.all_steps().filter_map(|step| step.confirm.as_ref()).map(Confirm::within_ms);
        match of_steps.chain(confirm_ms).min() {
            None => Vigil { grace_ms, ..whole },
            Some(within_ms) => {
                // A line that is cut by what is to be confirmed must not keep the run longer than a confirmation may.
                let silence_ms = (within_ms / 2).clamp(MIN_SILENCE_MS, whole.silence_ms);
                let left_ms = within_ms.saturating_sub(silence_ms);
                Vigil { silence_ms, grace_ms: grace_ms.min(left_ms), confirm_ms }
            }
        }
    }

    /// A step by number: handlers follow the steps, and `verify` follows the handlers.
    pub fn step(&self, number: usize) -> Option<&Step> {
        let Runbook { steps, handlers, verify, .. } = &*self.runbook;
        let lists = [steps, handlers, verify];
        let mut rest = number;
        lists.into_iter().find_map(|list| {
            let found = list.get(rest);
            rest = rest.saturating_sub(list.len());
            found
        })
    }

    /// The number of the first step of `verify`, if there were one.
    pub fn verify_from(&self) -> usize {
        self.runbook.steps.len() + self.runbook.handlers.len()
    }

    /// Whether a number is a handler's.
    pub fn is_handler(&self, number: usize) -> bool {
        (self.runbook.steps.len()..self.verify_from()).contains(&number)
    }

    /// The numbers of the handlers that a step notifies.
    pub fn notified(&self, step: &Step) -> Vec<u32> {
        let named = |name: &str| self.runbook.handlers.iter().position(|handler| handler.name.value == name);
        step.notify
            .iter()
            .filter_map(|name| named(&name.value))
            .map(|at| u32::try_from(self.runbook.steps.len() + at).expect("steps are counted in u32"))
            .collect()
    }

    /// Whether `--tags` chooses a step. Handlers are chosen by who notifies them, and `verify` looks at all that was
    /// done.
    pub fn chooses(&self, number: usize, step: &Step) -> bool {
        self.tags.is_empty()
            || number >= self.runbook.steps.len()
            || step.tags.iter().any(|tag| self.tags.contains(tag))
    }

    /// Whether anything needs an agent on the target: a chosen step, a handler, or a look at what was done.
    pub fn needs_agent(&self) -> bool {
        let Runbook { steps, handlers, verify, .. } = &*self.runbook;
        let raw = |(number, step): (usize, &Step)| !self.chooses(number, step) || step.kind.value == "raw";
        !steps.iter().enumerate().all(raw) || !handlers.is_empty() || !verify.is_empty()
    }

    /// Whether a host that has done its steps waits for the others before they become final.
    pub fn waits(&self) -> bool {
        self.mode == Mode::Apply
            && (self.runbook.strategy.waits() || !self.runbook.verify.is_empty())
            && self.needs_agent()
    }

    /// What templates see on a host before it has said anything.
    pub fn scope(&self, host: &Arc<Host>) -> Scope {
        let ids = self.runbook.all_steps().filter_map(|step| step.id.as_ref());
        Scope {
            params: Arc::clone(&self.params),
            vars: Vars::new(host, &self.vars, &self.set),
            host: Arc::new(json!({
                "name": host.name.as_str(),
                "groups": host.groups,
                "address": host.connection.address.as_deref().unwrap_or(host.name.as_str()),
            })),
            groups: Arc::clone(&self.inventory),
            steps: ids.map(|id| (id.to_string(), None)).collect(),
            ..Scope::default()
        }
    }
}
