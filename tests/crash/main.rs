//! Every fault point x every fault: a run is killed, stopped, refused or left alone there, then recovered, and judged
//! by other eyes than the agent's. docs/hacking.md tells how a point is added, docs/rollback.md what operators see.
//!
//! `tests/run crash`, or `cargo test --features faults --test crash -- [PART OF A CASE'S NAME]`. It works in folders that
//! stand for hosts; as root, it plays two scenarios more.
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]
#![expect(clippy::print_stdout, reason = "it has no harness: it tells its counts itself")]

mod case;
mod host;
mod journal;
mod judge;
mod pool;
mod power;
mod sample;
mod scenario;
mod syscall;
#[path = "../laws/tree.rs"]
mod tree;

use std::process::ExitCode;

use case::Suite;
use host::Ground;
use sample::Sample;

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let sample = Sample::from_environment();
    scenario::SEED.get_or_init(|| sample.seed);
    let ground = Ground::find();
    let suite = Suite::prepare(&ground);
    let mut cases = suite.first_level();
    cases.extend(suite.second_level());
    cases.extend(suite.cuts());
    cases.extend(suite.frames());
    if syscall::can_trace() {
        cases.extend(suite.syscalls());
    } else {
        println!("crash: left out: kills at system calls; strace is not here, or may not trace");
    }
    cases.retain(|case| wanted.is_empty() || wanted.iter().any(|part| case.name.contains(part.as_str())));
    if wanted.is_empty() {
        cases = sample.of(cases);
    }
    let (mut missed, pairs) = sample::missed(&cases);
    let left_out = scenario::Scenario::left_out();
    if !left_out.is_empty() {
        let all = missed.len();
        missed.retain(|(point, _)| !scenario::Scenario::ROOTS_POINTS.contains(point));
        let count = all - missed.len();
        println!("crash: left out: {} and {count} points x faults of theirs; they need root", left_out.join(", "));
    }
    let mut report = pool::run(&suite, &cases);
    if syscall::can_trace() && (wanted.is_empty() || wanted.iter().any(|part| part.starts_with("power"))) {
        report.add(power::play(&ground, &sample));
    }
    println!("crash: {} of {pairs} points x faults", sample::met(&cases));
    println!("crash: chosen by {}", sample.text());
    let missed = missed.iter().map(|(point, act)| format!("{point} x {act:?}"));
    report.tell(&missed.filter(|_| wanted.is_empty()).collect::<Vec<_>>())
}
