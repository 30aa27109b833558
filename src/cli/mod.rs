//! The command line: one file per subcommand.

mod apply;
mod ask;
mod book;
mod descriptors;
mod exit;
mod hosts;
mod kinds;
mod log;
mod plan;
mod provenance;
mod recover;
mod run;
mod secrets;
mod show;
mod signals;
mod told;
mod undo;
mod verify;

use std::{panic::AssertUnwindSafe, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::report;

pub use exit::Exit;

/// Rollbook runs runbooks over SSH, rolls back what fails, and keeps the book.
#[derive(Debug, Parser)]
#[command(name = "rollbook", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  rollbook plan runbooks/web.yml -i inventories/prod.yml       see what would change; writes nothing
  rollbook apply runbooks/web.yml -i inventories/prod.yml      the same, then asks, then does it
  rollbook undo 20261123-0510 -i inventories/prod.yml          put back what a finished run changed: plan, ask, do
  rollbook log                                                 what was run, when, by whom, how it ended
  rollbook show 20261123-0510                                  one run, change by change

Exit codes: 0 done, 1 our own error, 2 usage, 3 invalid input, 4 host unreachable or not who it says,
5 refused by policy, 6 record store not whole, 7 failed and rolled back, 8 needs recovery,
9 partly done or unknown, 10 something would change (plan --exit-code).";

/// Options of every subcommand.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The record store [default: /var/lib/rollbook/record.db for root, else ~/.local/state/rollbook/record.db]
    #[arg(long, global = true, value_name = "FILE", env = "ROLLBOOK_STORE")]
    pub(crate) store: Option<PathBuf>,
    /// JSON lines instead of text: one event (or row) a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say more; twice for what the program does inside
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

impl Global {
    /// Where the record is kept.
    pub(crate) fn store(&self) -> PathBuf {
        self.store.clone().unwrap_or_else(crate::record::default_path)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what a runbook would change, and write nothing
    Plan(plan::PlanArgs),
    /// Apply a runbook: plan, ask, change, verify, record; undo everything on failure
    Apply(apply::ApplyArgs),
    /// Settle a run that was cut off on its hosts
    Recover(recover::RecoverArgs),
    /// Undo a finished run: plan, ask, put back what is still as it left it
    Undo(undo::UndoArgs),
    /// List the runs in the record
    Log(log::LogArgs),
    /// Show one run of the record, change by change
    Show(show::ShowArgs),
    /// Check that nobody has edited the record
    Verify(verify::VerifyArgs),
    /// Show the hosts of an inventory, their groups, and their variables
    Hosts(hosts::HostsArgs),
    /// List the step kinds, or show the manual of one
    Kinds(kinds::KindsArgs),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    ExitCode::from(unless_it_panics(|| run(&cli)).code())
}

/// A panic is a mistake of our own, and ends as one.
fn unless_it_panics(work: impl FnOnce() -> Exit) -> Exit {
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        report::say("this is a mistake of Rollbook's own: please report it, with what is said above");
        Exit::Internal
    })
}

fn run(Cli { global, command }: &Cli) -> Exit {
    match command {
        Command::Plan(args) => plan::run(args, global),
        Command::Apply(args) => apply::run(args, global),
        Command::Recover(args) => recover::run(args, global),
        Command::Undo(args) => undo::run(args, global),
        Command::Log(args) => log::run(args, global),
        Command::Show(args) => show::run(args, global),
        Command::Verify(args) => verify::run(args, global),
        Command::Hosts(args) => hosts::run(args, global),
        Command::Kinds(args) => kinds::run(args, global),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_of_our_own() {
        assert_eq!(unless_it_panics(|| panic!("as a test wants it")), Exit::Internal);
        assert_eq!(unless_it_panics(|| Exit::Partly), Exit::Partly);
    }
}
