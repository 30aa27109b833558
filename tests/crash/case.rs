//! The cases: which scenario, which fault where, what comes then.

mod frame;

use std::collections::{BTreeMap, BTreeSet};

use frame::Garble;
use rollbook::{
    base::point::{POINTS, PointKind},
    model::event::{HostOutcome, Undone},
    wire::{ToAgent, message::Settle},
};
use rustix::process::Signal;

use crate::{
    host::{Fate, Ground, Host, Said, ask, rest},
    journal::Book,
    judge::{Judge, Reference, Standing},
    scenario::{Ending, Scenario},
    syscall,
    tree::Tree,
};

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Act {
    /// kill -9 of the agent.
    Kill,
    /// The agent stops, and goes on.
    Pause,
    /// The controller goes.
    HangUp,
    /// The controller goes, and the agent is killed.
    Both,
    /// EIO, of an fsync too.
    Error,
    /// The disk is full from here on.
    Full,
}

impl Act {
    pub(crate) fn of(kind: PointKind) -> &'static [Act] {
        match kind {
            PointKind::Pass => &[Act::Kill, Act::Pause, Act::HangUp, Act::Both],
            PointKind::Io => &[Act::Kill, Act::Pause, Act::HangUp, Act::Both, Act::Error, Act::Full],
            PointKind::Sync => &[Act::Kill, Act::Pause, Act::HangUp, Act::Both, Act::Error],
        }
    }

    fn word(self) -> &'static str {
        match self {
            Act::Kill => "kill",
            Act::Pause | Act::HangUp | Act::Both => "stop",
            Act::Error => "error",
            Act::Full => "full",
        }
    }
}

/// A place in the trace of a run, and what happens there.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    point: String,
    nth: u32,
    act: Act,
}

impl Plan {
    fn text(&self) -> String {
        format!("{}:{}:{}", self.point, self.nth, self.act.word())
    }
}

/// What a case does.
#[derive(Clone, Debug)]
enum Kind {
    /// A fault in the run.
    Run(Plan),
    /// The agent is killed there; then someone else changes a file.
    Drift(Plan),
    /// The agent is killed at the first, and its recovery meets the second.
    Recovery(Plan, Plan),
    /// The agent is killed at the first, and leaving everything as it is meets the second.
    Left(Plan, Plan),
    /// So many bytes reach the agent; then the line is cut.
    Cut(usize),
    /// A frame does not come as it was sent.
    Frame(Garble, usize),
    /// The agent is killed as it enters a system call for the nth time.
    Syscall(String, u32),
}

/// A case.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    scenario: usize,
    kind: Kind,
}

impl Case {
    fn of(scenario: usize, kind: Kind) -> Case {
        let own = Scenario::ALL[scenario].name;
        let told = |plan: &Plan| format!("{}:{}:{:?}", plan.point, plan.nth, plan.act);
        let name = match &kind {
            Kind::Run(plan) => format!("run {own} {}", told(plan)),
            Kind::Drift(plan) => format!("drift {own} {}", told(plan)),
            Kind::Recovery(first, second) => format!("recovery {own} {} then {}", told(first), told(second)),
            Kind::Left(first, second) => format!("left {own} {} then {}", told(first), told(second)),
            Kind::Cut(bytes) => format!("cut {own} {bytes}"),
            Kind::Frame(garble, nth) => format!("frame {own} {nth} {garble:?}"),
            Kind::Syscall(call, nth) => format!("syscall {own} {call}:{nth}"),
        };
        Case { name, scenario, kind }
    }

    /// What it is counted with.
    pub(crate) fn group(&self) -> String {
        match &self.kind {
            Kind::Run(plan) => format!("faults in a run: {:?}", plan.act),
            Kind::Drift(_) => "kills, then someone else's change".into(),
            Kind::Recovery(_, plan) => format!("faults in a recovery: {:?}", plan.act),
            Kind::Left(_, plan) => format!("faults where all is left as it is: {:?}", plan.act),
            Kind::Cut(_) => "cuts of the line".into(),
            Kind::Frame(garble, _) => format!("frames: {garble:?}"),
            Kind::Syscall(..) => "kills at system calls".into(),
        }
    }

