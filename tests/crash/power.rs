//! The power goes: what an agent had written and not yet brought onto the disk is kept or lost, in every way that the
//! disk may choose. Each disk that may be found then is made, recovered, and judged.

mod calls;
mod disk;

use std::{collections::HashSet, io::Write, thread, time::Instant};

use rollbook::{
    agent::{self, Machine as AgentsMachine},
    base::Digest,
    model::{
        event::{HostOutcome, Mode, Undone},
        facts::Facts,
    },
    target::{Probe, journal::Store, process::Running},
    wire::{ToAgent, message::Settle},
};
use serde_json::json;

use crate::{
    case::reference,
    host::{Ground, Host, Said, hear},
    journal::Book,
    judge::{Judge, Standing, is_ours},
    sample::{Dice, Sample},
    scenario::{self, Ending, Lines, Scenario, Script},
};
use calls::Player;
use disk::{Disk, Machine, Order};

/// Ways that are chosen by chance, where there are too many.
const SAMPLED: usize = 100;

const STAYS: Scenario = Scenario { name: "power", steps: changes, ..Scenario::REST };

const BACK: Scenario = Scenario { name: "power-back", steps: changes, ending: Ending::GoesBack, ..Scenario::REST };

/// Something of everything that is done to files.
fn changes(script: &mut Script<'_>) {
    script.task("copy", json!({"dest": "/etc/app.conf", "content": "one\nTWO\n", "mode": "0600"}), |_| {});
    script.task("file", json!({"path": "/srv/new/x", "state": "directory", "mode": "2750"}), |_| {});
    script.task("copy", json!({"dest": "/srv/new/x/file", "content": "new\n"}), |_| {});
    script.task("file", json!({"path": "/srv/empty", "state": "directory", "mode": "0700"}), |_| {});
    script.task("lineinfile", json!({"path": "/etc/hosts", "line": "10.0.0.1 db"}), |_| {});
    script.task("file", json!({"path": "/srv/old", "state": "absent"}), |_| {});
    script.task("file", json!({"path": "/srv/current", "state": "link", "src": "new/x"}), |_| {});
    script.task("file", json!({"path": "/etc/key", "mode": "0400"}), |_| {});
}

/// A disk as it may be found.
struct Found {
    disk: Disk,
    /// Before which call the power went.
    at: String,
    /// Everything had been told by then.
    is_over: bool,
}

/// Plays all of it: how many disks were looked at, and what went wrong. Prints what was done.
pub(crate) fn play(ground: &Ground, sample: &Sample) -> (usize, Vec<String>) {
    let began = Instant::now();
    // The disks of one scenario are of one run: side by side, each recovery would end what another one's run has at work.
    let played = thread::scope(|scope| {
        let plays = [&STAYS, &BACK].map(|scenario| scope.spawn(move || play_one(ground, scenario, sample)));
        plays.map(|play| play.join().unwrap())
    });
    let sum = |of: fn(&Played) -> usize| played.iter().map(of).sum::<usize>();
    let (disks, places, whole) = (sum(|one| one.disks), sum(|one| one.places), sum(|one| one.whole));
    let failures: Vec<String> = played.into_iter().flat_map(|one| one.failures).collect();
    let (seconds, failed) = (began.elapsed().as_secs(), failures.len());
    println!(
        "crash: {disks} disks after the power went at {places} places, in every way at {whole}, {failed} failed, {seconds} s"
    );
    (disks, failures)
}

/// What came of a scenario.
struct Played {
    disks: usize,
    places: usize,
    whole: usize,
    failures: Vec<String>,
}

fn play_one(ground: &Ground, scenario: &'static Scenario, sample: &Sample) -> Played {
    let reference = reference(ground, scenario);
    let judge = Judge { scenario, reference: &reference, refused: false };
    let mut traced = trace(ground, scenario, sample.seed);
    let disks = sample.disks().min(traced.found.len());
    for at in 0..disks {
        let other = at + traced.dice.below(traced.found.len() - at);
        traced.found.swap(at, other);
    }
    let failed = |found: &Found| {
        let why = recovered(ground, &judge, found).err()?;
        Some(format!("{}, power gone before {}: {why}", scenario.name, found.at))
    };
    let failures = traced.found[..disks].iter().filter_map(failed).collect();
    Played { disks, places: traced.places, whole: traced.whole, failures }
}

/// What a run may leave on the disk at each of its moments.
struct Traced {
    order: Order,
    dice: Dice,
    known: HashSet<String>,
    found: Vec<Found>,
    /// At how many calls the power went, and at how many of them in every way.
    places: usize,
    whole: usize,
}

