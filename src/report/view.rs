//! Events for tired people: what each looks like, given those before it. Nothing here writes.

use std::collections::HashMap;

use crate::{
    model::{
        event::{Event, HostOutcome, Mode, RunOpened, Stamped, StepEnd, StepLabel, StepOutcome},
        ids::HostName,
    },
    report::{
        change,
        closing::{self, EndedHost},
        deed, failure,
        line::{Line, Mark},
        plan::{Planned, plural},
    },
};

/// What is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Contents line by line.
    pub diff: bool,
    /// Steps that change nothing, too.
    pub verbose: bool,
}

/// What was shown of a run, as far as it matters for what comes.
#[derive(Debug)]
pub(super) struct View {
    style: Style,
    mode: Mode,
    /// Whether it is the undo of another run.
    undoes: bool,
    hosts: Vec<HostName>,
    planned: Planned,
    ended: HashMap<HostName, EndedHost>,
    /// Hosts whose failure was told when it happened.
    told: HashMap<HostName, Told>,
}

/// What was told of a host that is not finished with.
#[derive(Debug, Default)]
struct Told {
    failure: bool,
    left: Vec<Line>,
}

impl View {
    /// A view in a style.
    pub(super) fn new(style: Style) -> Self {
        View {
            style,
            mode: Mode::Apply,
            undoes: false,
            hosts: Vec::new(),
            planned: Planned::default(),
            ended: HashMap::new(),
            told: HashMap::new(),
        }
    }

    /// The lines of an event.
    pub(super) fn lines(&mut self, stamped: &Stamped) -> Vec<Line> {
        match &stamped.event {
            Event::RunOpened(opened) => self.opened(stamped, opened),
            Event::HostConnected(connected) if self.style.verbose => {
                let agent = if connected.installed { ", agent installed" } else { "" };
                let words = format!("connected: {} by {}{agent}", connected.address, connected.transport);
                let line = Line::default().put(Mark::Faint, "@ ").put(Mark::Plain, connected.host.as_str());
                vec![line.column(Mark::Faint, &words)]
            }
            Event::HostConnected(_) | Event::StepStarted { .. } => Vec::new(),
            Event::HostUnreachable { host, fault } => {
                self.told.entry(host.clone()).or_default().failure = true;
                failure::unreachable(host, fault)
            }
            Event::DeedDone { host, step, report, took_us: _ } => change::done(host, step, report, self.style.diff),
            Event::StepEnded { host, step, end } => self.step_ended(host, step, end),
            Event::DeedUndone { host, step, report, how } => {
                let line = change::undone(host, step, report, how);
                if !deed::is_back(how) {
                    let (mark, words) = deed::undone(how);
                    let left = Line::of(&deed::resource(report)).column(mark, &words);
                    self.told.entry(host.clone()).or_default().left.push(left);
                }
                vec![line]
            }
            Event::HostEnded { host, outcome, counts, fault } => {
                let told = self.told.remove(host).unwrap_or_default();
                let fault = fault.clone().filter(|_| !told.failure && *outcome != HostOutcome::NotStarted);
                let ended =
                    EndedHost { name: host.clone(), outcome: *outcome, counts: *counts, fault, left: told.left };
                self.ended.insert(host.clone(), ended);
                Vec::new()
            }
            Event::RunClosed { outcome, hosts, counts, took_ms } if self.mode == Mode::Apply => {
                let ended = self.ended_in_order();
                let mut lines = vec![Line::default()];
                lines.extend(closing::troubles(&ended));
                lines.extend(closing::table(&ended));
                lines.push(closing::sentence(stamped.run.as_str(), *outcome, hosts, counts, *took_ms));
                lines
            }
            Event::RunClosed { .. } => {
                let mut lines = self.planned.lines(self.style.diff, self.hosts.len(), self.undoes);
                lines.extend(closing::troubles(&self.ended_in_order()));
                lines.push(self.planned.summary());
                lines
            }
            Event::Note { host, message } => {
                let host = host.as_ref().map(|host| format!("{host}: ")).unwrap_or_default();
                vec![Line::of(&format!("{host}{message}"))]
            }
        }
    }

