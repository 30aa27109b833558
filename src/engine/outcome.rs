//! From what happened on hosts to how a run ended.

use std::collections::BTreeMap;

use crate::model::event::{HostOutcome, Output, RunOutcome};

/// How a run ended, given its hosts.
pub fn run_outcome(hosts: &BTreeMap<HostOutcome, u32>) -> RunOutcome {
    let any = |outcome| hosts.get(&outcome).is_some_and(|count| *count > 0);
    if any(HostOutcome::NeedsRecovery) {
        RunOutcome::NeedsRecovery
    } else if any(HostOutcome::Failed) || any(HostOutcome::Unreachable) || any(HostOutcome::Unknown) {
        RunOutcome::Failed
    } else if any(HostOutcome::RolledBack) {
        RunOutcome::RolledBack
    } else if any(HostOutcome::NotStarted) {
        RunOutcome::Failed
    } else {
        RunOutcome::Succeeded
    }
}

/// How a command ended, in words.
pub fn exit_words(output: &Output) -> String {
    match (output.timed_out, output.code, output.signal) {
        (true, ..) => "ran past its time and was ended".to_owned(),
        (false, Some(code), _) => format!("exit code {code}"),
        (false, None, Some(signal)) => format!("ended by signal {signal}"),
        (false, None, None) => "ended without an exit code".to_owned(),
    }
}
