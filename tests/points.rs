//! Faults of the controller, and of agents that wait for one, on two hosts of a fleet. At each point of the controller's way
//! through a run it is killed, stands still beyond its time, loses its lines with a word or in silence, its agents are
//! killed, or both are. Each host is judged by its own disk, past ssh and the agent. `tests/run points`.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rollbook::{
    base::point::POINTS,
    model::event::{Event, HostOutcome},
};
use support::{Controller, Host, Kind, Running, hosts, until};

/// Points that the controller passes.
const CONTROLLERS: [&str; 4] = ["run.", "record.", "confirm.", "bootstrap."];

/// So many cases at once, each with two hosts of its own.
const PAIRS: usize = 9;

/// What is done on both hosts: a file that is replaced, a tree that is new, a command that counts how often it runs.
const STEPS: &str = "steps:
  - copy: {content: \"new\\n\", dest: /etc/app.conf}
  - file: {path: /srv/tree/a, state: directory, mode: '0750'}
  - copy: {content: \"leaf\\n\", dest: /srv/tree/a/leaf}
  - command: {cmd: [sh, -c, 'echo do >>/etc/deeds; touch /srv/made'], creates: /srv/made}
    undo: [sh, -c, 'echo undo >>/etc/deeds; rm -f /srv/made']
";

/// On hosts with systemd also these: a package that is new, and its service.
const WITH_SYSTEMD: &str = "  - package: {name: rbdemo}
  - service: {name: rbdemo, state: started, enabled: true}
";

/// And this fails.
const FAILING: &str = "  - command: \"false\"\n    undo: \"true\"\n";

/// What happens when the controller is at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    /// kill -9 of it.
    Kill,
    /// Of the agents.
    Agents,
    /// Of it and of the agents.
    Both,
    /// Its connections are cut.
    Reset,
    /// It stands still for longer than a host waits, and goes on.
    Pause,
    /// The cables are pulled: what either side sends is lost in silence.
    BlackHole,
    /// What the hosts send is lost in silence.
    OneWay,
}

/// What happens at each point.
const ACTS: [Act; 7] = [Act::Kill, Act::Agents, Act::Both, Act::Reset, Act::Pause, Act::BlackHole, Act::OneWay];

/// What takes its time to be noticed.
const SLOW_ACTS: [Act; 3] = [Act::Pause, Act::BlackHole, Act::OneWay];

#[derive(Clone, Debug)]
struct Case {
    point: String,
    nth: u32,
    act: Act,
    fails: bool,
}

/// Two hosts and who works on them.
struct Stage<'h> {
    hosts: [&'h Host; 2],
    controller: Controller<'h>,
    before: [String; 2],
    began: Instant,
}

impl<'h> Stage<'h> {
    /// A plan for the controller.
    fn new(hosts: [&'h Host; 2], plan: &str) -> Stage<'h> {
        let mut stage = Stage::without_a_plan(hosts);
        let log = stage.log().display().to_string();
        stage.controller = stage.controller.where_is("ROLLBOOK_FAULT", plan).where_is("ROLLBOOK_FAULT_LOG", &log);
        stage
    }

    fn without_a_plan(hosts: [&'h Host; 2]) -> Stage<'h> {
        let began = Instant::now();
        let controller = Controller::of(&hosts);
        let before = hosts.map(|host| {
            host.wipe();
            let lists = if host.kind == Kind::Systemd { "; apt-get -qq update" } else { "" };
            host.sh(&format!("echo old >/etc/app.conf{lists}"));
            picture(host)
        });
        Stage { hosts, controller, before, began }
    }

    fn start(&self, fails: bool) -> Running {
        // A host that is left alone waits a second; one that hears nothing, five.
        self.start_with("grace: 1s, confirm_within: 10s", if fails { FAILING } else { "" })
    }

    fn start_with(&self, strategy: &str, more: &str) -> Running {
        let path = self.controller.path("points.yml");
        let steps = if self.hosts[0].kind == Kind::Systemd { [STEPS, WITH_SYSTEMD].concat() } else { STEPS.to_owned() };
        fs::write(&path, format!("runbook: Points\nhosts: all\nstrategy: {{{strategy}}}\n{steps}{more}")).unwrap();
        self.controller.start("apply", path, &["--yes"])
    }

    fn log(&self) -> PathBuf {
        self.controller.path("faults")
    }

    /// The points that were passed, or the fault that fired.
    fn lines(&self) -> Vec<String> {
        fs::read_to_string(self.log()).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// Has what was cut off settled, and judges both hosts. The error says what no fault may leave behind.
    fn judge(&self, code: Option<i32>) -> Result<(), String> {
        let inventory = self.controller.path("inventory.yml");
        let mut recovered = None;
        for _ in 0..2 {
            // Without the plan: what recovers is another program.
            let command = ["recover", "-i", inventory.to_str().unwrap(), "--connect-timeout", "60"];
            recovered = self.controller.rollbook_without("ROLLBOOK_FAULT", &command).code();
            if recovered == Some(0) {
                break;
            }
        }
        if recovered != Some(0) {
            return Err(format!("two recoveries were not enough: {recovered:?}"));
        }
        let told = self.told()?;
        for (host, before) in self.hosts.into_iter().zip(&self.before) {
            let name = &host.name;
            let whole = whole(host, before).map_err(|why| format!("{name}: {why}"))?;
            let outcome = told.get(name.as_str());
            match (outcome, code) {
                (Some(HostOutcome::Succeeded), _) | (_, Some(0)) if !whole.is_after => {
                    return Err(format!("{name}: told as done ({outcome:?}, exit {code:?}), and it is as it was"));
                }
                (Some(HostOutcome::RolledBack), _) | (_, Some(7)) if whole.is_after => {
                    return Err(format!("{name}: told as put back ({outcome:?}, exit {code:?}), and it is not"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// How each host ended by the run's own record, whose chain must be whole.
    fn told(&self) -> Result<BTreeMap<String, HostOutcome>, String> {
        let verified = self.controller.rollbook_without("ROLLBOOK_FAULT", &["verify"]);
        if verified.code() != Some(0) {
            return Err(format!("the record is not whole: {verified:?}"));
        }
        let ended = |event| match event {
            Event::HostEnded { host, outcome, .. } => Some((host.to_string(), outcome)),
            _ => None,
        };
        let first = self.controller.events_of_first("Points");
        Ok(first.into_iter().filter_map(|stamped| ended(stamped.event)).collect())
    }
}

/// What stands on a host of all that a run may touch, by the host's own tools.
fn picture(host: &Host) -> String {
    let packages = match host.kind {
        Kind::Systemd => {
            "dpkg --audit; dpkg-query -W -f '${Package} ${Version} ${Status}\\n' 'rb*' 2>/dev/null | grep -v not-installed || true; \
             find /etc/rbdemo /usr/bin/rbdemod /etc/systemd/system -name '*rb*' -printf '%p %l\\n' 2>/dev/null | sort; \
             systemctl show -p UnitFileState,ActiveState,LoadState rbdemo; "
        }
        _ => "",
    };
    host.sh(&format!(
        "{packages}cd / && find etc/app.conf srv -not -path 'srv/repo*' -exec stat -c '%n %F %a %u %s' {{}} + | \
         grep -v '^srv directory' | sort; cat etc/app.conf srv/tree/a/leaf 2>/dev/null || true"
    ))
}

struct Whole {
    is_after: bool,
}

/// A host must be as it was or as the run wants it, its command done once at most, and nothing may be left over.
fn whole(host: &Host, before: &str) -> Result<Whole, String> {
    let now = picture(host);
    let is_after = now != before;
    if is_after
        && !(now.contains("srv/made ") && now.contains("srv/tree/a directory 750") && now.ends_with("new\nleaf\n"))
    {
        return Err(format!("neither before nor after:\n{now}"));
    }
    let deeds = host.sh("cat /etc/deeds 2>/dev/null || true");
    let (done, undone) =
        (deeds.matches("do\n").count() - deeds.matches("undo\n").count(), deeds.matches("undo\n").count());
    let is_right = match is_after {
        true => (done, undone) == (1, 0),
        false => done <= 1 && done <= undone,
    };
    if !is_right {
        return Err(format!(
            "done {done} times, undone {undone} times, and it stands {}",
            if is_after { "after" } else { "before" }
        ));
    }
    // An agent that had no run yet goes when its host has found that the line is dead.
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        let left = left_over(host);
        if left.is_empty() {
            return Ok(Whole { is_after });
        }
        if Instant::now() >= until {
            return Err(format!("left over: {left}"));
        }
        thread::sleep(Duration::from_millis(200));
    }
}

fn left_over(host: &Host) -> String {
    let script = "find / -xdev -name '.rollbook-*' -o -xdev -path '/var/lib/rollbook/runs/*.open' \
                  -o -xdev -name 'rollbook-settle*'; ps -eo args 2>/dev/null | grep '[a]gent-' || true";
    host.sh(script).trim().to_owned()
}

/// Nothing that the host sends leaves it.
const MUTE: &str =
    "nft add table inet mute; nft add chain inet mute out '{ type filter hook output priority 0; policy drop; }'";

fn kill(host: &Host, pattern: &str) {
    host.sh(&format!("pkill -9 -f '{pattern}' || true"));
}

/// Plays a case, and says what is wrong.
fn play(pair: [&Host; 2], case: &Case) -> Result<(), String> {
    let Case { point, nth, act, fails } = case;
    let word = if *act == Act::Kill { "kill" } else { "stop" };
    let stage = Stage::new(pair, &format!("{point}:{nth}:{word}"));
    let mut run = stage.start(*fails);
    until("the fault fires", Duration::from_secs(60), || {
        assert!(*act == Act::Kill || !run.is_over(), "{case:?}: it ended first: {}", run.said());
        stage.lines().iter().any(|line| line.starts_with("fired"))
    });
    let code = match act {
        Act::Kill => run.wait().code(),
        Act::Both => {
            pair.iter().for_each(|host| kill(host, "[a]gent-"));
            run.kill();
            None
        }
        _ => {
            match act {
                Act::Agents => pair.iter().for_each(|host| kill(host, "[a]gent-")),
                Act::Reset => pair.iter().for_each(|host| kill(host, "[s]shd: root")),
                Act::BlackHole => pair.iter().for_each(|host| host.cut()),
                Act::OneWay => pair.iter().for_each(|host| drop(host.sh(MUTE))),
                _ => thread::sleep(Duration::from_secs(8)),
            }
            run.go_on();
            let code = run.wait().code();
            match act {
                Act::BlackHole => pair.iter().for_each(|host| host.heal()),
                Act::OneWay => pair.iter().for_each(|host| drop(host.sh("nft delete table inet mute"))),
                _ => {}
            }
            code
        }
    };
    stage.judge(code).map_err(|why| format!("{why} (after {:?})", stage.began.elapsed()))
}

/// How often a run passes each point of the controller.
fn trace(pair: [&Host; 2]) -> BTreeMap<String, u32> {
    let stage = Stage::new(pair, "trace");
    stage.start(false).wait().ended(0).with("succeeded");
    stage.judge(Some(0)).unwrap();
    let mut counts = BTreeMap::new();
    for point in stage.lines().into_iter().filter(|point| CONTROLLERS.iter().any(|part| point.starts_with(part))) {
        *counts.entry(point).or_default() += 1;
    }
    counts
}

fn cases(counts: &BTreeMap<String, u32>) -> Vec<Case> {
    let mut cases = Vec::new();
    for (point, count) in counts {
        // How often the record is written depends on what comes together; the rest is passed once for each host.
        let moments = if point.starts_with("record.") { vec![1, 3] } else { vec![*count] };
        let case = |nth, act, fails| Case { point: point.clone(), nth, act, fails };
        for (at, nth) in moments.iter().enumerate() {
            let acts = ACTS.into_iter().filter(|act| at == 0 || !SLOW_ACTS.contains(act));
            cases.extend(acts.map(|act| case(*nth, act, false)));
        }
        cases.push(case(moments[0], Act::Both, true));
    }
    // A run that fails is neither closed so nor confirmed.
    cases.retain(|case| !case.fails || !case.point.starts_with("confirm.") && case.point != "run.closes");
    cases
}

/// Points that agents pass which wait for a controller, or for being confirmed, and what brings them there.
const AGENTS: [(&str, Way); 11] = [
    ("alone.token", Way::Confirmed),
    ("alone.awaits", Way::Confirmed),
    ("alone.confirmed", Way::Confirmed),
    ("alone.asked", Way::Confirmed),
    ("alone.late", Way::Elsewhere),
    ("alone.waits", Way::LeftAlone),
    ("alone.over", Way::LeftAlone),
    ("alone.taken_over", Way::TakenOver),
    ("boot.begun", Way::Booted),
    ("boot.settled", Way::Booted),
    ("boot.forgotten", Way::Booted),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The run is confirmed.
    Confirmed,
    /// It would be at an address where nobody answers.
    Elsewhere,
    /// The controller is killed.
    LeftAlone,
    /// And somebody comes to recover.
    TakenOver,
    /// The host loses its power, and boots.
    Booted,
}

/// There is time to do something to the controller or the host.
const SLOW: &str = "  - command: {cmd: [sleep, '60'], creates: /srv/slept}\n    undo: \"true\"\n";

/// The first host's agent is killed at a point; what is wrong then.
fn play_of_an_agent(pair: [&Host; 2], point: &str, way: Way) -> Result<(), String> {
    let stage = Stage::without_a_plan(pair);
    let host = pair[0];
    host.sh(&format!("echo {point}:1:kill >/etc/rollbook-fault"));
    let fired = || host.sh("cat /etc/rollbook-fault.log 2>/dev/null || true").contains("fired");
    let under_way = |strategy: &str| {
        let run = stage.start_with(strategy, SLOW);
        until("both are at the slow step", Duration::from_secs(60), || {
            pair.iter().all(|host| host.sh("ps -eo args | grep '[s]leep 60' || true").contains("sleep"))
        });
        run
    };
    let ended = match way {
        Way::Confirmed => Some(stage.start_with("grace: 1s, confirm_within: 20s", "").wait()),
        Way::Elsewhere => Some(stage.start_with("grace: 1s, confirm_within: 3s, confirm_via: 127.0.0.2", "").wait()),
        Way::LeftAlone => {
            under_way("grace: 1s").kill();
            None
        }
        Way::TakenOver => {
            under_way("grace: 100s").kill();
            until("it is alone", Duration::from_secs(30), || {
                !host.sh("cat /var/lib/rollbook/holder").contains("\"alone_until\":null")
            });
            let inventory = stage.controller.path("inventory.yml");
            let first = ["recover", "-i", inventory.to_str().unwrap()];
            let _the_agent_is_killed_meanwhile = stage.controller.rollbook(&first).code();
            None
        }
        Way::Booted => {
            let run = under_way("grace: 60s");
            host.reset();
            Some(run.wait())
        }
    };
    let said = ended.as_ref().map_or("", |run| run.said());
    until(&format!("the fault fires, after the run said:\n{said}"), Duration::from_secs(60), fired);
    host.sh("rm /etc/rollbook-fault /etc/rollbook-fault.log");
    if way == Way::Booted {
        // What was not removed at this boot is at the next.
        host.reset();
        until("it has looked", Duration::from_secs(30), || !host.outside("/etc/cron.d/rollbook-settle").exists());
    }
    stage.judge(ended.and_then(|run| run.code()))
}

fn pairs(kind: Kind, count: usize) -> Vec<[Host; 2]> {
    (0..count).map(|_| hosts(kind, 2).try_into().unwrap_or_else(|_| unreachable!("two"))).collect()
}

/// Plays cases on all pairs; how many, and what was wrong.
fn play_all<C: Sync + std::fmt::Debug>(
    pairs: &[[Host; 2]],
    cases: &[C],
    play: impl Fn([&Host; 2], &C) -> Result<(), String> + Sync,
) -> Vec<String> {
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = |pair: [&Host; 2]| {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
            let played = catch_unwind(AssertUnwindSafe(|| play(pair, case)));
            if let Err(why) = played.unwrap_or_else(|_| Err("the test itself panicked: see above".into())) {
                failures.lock().unwrap().push(format!("{case:?}: {why}"));
            }
        }
    };
    thread::scope(|scope| pairs.iter().for_each(|[a, b]| drop(scope.spawn(|| work([a, b])))));
    failures.into_inner().unwrap()
}

/// Points whose names begin so.
fn points_of(parts: &[&str]) -> BTreeSet<&'static str> {
    POINTS.iter().map(|(point, _)| *point).filter(|point| parts.iter().any(|part| point.starts_with(part))).collect()
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn at_each_point_of_the_controller_and_of_agents_without_one() {
    let pairs = pairs(Kind::Light, PAIRS);
    let counts = trace([&pairs[0][0], &pairs[0][1]]);
    let passed: BTreeSet<&str> = counts.keys().map(String::as_str).collect();
    assert_eq!(passed, points_of(&CONTROLLERS), "a run passes all of them");
    let agents: BTreeSet<&str> = AGENTS.iter().map(|(point, _)| *point).collect();
    assert_eq!(agents, points_of(&["alone.", "boot."]), "each has a way to it");
    let mut cases = cases(&counts);
    // The longest first.
    cases.sort_by_key(|case| !SLOW_ACTS.contains(&case.act));
    let mut failures = play_all(&pairs, &cases, play);
    failures.extend(play_all(&pairs, &AGENTS, |pair, (point, way)| play_of_an_agent(pair, point, *way)));
    println!(
        "points: {} of the controller x {} faults, {} of agents that are left alone: {} cases, {} failed",
        counts.len(),
        ACTS.len(),
        AGENTS.len(),
        cases.len() + AGENTS.len(),
        failures.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
#[ignore = "needs the fleet: tests/run"]
fn with_a_package_and_a_service_too() {
    let pairs = pairs(Kind::Systemd, 2);
    let mut cases = Vec::new();
    for (point, nth) in [("record.append", 3), ("confirm.reached", 2), ("run.closes", 2)] {
        let case = |act, fails| Case { point: point.to_owned(), nth, act, fails };
        let acts = ACTS.into_iter().filter(|act| !SLOW_ACTS.contains(act));
        cases.extend(acts.map(|act| case(act, false)));
        if point == "record.append" {
            cases.push(case(Act::Both, true));
        }
    }
    let failures = play_all(&pairs, &cases, play);
    println!("points: with a package and a service: {} cases, {} failed", cases.len(), failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
