//! Which of all cases are played: each point with each fault at least once, and others by chance up to a number.

use std::{
    collections::BTreeSet,
    env,
    time::{SystemTime, UNIX_EPOCH},
};

use rollbook::base::point::POINTS;

use crate::case::{Act, Case};

/// Cases of a run, if `ROLLBOOK_CRASH_CASES` does not say otherwise.
const CASES: usize = 3000;

/// Points that tests/points.rs passes: of the controller, of its way onto hosts, and of agents that wait for one.
const OF_TWO_HOSTS: [&str; 6] = ["run.", "record.", "confirm.", "bootstrap.", "alone.", "boot."];

/// What is chosen by.
pub(crate) struct Sample {
    cases: usize,
    /// The runs that chance makes come from it, too.
    pub(crate) seed: u64,
}

impl Sample {
    /// `ROLLBOOK_CRASH_CASES` and `ROLLBOOK_CRASH_SEED`, a number each.
    pub(crate) fn from_environment() -> Sample {
        let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock goes");
        let cases = number("ROLLBOOK_CRASH_CASES").map_or(CASES, |cases| usize::try_from(cases).expect("it fits"));
        Sample { cases, seed: number("ROLLBOOK_CRASH_SEED").unwrap_or(since.as_micros() as u64) }
    }

    /// How many disks are looked at of each run that loses its power.
    pub(crate) fn disks(&self) -> usize {
        self.cases / 2
    }

    /// How the same is chosen again.
    pub(crate) fn text(&self) -> String {
        format!("ROLLBOOK_CRASH_CASES={} ROLLBOOK_CRASH_SEED={}", self.cases, self.seed)
    }

    /// The cases to be played.
    pub(crate) fn of(&self, mut all: Vec<Case>) -> Vec<Case> {
        let mut dice = Dice(self.seed);
        for at in (1..all.len()).rev() {
            all.swap(at, dice.below(at + 1));
        }
        let mut seen = BTreeSet::new();
        let (mut chosen, mut others) = (Vec::new(), Vec::new());
        for case in all {
            let is_new = case.fault().is_some_and(|(point, act)| seen.insert((point.to_owned(), act)));
            match is_new || case.is_due() {
                true => chosen.push(case),
                false => others.push(case),
            }
        }
        others.truncate(self.cases.saturating_sub(chosen.len()));
        chosen.extend(others);
        chosen
    }
}

/// Points and faults that no case is about, and how many there are in all.
pub(crate) fn missed(cases: &[Case]) -> (Vec<(&'static str, Act)>, usize) {
    let met: BTreeSet<(&str, Act)> = cases.iter().filter_map(Case::fault).collect();
    let own = POINTS.iter().filter(|(point, _)| !OF_TWO_HOSTS.iter().any(|part| point.starts_with(part)));
    let all = own.flat_map(|(point, kind)| Act::of(*kind).iter().map(move |act| (*point, *act)));
    let all: Vec<(&str, Act)> = all.collect();
    (all.iter().filter(|pair| !met.contains(*pair)).copied().collect(), all.len())
}

/// How many points and faults cases are about.
pub(crate) fn met(cases: &[Case]) -> usize {
    cases.iter().filter_map(Case::fault).collect::<BTreeSet<_>>().len()
}

/// Numbers that look like chance (splitmix64, Steele and others, 2014).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}
