//! Jobs that are never run over a line: what hosts would be sent is looked at.

#![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "a test that cannot go on fails")]

use std::{fs, path::Path, sync::Arc, time::Duration};

use rollbook::{
    base::{Masker, Secret},
    engine::{Job, desk::Shelf},
    model::{event::Mode, ids::RunId, inventory::Inventory, runbook::Runbook},
    render::{Renderer, VarLayer},
    steps, syntax,
    transport::{Asker, Settings, Shared},
};

struct Nobody;

impl Asker for Nobody {
    fn ask(&self, _question: &str) -> Option<Secret> {
        None
    }
}

/// A job of the text of a runbook, which is put into `project`, for all hosts of the text of an inventory.
#[allow(dead_code, reason = "not all who make jobs make them of texts")]
pub(crate) fn job(project: &Path, runbook: &str, inventory: &str) -> Arc<Job> {
    let file = project.join("runbook.yml");
    fs::write(&file, runbook).unwrap();
    let (runbook, faults) = syntax::runbook::load(&file, &steps::words());
    let runbook = runbook.unwrap_or_else(|| panic!("{faults:?}"));
    let inventory = syntax::inventory::parse("hosts.yml", inventory).unwrap_or_else(|faults| panic!("{faults:?}"));
    Arc::new(of(project, runbook, inventory))
}

/// A job of a runbook that stands in `project`.
pub(crate) fn of(project: &Path, runbook: Runbook, inventory: Inventory) -> Job {
    let minute = Duration::from_secs(60);
    Job {
        run: RunId::from_parts("20261123-051034", 1),
        mode: Mode::Apply,
        hosts: inventory.hosts.clone(),
        inventory: Arc::new(inventory),
        params: Arc::default(),
        set: Arc::default(),
        vars: VarLayer::from(&runbook.vars[..]),
        step_vars: runbook.all_steps().map(|step| VarLayer::from(&step.vars[..])).collect(),
        runbook: Arc::new(runbook),
        tags: Vec::new(),
        forks: 1,
        operator: "ann@desk".to_owned(),
        reason: None,
        masker: Masker::default(),
        renderer: Renderer::new(project.to_owned()),
        shelf: Arc::new(Shelf::default()),
        drafts: Arc::default(),
        turnstiles: Default::default(),
        settings: Settings {
            connect_timeout: minute,
            silence_timeout: minute,
            asker: Arc::new(Nobody),
            agent_program: None,
            ssh_program: None,
            shared: Shared::default(),
        },
    }
}