    fn opened(&mut self, stamped: &Stamped, opened: &RunOpened) -> Vec<Line> {
        let (mode, undoes) = (opened.mode, opened.undoes.is_some());
        *self = View { mode, undoes, hosts: opened.hosts.clone(), ..View::new(self.style) };
        let (word, run) = match opened.mode {
            Mode::Plan => ("plan of ", String::new()),
            Mode::Apply => ("apply ", format!(", run {}", stamped.run)),
        };
        let name = Line::default().put(Mark::Plain, word).put(Mark::Strong, &opened.runbook.name);
        let hosts = opened.hosts.len();
        vec![name.put(Mark::Plain, &format!(" on {hosts} host{}{run}", plural(hosts)))]
    }

    fn step_ended(&mut self, host: &HostName, step: &StepLabel, end: &StepEnd) -> Vec<Line> {
        let speaks = step.kind == "debug" && end.outcome == StepOutcome::Ok;
        if self.mode == Mode::Plan {
            self.told.entry(host.clone()).or_default().failure |= end.outcome == StepOutcome::Failed;
            self.planned.add(host, step, end, self.style.verbose || speaks);
            return Vec::new();
        }
        match end.outcome {
            StepOutcome::Failed => {
                self.told.entry(host.clone()).or_default().failure = true;
                failure::step(host, step, end)
            }
            StepOutcome::Changed => Vec::new(),
            _ if speaks || self.style.verbose => vec![change::ended_on(host, step, end)],
            _ => Vec::new(),
        }
    }

    /// The hosts in the order of the inventory.
    fn ended_in_order(&mut self) -> Vec<EndedHost> {
        let mut ended: Vec<EndedHost> = self.hosts.iter().filter_map(|host| self.ended.remove(host)).collect();
        ended.extend(self.ended.drain().map(|(_, host)| host));
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{
            change::{Act, Deed, DeedReport, Undo, UndoKind},
            event::{Counts, RunOutcome, Undone},
        },
        report::samples,
    };

    fn told(style: Style, events: impl IntoIterator<Item = Stamped>) -> Vec<String> {
        let mut view = View::new(style);
        events.into_iter().flat_map(|event| view.lines(&event)).map(|line| line.plain()).collect()
    }

    fn stamped(event: Event) -> Stamped {
        let first = &samples::events()[0];
        Stamped { at: first.at, run: first.run.clone(), event }
    }

    fn opened(mode: Mode, hosts: &[&str]) -> Stamped {
        let mut first = samples::events().remove(0);
        if let Event::RunOpened(opened) = &mut first.event {
            opened.mode = mode;
            opened.hosts = hosts.iter().map(|host| (*host).into()).collect();
        }
        first
    }

    fn label(step: u32, name: &str) -> StepLabel {
        let no = crate::model::ids::TaskNo { step, item: 0 };
        let place = format!("web.yml:{}", step + 3);
        StepLabel { no, name: name.into(), kind: "file".into(), place, sensitive: false, handler: false }
    }

    /// The first report that the page shows: a file that changes.
    fn file_report() -> DeedReport {
        let found = samples::events().into_iter().find_map(|event| match event.event {
            Event::DeedDone { report, .. } => Some(*report),
            _ => None,
        });
        found.unwrap()
    }

    fn restart() -> DeedReport {
        let deed = Deed::Act { act: Act::Restart("app.service".into()), undo: Undo::Irreversible };
        DeedReport { deed, differences: Vec::new(), diff: None, undo: UndoKind::Irreversible }
    }

    fn end(host: &str, step: &StepLabel, outcome: StepOutcome, deeds: Vec<DeedReport>) -> Stamped {
        let message = (outcome == StepOutcome::Unknown).then(|| "depends on facts".to_owned());
        let end = StepEnd { outcome, deeds, output: None, message, attempts: 1, took_us: 10 };
        stamped(Event::StepEnded { host: host.into(), step: step.clone().into(), end: end.into() })
    }

    fn host_ended(host: &str, outcome: HostOutcome, counts: Counts) -> Stamped {
        stamped(Event::HostEnded { host: host.into(), outcome, counts, fault: None })
    }

    fn closed(outcome: RunOutcome, hosts: &[(HostOutcome, u32)], counts: Counts) -> Stamped {
        let hosts = hosts.iter().copied().collect();
        stamped(Event::RunClosed { outcome, hosts, counts, took_ms: 4321 })
    }

