//! `rollbook log`.

use clap::Args;

use crate::cli::{Exit, Global};

#[derive(Debug, Args)]
pub(crate) struct LogArgs {}

pub(crate) fn run(_args: &LogArgs, _global: &Global) -> Exit {
    todo!("log")
}
