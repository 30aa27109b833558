//! `rollbook hosts`.

use clap::Args;

use crate::cli::{Exit, Global};

#[derive(Debug, Args)]
pub(crate) struct HostsArgs {}

pub(crate) fn run(_args: &HostsArgs, _global: &Global) -> Exit {
    todo!("hosts")
}
