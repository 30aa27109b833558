//! `rollbook verify`.

use clap::Args;

use crate::cli::{Exit, Global};

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {}

pub(crate) fn run(_args: &VerifyArgs, _global: &Global) -> Exit {
    todo!("verify")
}
