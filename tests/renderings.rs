//! What is rendered once for several hosts is what each of them would have been sent on its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/job.rs"]
mod job;

use std::{fmt::Write, fs, path::Path, sync::Arc};

use rollbook::{
    engine::{self, Job, host_run::HostRun},
    model::facts::Facts,
    steps, syntax,
};

/// Numbers that are the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }
}

/// Values of variables; some of them use other ones.
const VALUES: [&str; 7] =
    ["1", "2", "text", "\"{{ b | default('none') }}\"", "\"of {{ c | default(0) }}\"", "{k: 1}", "[1, 2]"];

/// What may stand in a text.
const PARTS: [&str; 14] = [
    "fixed",
    "{{ a | default('none') }}",
    "{{ b | default(a | default('neither')) }}",
    "{% if c is defined %}{{ c }}{% else %}no{% endif %}",
    "{{ (d | default({})).k | default('none') }}",
    "{{ host.name }}",
    "{{ host.groups | join('+') }}",
    "{{ groups.g1 | length }}",
    "{{ facts.arch }}",
    "{{ above }}",
    "{{ above_own }}",
    "{{ item | default('none') }}",
    "{% for n in range(2) %}{{ a | default(n) }}{% endfor %}",
    "{{ given | default('not given') }}",
];

fn variables(dice: &mut Dice) -> String {
    let named = ["a", "b", "c", "d"].map(|name| match dice.below(3) {
        0 => format!("{name}: {}", dice.of(&VALUES)),
        _ => String::new(),
    });
    named.into_iter().filter(|variable| !variable.is_empty()).collect::<Vec<_>>().join(", ")
}

fn inventory(dice: &mut Dice) -> String {
    let mut text = format!("all:\n  vars: {{{}}}\n  children:\n", variables(dice));
    for group in 1..=2 {
        writeln!(text, "    g{group}:\n      vars: {{{}}}\n      hosts:", variables(dice)).unwrap();
        for host in 1..=4 {
            writeln!(text, "        h{group}{host}: {{{}}}", if host > 2 { variables(dice) } else { String::new() })
                .unwrap();
        }
    }
    text
}

fn runbook(dice: &mut Dice) -> String {
    let mut text = "runbook: Of a test\nhosts: all\nvars:\n  above: \"above {{ a | default('none') }}\"\n  \
                    above_own: \"{{ host.name }}\"\nsteps:\n"
        .to_owned();
    for n in 0..12 {
        let (one, two) = (dice.of(&PARTS), dice.of(&PARTS));
        match dice.below(4) {
            0 => writeln!(text, "  - copy: {{dest: /srv/{n}, content: \"{one} and {two}\"}}\n    name: \"{two}\""),
            1 => writeln!(text, "  - template: {{src: {}.j2, dest: /srv/{n}}}", dice.below(PARTS.len())),
            2 => writeln!(text, "  - command: {{cmd: [echo, \"{one}\"]}}\n    undo: [echo, \"{two}\"]\n    environment: {{A: \"{one}\"}}"),
            _ => writeln!(text, "  - copy: {{dest: /srv/{n}, content: \"{one}\"}}\n    when: \"a is defined or {n} % 2 == 0\""),
        }
        .unwrap();
        match dice.below(4) {
            0 => writeln!(text, "    loop: [x, \"{two}\"]"),
            1 => writeln!(text, "    vars: {{a: {}}}", dice.of(&VALUES)),
            _ => Ok(()),
        }
        .unwrap();
    }
    text
}

/// All that a host is sent, and all that is told of it, where it answers nothing.
fn sent(job: &Arc<Job>, host: usize) -> Vec<String> {
    let mut run = HostRun::new(Arc::clone(job), Arc::clone(&job.hosts[host]));
    let facts = Facts { arch: format!("arch{host}"), ..Facts::default() };
    run.begin(Some(facts)).iter().map(|order| format!("{order:?}")).collect()
}

fn project() -> tempfile::TempDir {
    let project = tempfile::tempdir().unwrap();
    for (at, part) in PARTS.iter().enumerate() {
        fs::write(project.path().join(format!("{at}.j2")), part).unwrap();
    }
    project
}

