//! `rollbook apply`.

use clap::Args;

use crate::cli::{Exit, Global};

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {}

pub(crate) fn run(_args: &ApplyArgs, _global: &Global) -> Exit {
    todo!("apply")
}