    #[test]
    fn the_run_of_the_page() {
        assert_eq!(
            told(Style::default(), samples::events()),
            [
                "apply Release the web tier on 2 hosts, run 20261123-051034-k7f3",
                "! web02  UNREACHABLE  the host key has changed",
                "    --> /home/ada/.ssh/known_hosts:12:1",
                "    SHA256:AAAA is known, SHA256:BBBB was shown",
                "    help: If you know why, run: ssh-keygen -R web02",
                "~ web01  the site is configured  /etc/nginx/conf.d/site.conf  content 310 B → 324 B, mode 0644 → 0600  \
                 [undo: restore]",
                "~ web01  the release is current  /srv/web/current  directory → link to releases/1.2.3  [undo: restore]",
                "+ web01  nginx is installed  package nginx  version none → 1.26.0-1  [undo: restore]",
                "~ web01  nginx runs  service nginx.service  enabled disabled → enabled, active no → yes  \
                 [undo: restore]",
                "+ web01  the deploy user is there  user deploy  uid 1004, group deploy  [undo: restore]",
                "- web01  the old group is gone  group oldweb  was gid 1009, members ada  [undo: restore]",
                "* web01  the schema is migrated  run /srv/web/bin/migrate --to 1.2.3  [undo: command]",
                "! web01  reload nginx  FAILED",
                "    service at runbooks/web.yml:40, tried 2 times",
                "    exit code 1",
                "    | nginx: [emerg] bind() failed",
                "< web01  the socket is gone  /run/web.sock  LEFT ALONE, changed by someone else since: a file of 12 B \
                 stands there",
                "",
                "! web01  1 change could not be put back:",
                "    /run/web.sock  LEFT ALONE, changed by someone else since: a file of 12 B stands there",
                "host   ok  changed  skipped  failed  undone  outcome",
                "web01   1        7        0       1       6  NEEDS RECOVERY",
                "run 20261123-051034-k7f3: NEEDS RECOVERY: 1 NEEDS RECOVERY; 1 unreachable  (4.3 s)",
                "web01: the run 20261122-221500-p3xa is still open on this host",
            ]
        );
    }

    #[test]
    fn a_diff_is_shown_where_it_is_asked_for() {
        let lines = told(Style { diff: true, verbose: false }, samples::events());
        let at = lines.iter().position(|line| line.contains("site.conf")).unwrap();
        assert_eq!(
            lines[at + 1..at + 7],
            [
                "    --- before",
                "    +++ after",
                "    @@ -1,2 +1,2 @@",
                "     server {",
                "    -  listen 80;",
                "    +  listen 8080;",
            ]
        );
    }

    #[test]
    fn a_plan_puts_equal_changes_together_and_warns_last() {
        let (file, app, last) = (label(0, "the site is configured"), label(1, "the app runs"), label(2, "smoke test"));
        let mut events = vec![opened(Mode::Plan, &["a", "b", "c"])];
        for host in ["a", "b", "c"] {
            events.push(end(host, &app, StepOutcome::Changed, if host == "c" { vec![] } else { vec![restart()] }));
            events.push(end(host, &file, StepOutcome::Changed, vec![file_report()]));
            events.push(end(host, &last, StepOutcome::Unknown, vec![]));
            events.push(end(host, &label(3, "nothing to do"), StepOutcome::Ok, vec![]));
        }
        events.push(closed(RunOutcome::Succeeded, &[(HostOutcome::Succeeded, 3)], Counts::default()));
        let lines = told(Style::default(), events);
        assert_eq!(
            lines,
            [
                "plan of Release the web tier on 3 hosts",
                "~ the site is configured  all 3 hosts  (file at web.yml:3)",
                "    ~ /etc/nginx/conf.d/site.conf  content 310 B → 324 B, mode 0644 → 0600  [undo: restore]",
                "~ the app runs  a, b  (file at web.yml:4)",
                "    ! restart app.service  [CANNOT BE UNDONE]",
                "~ the app runs  c  (file at web.yml:4)",
                "? smoke test  known only when applied  all 3 hosts  (file at web.yml:5)",
                "    depends on facts",
                "CANNOT BE UNDONE:",
                "  the app runs  restart app.service  on a, b",
                "Plan: 6 to change on 3 hosts, 2 CANNOT BE UNDONE, 3 known only when applied",
            ]
        );
    }

    #[test]
    fn a_plan_without_work_says_zero() {
        let step = label(0, "a step");
        let events = [opened(Mode::Plan, &["a"]), end("a", &step, StepOutcome::Ok, vec![])];
        let close = closed(RunOutcome::Succeeded, &[(HostOutcome::Succeeded, 1)], Counts::default());
        let events = events.into_iter().chain([close]);
        let last = told(Style::default(), events.clone()).pop().unwrap();
        assert_eq!(last, "Plan: 0 to change on 0 hosts, 0 cannot be undone");
        let verbose = told(Style { verbose: true, diff: false }, events);
        assert_eq!(verbose[1], "= a step  a  (file at web.yml:3)");
    }

