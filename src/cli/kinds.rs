//! `rollbook kinds`.

use clap::Args;

use crate::cli::{Exit, Global};

#[derive(Debug, Args)]
pub(crate) struct KindsArgs {}

pub(crate) fn run(_args: &KindsArgs, _global: &Global) -> Exit {
    todo!("kinds")
}