/// Plays a run once, and finds all disks that it may leave behind.
fn trace(ground: &Ground, scenario: &Scenario, seed: u64) -> Traced {
    let host = ground.host(scenario);
    let root = host.root();
    let before = Disk::read(&root);
    let agent = host.start_under(calls::noting(&host.watch_log()));
    agent.send(scenario.lines(&host).0);
    agent.wait();
    let said = agent.said();
    assert!(!said.closed.is_empty(), "{}: it was told how it ended", scenario.name);
    // On its way back a run relies on the order in which names reach the disk.
    let order = if scenario.ending == Ending::GoesBack { Order::Kept } else { Order::Any };
    let (known, found) = (HashSet::new(), Vec::new());
    let mut traced = Traced { order, dice: Dice(seed), known, found, places: 0, whole: 0 };
    let mut player = Player::new(&root, Machine::with(before));
    for (at, call) in calls::read(&host.watch_log()).iter().enumerate() {
        // Between two syncs more and more is pending: all that may be found in between may be found at the end of it.
        if call.is_sync() && player.machine.pending() > 0 {
            traced.cut(&player.machine, &format!("call {at}, {}", call.words()), false);
        }
        player.play(call);
    }
    let (played, seen) = (player.machine.seen.text_without_times(), Disk::read(&root).text_without_times());
    assert_eq!(played, seen, "all calls were understood");
    traced.cut(&player.machine, "the end", true);
    assert!(traced.whole > 5 && traced.found.len() > 100, "{}: it has written", scenario.name);
    traced
}

impl Traced {
    /// The power goes here.
    fn cut(&mut self, machine: &Machine, at: &str, is_over: bool) {
        self.places += 1;
        self.whole += usize::from(machine.is_tried_whole(self.order));
        for disk in machine.after_a_cut(self.order, SAMPLED, &mut self.dice) {
            // At the end more is asked of a disk than before it.
            if self.known.insert(format!("{is_over} {}", disk.text())) {
                self.found.push(Found { disk, at: at.to_owned(), is_over });
            }
        }
    }
}

/// Recovers a disk as it was found, and judges what comes of it.
fn recovered(ground: &Ground, judge: &Judge<'_>, found: &Found) -> Result<(), String> {
    let host = ground.bare_host();
    found.disk.make(&host.root());
    let settle = ToAgent::Recover { run: None, how: Settle::Back };
    let rest = scenario::open(9, Mode::Apply, &Scenario::REST);
    let said = speak(&host, &Lines::default().with(&settle).with(&rest).with(&ToAgent::Close { witness: None }));
    let Some(first) = said.closed.first() else { return Err("it told nothing".into()) };
    if !matches!(first.outcome, HostOutcome::Succeeded | HostOutcome::RolledBack) {
        let failed: Vec<_> =
            said.undone.iter().filter(|(_, how)| matches!(how, Undone::Failed(_) | Undone::Drifted(_))).collect();
        return Err(format!("it was not settled: {:?}, {failed:?}", first.outcome));
    }
    let book = Book::read(&host.store())?;
    let standing = judge.settled(&host)?;
    let ours = book.closed.iter().find(|journal| is_ours(&journal.run));
    let told = match ours.and_then(|journal| journal.outcome()) {
        Some("succeeded") => Standing::After,
        _ => Standing::Before,
    };
    if standing != told {
        return Err(format!("the journal says {told:?}, and the host stands {standing:?}"));
    }
    if found.is_over && (standing == Standing::After) != (judge.scenario.ending == Ending::Stays) {
        return Err(format!("it had been told as done, and the host stands {standing:?}"));
    }
    judge.left_over(&host)
}

/// Speaks with an agent in this process, until it has told twice how a run ended.
fn speak(host: &Host<'_>, lines: &Lines) -> Said {
    let facts = Facts { is_root: rustix::process::geteuid().is_root(), ..Facts::default() };
    let probe = Probe::new(host.root(), facts, Running::default());
    let machine = AgentsMachine { probe, store: Store::at(host.store()), digest: Digest::of(b"a test's agent") };
    let (ear, mut to_agent) = std::io::pipe().unwrap();
    let (mut from_agent, mouth) = std::io::pipe().unwrap();
    let agent = thread::spawn(move || agent::serve(ear, mouth, &machine).unwrap());
    to_agent.write_all(&lines.0).unwrap();
    let mut to_agent = Some(to_agent);
    let said = hear(&mut from_agent, |said| {
        if said.closed.len() == 2 {
            to_agent = None;
        }
    });
    agent.join().unwrap();
    said
}