    #[test]
    fn an_unchanged_run_says_zero() {
        let counts = Counts { ok: 5, skipped: 1, ..Counts::default() };
        let events = [
            opened(Mode::Apply, &["a"]),
            end("a", &label(0, "a step"), StepOutcome::Ok, vec![]),
            end("a", &label(1, "another"), StepOutcome::Skipped, vec![]),
            host_ended("a", HostOutcome::Succeeded, counts),
            closed(RunOutcome::Succeeded, &[(HostOutcome::Succeeded, 1)], counts),
        ];
        let lines = told(Style::default(), events.clone());
        assert_eq!(lines.last().unwrap(), "run 20261123-051034-k7f3: succeeded, 0 changed  (4.3 s)");
        assert_eq!(lines.len(), 5, "{lines:?}");
        let verbose = told(Style { verbose: true, diff: false }, events);
        assert_eq!(verbose[1..3], ["= a  a step", ". a  another  skipped"]);
    }

    #[test]
    fn many_hosts_share_rows_and_the_worst_stand_first() {
        let names: Vec<String> = (0..40).map(|host| format!("web{host:02}")).collect();
        let hosts: Vec<&str> = names.iter().map(String::as_str).collect();
        let changed = Counts { ok: 2, changed: 1, ..Counts::default() };
        let back = Counts { changed: 1, failed: 1, undone: 1, ..Counts::default() };
        let mut events = vec![opened(Mode::Apply, &hosts)];
        for (at, host) in hosts.iter().enumerate() {
            if at == 7 {
                let (step, report, host) = (label(0, "a step").into(), file_report().into(), (*host).into());
                events.push(stamped(Event::DeedUndone { host, step, report, how: Undone::Undone }));
            }
            events.push(match at {
                7 => host_ended(host, HostOutcome::RolledBack, back),
                _ => host_ended(host, HostOutcome::Succeeded, changed),
            });
        }
        let by_outcome = [(HostOutcome::Succeeded, 39), (HostOutcome::RolledBack, 1)];
        events.push(closed(RunOutcome::RolledBack, &by_outcome, Counts { changed: 40, ..back }));
        let lines = told(Style::default(), events);
        assert_eq!(
            lines[1..],
            [
                "< web07  a step  /etc/nginx/conf.d/site.conf  put back",
                "",
                "host                                           ok  changed  skipped  failed  undone  outcome",
                "web07                                           0        1        0       1       1  failed, rolled back",
                "web00, web01, web02, web03, web04 and 34 more   2        1        0       0       0  succeeded",
                "run 20261123-051034-k7f3: failed, rolled back: 1 host is as it was before, 39 succeeded  (4.3 s)",
            ]
        );
    }

    #[test]
    fn nothing_that_a_host_says_reaches_the_terminal_raw() {
        let evil = "\u{1b}]0;x\u{7}\u{9b}2J\u{202e}\r\n\u{7f}";
        for event in samples::events() {
            let mut value = serde_json::to_value(&event).unwrap();
            poison(&mut value, evil);
            let event: Stamped = serde_json::from_value(value).unwrap();
            for verbose in [false, true] {
                let lines = told(Style { diff: true, verbose }, [event.clone()]);
                lines.iter().for_each(|line| {
                    assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line:?}");
                });
            }
        }
    }

    /// Puts a text behind every text that may be any: names, messages, words of a host.
    fn poison(value: &mut serde_json::Value, evil: &str) {
        const FREE: [&str; 12] = [
            "name",
            "message",
            "text",
            "place",
            "address",
            "system",
            "host",
            "attribute",
            "before",
            "after",
            "diff",
            "file",
        ];
        match value {
            serde_json::Value::Object(fields) => {
                for (name, field) in fields {
                    match field {
                        serde_json::Value::String(text) if FREE.contains(&name.as_str()) && text != "absent" => {
                            text.push_str(evil);
                        }
                        field => poison(field, evil),
                    }
                }
            }
            serde_json::Value::Array(items) => items.iter_mut().for_each(|item| poison(item, evil)),
            _ => {}
        }
    }
}