/// A checked job of a seed, and the same unchecked; `None` where it is wrong.
fn jobs(project: &Path, seed: u64) -> Option<[Arc<Job>; 2]> {
    let mut dice = Dice(seed);
    let (inventory, runbook) = (inventory(&mut dice), runbook(&mut dice));
    let [checked, alone] = [(); 2].map(|()| job::job(project, &runbook, &inventory));
    engine::check(&checked).is_ok().then_some([checked, alone])
}

#[test]
fn what_is_rendered_for_several_is_what_each_would_have_got() {
    let project = project();
    let (mut right, mut rendered, mut wanted) = (0, 0, 0);
    for seed in 0..150 {
        let Some([checked, alone]) = jobs(project.path(), seed) else { continue };
        right += 1;
        rendered += checked.drafts.len();
        for host in 0..checked.hosts.len() {
            let own = sent(&alone, host);
            wanted += own.iter().filter(|order| order.starts_with("Tell(Task(")).count();
            assert_eq!(sent(&checked, host), own, "seed {seed}, {}", checked.hosts[host].name);
        }
    }
    assert!(right > 50 && rendered * 3 < wanted * 2, "{right} runbooks, {rendered} renderings for {wanted} tasks");
}

#[test]
fn a_step_is_rendered_once_for_all_that_give_it_the_same() {
    let project = project();
    let steps = "runbook: Of a test\nhosts: all\nsteps:\n  - copy: {dest: /srv/port, content: \"{{ listen }}\"}\n  \
                 - file: {path: /srv/a, state: directory}\n";
    let hosts = |from: usize| (from..from + 250).map(|n| format!("h{n}: {{own: {n}}}")).collect::<Vec<_>>().join(", ");
    let inventory = format!(
        "all: {{vars: {{listen: 80}}, children: {{web: {{hosts: {{{}}}}}, db: {{vars: {{listen: 5432}}, hosts: {{{}}}}}}}}}",
        hosts(0),
        hosts(250)
    );
    // Several times: processors that render for hosts side by side may meet.
    for _ in 0..20 {
        let job = job::job(project.path(), steps, &inventory);
        engine::check(&job).unwrap();
        assert_eq!((job.hosts.len(), job.drafts.len()), (500, 3));
    }

    let each = job::job(project.path(), &steps.replace("/srv/a", "\"/srv/{{ own }}\""), &inventory);
    engine::check(&each).unwrap();
    assert_eq!(each.drafts.len(), 502);
}

#[test]
fn what_is_wrong_is_told_in_the_order_of_the_hosts() {
    let project = project();
    let runbook =
        "runbook: Of a test\nhosts: all\nsteps:\n  - file: {path: /srv/a, state: directory, mode: \"{{ own }}\"}\n";
    let hosts: String = (0..40).map(|n| format!("h{n:02}: {{own: wrong{n:02}}}, ")).collect();
    let faults =
        engine::check(&job::job(project.path(), runbook, &format!("all: {{hosts: {{{hosts}}}}}"))).unwrap_err();
    assert_eq!(faults.0.len(), 40, "{faults:?}");
    for (n, fault) in faults.0.iter().enumerate() {
        assert!(fault.to_string().contains(&format!("wrong{n:02}")), "{n}: {fault}");
    }
}

#[test]
fn the_same_command_is_one_that_is_given_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let inventory = syntax::inventory::parse("hosts.yml", "all: {hosts: {here: {transport: local}}}\n").unwrap();
    let (runbook, _) =
        syntax::runbook::parse("x.yml", "runbook: x\nhosts: all\nsteps: [{raw: uptime}]\n", &steps::words());
    let bid = |set: serde_json::Value| {
        let job = job::of(folder.path(), runbook.clone().unwrap(), inventory.clone());
        Job { set: Arc::new(serde_json::from_value(set).unwrap()), ..job }.bid(&"here".into()).job
    };
    assert_eq!(bid(serde_json::json!({"a": "1"})), bid(serde_json::json!({"a": "1"})));
    assert_ne!(bid(serde_json::json!({"a": "1"})), bid(serde_json::json!({"a": "2"})));
}
