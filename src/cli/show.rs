//! `rollbook show`.

use clap::Args;

use crate::cli::{Exit, Global};

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {}

pub(crate) fn run(_args: &ShowArgs, _global: &Global) -> Exit {
    todo!("show")
}
