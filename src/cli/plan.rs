//! `rollbook plan`.

use clap::Args;

use crate::cli::{Exit, Global};

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {}

pub(crate) fn run(_args: &PlanArgs, _global: &Global) -> Exit {
    todo!("plan")
}