    /// Whether it is played in any case.
    pub(crate) fn is_due(&self) -> bool {
        matches!(self.kind, Kind::Syscall(..) | Kind::Frame(..))
    }

    /// The point that it is about, and what happens there.
    pub(crate) fn fault(&self) -> Option<(&str, Act)> {
        match &self.kind {
            Kind::Run(plan) | Kind::Recovery(_, plan) | Kind::Left(_, plan) => Some((&plan.point, plan.act)),
            Kind::Drift(_) | Kind::Cut(_) | Kind::Frame(..) | Kind::Syscall(..) => None,
        }
    }
}

/// All scenarios that can be played here, with their references.
pub(crate) struct Suite<'g> {
    ground: &'g Ground,
    references: BTreeMap<usize, Reference>,
    /// For each scenario whose recovery is looked at: where it was killed, and the points that the recovery passes.
    recoveries: Vec<(usize, Plan, Vec<String>)>,
    /// The same of a host that is left as it is.
    left: Option<(usize, Plan, Vec<String>)>,
}

impl<'g> Suite<'g> {
    /// Plays everything once without a fault.
    pub(crate) fn prepare(ground: &'g Ground) -> Suite<'g> {
        let left_out = Scenario::left_out();
        let playable = |(at, scenario): (usize, &'static Scenario)| {
            (!left_out.contains(&scenario.name)).then(|| (at, reference(ground, scenario)))
        };
        let references = Scenario::ALL.iter().enumerate().filter_map(playable).collect();
        let mut suite = Suite { ground, references, recoveries: Vec::new(), left: None };
        suite.recoveries = suite.trace_recoveries();
        suite.left = suite.trace_recovery("all-kinds", "agent.close", 1, Settle::AsItIs);
        suite
    }

    /// A fault at each place of each run.
    pub(crate) fn first_level(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for (scenario, reference) in &self.references {
            for plan in plans(&reference.trace) {
                if plan.act == Act::Kill && Scenario::ALL[*scenario].name == "all-kinds" {
                    cases.push(Case::of(*scenario, Kind::Drift(plan.clone())));
                }
                cases.push(Case::of(*scenario, Kind::Run(plan)));
            }
        }
        cases
    }

    /// A fault at each place of recoveries.
    pub(crate) fn second_level(&self) -> Vec<Case> {
        let of = |(scenario, first, trace): &(usize, Plan, Vec<String>)| -> Vec<Case> {
            plans(trace).map(|second| Case::of(*scenario, Kind::Recovery(first.clone(), second))).collect()
        };
        let mut cases: Vec<Case> = self.recoveries.iter().flat_map(of).collect();
        if let Some((scenario, first, trace)) = &self.left {
            cases.extend(plans(trace).map(|second| Case::of(*scenario, Kind::Left(first.clone(), second))));
        }
        cases
    }

    /// The line is cut at each end of a frame, and a byte before and behind it.
    pub(crate) fn cuts(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for scenario in self.references.keys() {
            let own = &Scenario::ALL[*scenario];
            let lines = own.lines(&self.ground.host(own));
            let places: BTreeSet<usize> = lines.2.iter().flat_map(|end| [end - 1, *end, end + 1]).collect();
            let inside = places.into_iter().filter(|place| *place < lines.0.len());
            cases.extend(inside.map(|place| Case::of(*scenario, Kind::Cut(place))));
        }
        cases
    }

    /// The agent is killed at each system call that changes something, in a run that stays and in one that goes back.
    pub(crate) fn syscalls(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for name in ["all-kinds", "fails-last"] {
            let at = Scenario::ALL.iter().position(|scenario| scenario.name == name).unwrap();
            let scenario = &Scenario::ALL[at];
            let host = self.ground.host(scenario);
            let agent = host.start_under(syscall::noting(&host.watch_log()));
            agent.send(scenario.lines(&host).0);
            agent.wait();
            agent.said();
            for (call, count) in syscall::counts(&host.watch_log()) {
                cases.extend((1..=count).map(|nth| Case::of(at, Kind::Syscall(call.clone(), nth))));
            }
        }
        assert!(!cases.is_empty(), "strace has seen nothing");
        cases
    }

    /// Kills the agent at a call. What arrives together is synced together, so that one run may have fewer calls than
    /// another: then the next one is killed at the last that there was.
    fn killed_at(&self, judge: &Judge<'_>, call: &str, mut nth: u32) -> Result<(), String> {
        loop {
            let host = self.ground.host(judge.scenario);
            let agent = host.start_under(syscall::killing(call, nth, &host.watch_log()));
            agent.send(judge.scenario.lines(&host).0);
            let fate = agent.wait();
            let said = agent.said();
            if fate == Fate::Killed {
                let (standing, _) = judge.run(&host, &said)?;
                return settle(judge, &host, standing, 1);
            }
            let count = syscall::counts(&host.watch_log()).get(call).copied().unwrap_or_default();
            if count == 0 || count >= nth {
                return Err(format!("it was not killed at one of {count} calls, but {fate:?}: {said:?}"));
            }
            nth = count;
        }
    }

    /// Recoveries of runs that were killed at their end, in their middle, and on their way back.
    fn trace_recoveries(&self) -> Vec<(usize, Plan, Vec<String>)> {
        let places = [
            ("all-kinds", "agent.close", 1),
            ("all-kinds", "tools.temporary_written", 3),
            ("all-kinds", "tools.ran", 2),
            ("fails-last", "unwind.changed", 4),
            ("mounted", "tools.in_place_written", 1),
            ("owners", "agent.task_ended", 2),
        ];
        let mut found = Vec::new();
        for (name, point, nth) in places {
            found.extend(self.trace_recovery(name, point, nth, Settle::Back));
        }
        found
    }

    /// Where a run was killed, and which points its recovery passes.
    fn trace_recovery(&self, name: &str, point: &str, nth: u32, how: Settle) -> Option<(usize, Plan, Vec<String>)> {
        let at = Scenario::ALL.iter().position(|scenario| scenario.name == name).unwrap();
        self.references.get(&at)?;
        let scenario = &Scenario::ALL[at];
        let host = self.ground.host(scenario);
        let first = Plan { point: point.into(), nth, act: Act::Kill };
        run(&host, scenario, &first).unwrap();
        ask(&host, scenario, Some("trace"), &ToAgent::Recover { run: None, how });
        Some((at, first, host.fault_lines()))
    }

    /// Plays a case. The error says what is wrong.
    pub(crate) fn run(&self, case: &Case) -> Result<(), String> {
        let scenario = &Scenario::ALL[case.scenario];
        let refused = case.fault().is_some_and(|(_, act)| matches!(act, Act::Error | Act::Full));
        let judge = Judge { scenario, reference: &self.references[&case.scenario], refused };
        let host = self.ground.host(scenario);
        match &case.kind {
            Kind::Run(plan) => {
                let said = run(&host, scenario, plan)?;
                if plan.act == Act::Pause {
                    undisturbed(&judge, &host, &said)?;
                }
                let (standing, _) = judge.run(&host, &said)?;
                settle(&judge, &host, standing, 1)
            }
            Kind::Drift(plan) => drift(&judge, &host, plan),
            Kind::Recovery(first, second) => {
                let said = run(&host, scenario, first)?;
                judge.run(&host, &said)?;
                let is_new = std::fs::read(host.root().join("etc/drift.conf")).is_ok_and(|bytes| bytes == b"after\n");
                let said = play(&host, scenario, second, one(&ToAgent::Recover { run: None, how: Settle::Back }))?;
                let (standing, _) = judge.run(&host, &said)?;
                settle(&judge, &host, standing, 2)?;
                if is_new { judge.handlers(&host) } else { Ok(()) }
            }
            Kind::Left(first, second) => {
                let said = run(&host, scenario, first)?;
                judge.run(&host, &said)?;
                play(&host, scenario, second, one(&ToAgent::Recover { run: None, how: Settle::AsItIs }))?;
                left(&judge, &host)
            }
            Kind::Syscall(call, nth) => self.killed_at(&judge, call, *nth),
            Kind::Frame(garble, nth) => self.garbled(&judge, *garble, *nth),
            Kind::Cut(bytes) => {
                let agent = host.start(scenario, None);
                let mut lines = scenario.lines(&host).0;
                lines.truncate(*bytes);
                agent.send_and_hang_up(lines);
                agent.wait();
                let (standing, _) = judge.run(&host, &agent.said())?;
                if standing == Standing::Open {
                    return Err("the agent lived on, and has not settled the run".into());
                }
                settle(&judge, &host, standing, 0)
            }
        }
    }
}

/// Every place of a trace with everything that can happen there.
fn plans(trace: &[String]) -> impl Iterator<Item = Plan> {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    trace.iter().flat_map(move |name| {
        let nth = counts.entry(name).or_default();
        *nth += 1;
        let (_, kind) = POINTS.iter().find(|(own, _)| own == name).expect("only points are traced");
        let nth = *nth;
        Act::of(*kind).iter().map(move |act| Plan { point: name.clone(), nth, act: *act })
    })
}

/// Plays a scenario without a fault, and once with a stop after each task.
pub(crate) fn reference(ground: &Ground, scenario: &'static Scenario) -> Reference {
    // What arrives together is synced together, so that a run that was held up passes more points than others will: the
    // shortest way of three.
    let mut plays: Vec<_> = (0..3).map(|_| undisturbed_play(ground, scenario)).collect();
    plays.sort_by_key(|play| play.trace.len());
    let Play { before, trace, last } = plays.swap_remove(0);
    let host = ground.host(scenario);
    let agent = host.start(scenario, Some("agent.task_ended:0:stop"));
    agent.send(scenario.lines(&host).0);
    let mut moments = vec![before];
    while agent.wait() == Fate::Stopped {
        moments.push(host.tree());
        agent.signal(Signal::CONT);
    }
    moments.push(last);
    Reference { moments, trace }
}

/// The host before and after a play, and the points that were passed.
struct Play {
    before: Tree,
    trace: Vec<String>,
    last: Tree,
}

fn undisturbed_play(ground: &Ground, scenario: &'static Scenario) -> Play {
    let host = ground.host(scenario);
    let before = host.tree();
    let agent = host.start(scenario, Some("trace"));
    agent.send(scenario.lines(&host).0);
    agent.wait();
    let said = agent.said();
    let outcome = match scenario.ending {
        Ending::Stays => HostOutcome::Succeeded,
        Ending::GoesBack => HostOutcome::RolledBack,
        Ending::Stops => HostOutcome::Failed,
    };
    assert_eq!(said.closed[0].outcome, outcome, "{}: {said:#?}", scenario.name);
    Play { before, trace: host.fault_lines(), last: host.tree() }
}

/// Plays a scenario with a fault in it.
fn run(host: &Host<'_>, scenario: &Scenario, plan: &Plan) -> Result<Said, String> {
    play(host, scenario, plan, scenario.lines(host).0)
}

fn one(message: &ToAgent) -> Vec<u8> {
    crate::scenario::Lines::default().with(message).0
}

fn play(host: &Host<'_>, scenario: &Scenario, plan: &Plan, bytes: Vec<u8>) -> Result<Said, String> {
    let agent = host.start(scenario, Some(&plan.text()));
    agent.send(bytes);
    let mut fate = agent.wait();
    if fate == Fate::Stopped {
        if plan.act != Act::Pause {
            agent.hang_up();
        }
        agent.signal(if plan.act == Act::Both { Signal::KILL } else { Signal::CONT });
        fate = agent.wait();
    }
    let said = agent.said();
    if host.fault_lines() != [format!("fired {}:{}", plan.point, plan.nth)] {
        return Err(format!("{} did not fire, but: {:?}; {said:?}", plan.text(), host.fault_lines()));
    }
    let expected = if matches!(plan.act, Act::Kill | Act::Both) { Fate::Killed } else { Fate::Ended };
    match fate == expected {
        true => Ok(said),
        false => Err(format!("the agent {fate:?}, and not {expected:?}; it said {said:?}")),
    }
}

/// Who was only stopped for a while ends as if nothing had been.
fn undisturbed(judge: &Judge<'_>, host: &Host<'_>, said: &Said) -> Result<(), String> {
    let standing = judge.settled(host)?;
    let expected = if judge.scenario.ending == Ending::GoesBack { Standing::Before } else { Standing::After };
    match standing == expected && said.closed.len() == 1 {
        true => Ok(()),
        false => Err(format!("stopped and continued, it stands {standing:?}: {:?}", said.closed)),
    }
}

/// Brings a host that may be open to rest, in two calls at most, and looks that nothing is left over.
fn settle(judge: &Judge<'_>, host: &Host<'_>, mut standing: Standing, crashes: usize) -> Result<(), String> {
    let mut calls = 0;
    while standing == Standing::Open {
        calls += 1;
        if calls > 2 {
            return Err("two calls of recover have not settled it".into());
        }
        let said = ask(host, judge.scenario, None, &ToAgent::Recover { run: None, how: Settle::Back });
        if said.hello.as_ref().is_none_or(|hello| hello.open_run.is_none()) {
            return Err("a run is open, and the hello does not say so".into());
        }
        standing = judge.run(host, &said)?.0;
        if standing == Standing::Before && said.closed[0].outcome != HostOutcome::RolledBack {
            return Err(format!("all is back, and {:?} was told", said.closed));
        }
    }
    judge.deeds(host, standing, crashes)?;
    free(judge, host)?;
    match judge.settled(host)? == standing {
        true => Ok(()),
        false => Err("the next run has changed what stood there".into()),
    }
}

/// Either the run is settled, and all stands as it was cut off, or it is still open, and can go back.
fn left(judge: &Judge<'_>, host: &Host<'_>) -> Result<(), String> {
    if !Book::read(&host.store())?.open.is_empty() {
        return settle(judge, host, Standing::Open, 1);
    }
    free(judge, host)?;
    match judge.settled(host)? {
        Standing::After => Ok(()),
        other => Err(format!("left as it is, it stands {other:?}")),
    }
}

/// The host takes a new run, and nothing is left over.
fn free(judge: &Judge<'_>, host: &Host<'_>) -> Result<(), String> {
    let said = rest(host, judge.scenario);
    if said.hello.as_ref().is_none_or(|hello| hello.open_run.is_some()) {
        return Err(format!("no run is open, and the hello says otherwise: {:?}", said.hello));
    }
    if said.closed.first().is_none_or(|closed| closed.outcome != HostOutcome::Succeeded) {
        return Err(format!("the next run does not end well: {:?}", said.closed));
    }
    judge.left_over(host)
}

/// What someone else has changed since is left alone and named, and all else goes back.
fn drift(judge: &Judge<'_>, host: &Host<'_>, plan: &Plan) -> Result<(), String> {
    let (path, text) = ("/etc/drift.conf", "someone else's\n");
    let said = run(host, judge.scenario, plan)?;
    let (standing, book) = judge.run(host, &said)?;
    std::fs::write(host.root().join(&path[1..]), text).unwrap();
    if standing != Standing::Open {
        return Ok(());
    }
    let is_ours = book.open[0].names(path);
    let said = ask(host, judge.scenario, None, &ToAgent::Recover { run: None, how: Settle::Back });
    let closed = said.closed.first().ok_or("recover said no last word")?;
    let expected = if is_ours { HostOutcome::NeedsRecovery } else { HostOutcome::RolledBack };
    let is_named = closed.message.as_ref().is_some_and(|message| message.contains(path));
    let is_told = said.undone.iter().any(|(_, how)| matches!(how, Undone::Drifted(_)));
    if closed.outcome != expected || is_named != is_ours || is_told != is_ours {
        return Err(format!("named in the journal: {is_ours}; told: {closed:?}"));
    }
    let found = crate::judge::differences(judge.reference.before(), &host.tree(), true);
    let others: Vec<&String> = found.iter().filter(|line| !line.contains(path)).collect();
    if !others.is_empty() {
        return Err(format!("not as it was: {others:?}"));
    }
    if std::fs::read_to_string(host.root().join(&path[1..])).unwrap() != text {
        return Err("someone else's change was lost".into());
    }
    judge.deeds(host, Standing::Before, 0)?;
    free(judge, host)
}
