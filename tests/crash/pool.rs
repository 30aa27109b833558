//! Cases in parallel, and what came of them.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::case::{Case, Suite};

/// Failures that are told in full.
const TOLD_MAX: usize = 40;

/// How the cases went.
pub(crate) struct Report {
    counts: BTreeMap<String, usize>,
    failures: Vec<String>,
    cases: usize,
    took: Duration,
}

/// Runs all cases.
pub(crate) fn run(suite: &Suite<'_>, cases: &[Case]) -> Report {
    let began = Instant::now();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
            let ended = catch_unwind(AssertUnwindSafe(|| suite.run(case)));
            let why = match ended {
                Ok(Ok(())) => continue,
                Ok(Err(why)) => why,
                Err(_) => "the test itself panicked: see above".into(),
            };
            failures.lock().unwrap().push(format!("{}: {why}", case.name));
        }
    };
    thread::scope(|scope| {
        let workers = thread::available_parallelism().map_or(2, std::num::NonZero::get) + 1;
        (0..workers).for_each(|_| drop(scope.spawn(work)));
    });
    let mut counts = BTreeMap::new();
    cases.iter().for_each(|case| *counts.entry(case.group()).or_default() += 1);
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    Report { counts, failures, cases: cases.len(), took: began.elapsed() }
}

impl Report {
    /// Takes in what else was played, and what failed of it.
    pub(crate) fn add(&mut self, (played, failures): (usize, Vec<String>)) {
        self.cases += played;
        self.failures.extend(failures);
    }

    /// Prints counts and failures.
    pub(crate) fn tell(&self, missed: &[String]) -> ExitCode {
        for failure in self.failures.iter().take(TOLD_MAX) {
            println!("FAILED {failure}");
        }
        if self.failures.len() > TOLD_MAX {
            println!("… and {} more", self.failures.len() - TOLD_MAX);
        }
        for point in missed {
            println!("FAILED {point} is in no case: docs/hacking.md tells what to do");
        }
        for (group, count) in &self.counts {
            println!("crash: {count:6} {group}");
        }
        let failed = self.failures.len() + missed.len();
        let seconds = self.took.as_secs();
        println!("crash: {} cases in {seconds} s, {failed} failed", self.cases);
        let word = if failed == 0 { "ok" } else { "FAILED" };
        println!("test result: {word}. {} passed; {failed} failed;", self.cases - self.failures.len());
        if failed == 0 && self.cases > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
