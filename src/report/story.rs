//! One run of the record, told whole: what a change board asks.

use std::collections::HashMap;

use crate::{
    base::{Fault, Timestamp},
    model::{
        change::{Change, Deed, DeedReport},
        event::{
            Counts, Event, HostConnected, HostOutcome, Operator, RunOpened, RunOutcome, RunbookLabel, Stamped, StepEnd,
            StepLabel, StepOutcome, Undone,
        },
        ids::{HostName, RunId},
        runbook::Risk,
        state::{PathState, State},
    },
    report::{
        change,
        closing::{self, EndedHost},
        deed, failure,
        line::{Line, Mark},
        table::Table,
        time,
        view::Style,
    },
};

/// A run in the telling. Events go in as they are stored; then it is told.
#[derive(Debug)]
pub struct Story {
    run: RunId,
    style: Style,
    opened: Option<(Timestamp, Box<RunOpened>)>,
    closed: Option<(Timestamp, RunOutcome, u64)>,
    hosts: Vec<HostStory>,
    places: HashMap<HostName, usize>,
    notes: Vec<Line>,
}

/// What happened on one host.
#[derive(Debug)]
struct HostStory {
    name: HostName,
    connected: Option<(Timestamp, HostConnected)>,
    lines: Vec<Line>,
    ended: Option<(HostOutcome, Counts, Option<Fault>)>,
    /// Its failure stands among the lines.
    told: bool,
}

impl Story {
    /// An empty story of a run.
    pub fn new(run: RunId, style: Style) -> Self {
        Story { run, style, opened: None, closed: None, hosts: Vec::new(), places: HashMap::new(), notes: Vec::new() }
    }

    /// Takes in the next event.
    pub fn take(&mut self, event: Stamped) {
        let Stamped { at, run: _, event } = event;
        match event {
            Event::RunOpened(opened) => {
                for host in &opened.hosts {
                    self.host(host);
                }
                self.opened = Some((at, opened));
            }
            Event::RunClosed { outcome, hosts: _, counts: _, took_ms } => self.closed = Some((at, outcome, took_ms)),
            Event::HostConnected(connected) => {
                let host = connected.host.clone();
                self.host(&host).connected = Some((at, connected));
            }
            Event::HostUnreachable { host, fault } => self.host(&host).failed(at, failure::unreachable(&host, &fault)),
            Event::StepStarted { .. } => {}
            Event::DeedDone { host, step, report, took_us } => {
                let lines = done(at, &step, &report, took_us, self.style);
                self.host(&host).lines.extend(lines);
            }
            Event::StepEnded { host, step, end } => self.step_ended(at, &host, &step, &end),
            Event::DeedUndone { host, step, report, how } => self.host(&host).undone(at, &step, &report, &how),
            Event::HostEnded { host, outcome, counts, fault } => {
                self.host(&host).ended = Some((outcome, counts, fault));
            }
            Event::Note { host: Some(host), message } => {
                self.host(&host).lines.push(clock(at).put(Mark::Plain, &message));
            }
            Event::Note { host: None, message } => self.notes.push(clock(at).put(Mark::Plain, &message)),
        }
    }

    fn host(&mut self, name: &HostName) -> &mut HostStory {
        let place = *self.places.entry(name.clone()).or_insert_with(|| {
            let (connected, lines) = (None, Vec::new());
            self.hosts.push(HostStory { name: name.clone(), connected, lines, ended: None, told: false });
            self.hosts.len() - 1
        });
        &mut self.hosts[place]
    }

    fn step_ended(&mut self, at: Timestamp, host: &HostName, step: &StepLabel, end: &StepEnd) {
        let verbose = self.style.verbose;
        match end.outcome {
            StepOutcome::Failed => {
                let lines = failure::step(host, step, end);
                self.host(host).failed(at, lines);
            }
            StepOutcome::Changed => {}
            _ if verbose => {
                let line = clock(at).join(change::ended(step, end));
                self.host(host).lines.push(line);
            }
            _ => {}
        }
    }

    /// The whole story.
    pub fn lines(&self) -> Vec<Line> {
        let mut lines = vec![self.heading()];
        lines.extend(self.facts());
        lines.extend(self.notes.iter().cloned());
        for host in &self.hosts {
            lines.push(Line::default());
            lines.extend(host.lines());
        }
        lines.push(Line::default());
        lines.extend(closing::table(&self.hosts.iter().filter_map(HostStory::row).collect::<Vec<_>>()));
        lines
    }

    fn heading(&self) -> Line {
        let line = Line::of("run ").put(Mark::Strong, self.run.as_str());
        match &self.closed {
            Some((_, outcome, _)) => {
                let mark = if *outcome == RunOutcome::Succeeded { Mark::Fine } else { Mark::Alarm };
                line.put(Mark::Plain, ": ").put(mark, closing::run_words(*outcome))
            }
            None => line.put(Mark::Plain, ": ").put(Mark::Alarm, "NEVER CLOSED: how it ended is not on record"),
        }
    }

    /// Who, when, why, what exactly.
    fn facts(&self) -> Vec<Line> {
        let Some((at, opened)) = &self.opened else {
            return vec![Line::default().put(Mark::Alarm, "its opening is not on record")];
        };
        let RunOpened {
            version: _,
            rollbook,
            mode: _,
            operator,
            reason,
            change,
            runbook,
            inventory,
            params,
            set,
            tags,
            limit,
            hosts,
            undoes,
            becomes: _,
        } = &**opened;
        let mut facts = vec![("opened", format!("{} UTC", time::moment(*at)))];
        facts
            .extend(self.closed.map(|(at, _, took_ms)| {
                ("closed", format!("{} UTC, after {}", time::moment(at), time::span(took_ms)))
            }));
        facts.extend(undoes.as_ref().map(|run| ("undoes", run.to_string())));
        facts.push(("by", operator_words(operator)));
        facts.extend(reason.clone().map(|reason| ("reason", reason)));
        facts.extend(change.clone().map(|change| ("change", change)));
        facts.extend(runbook_facts(runbook));
        facts.extend(inventory.iter().map(|(file, digest)| ("inventory", format!("{file}, sha256 {digest}"))));
        facts.extend(params.iter().map(|(name, value)| ("param", format!("{name} = {value}"))));
        facts.extend(set.iter().map(|(name, value)| ("set", format!("{name} = {value}"))));
        facts.extend((!tags.is_empty()).then(|| ("tags", tags.join(", "))));
        facts.extend(limit.clone().map(|limit| ("limit", limit)));
        facts.push(("hosts", hosts.len().to_string()));
        facts.push(("rollbook", rollbook.clone()));
        let mut table = Table::default();
        for (name, value) in facts {
            table.marked_row(vec![(Mark::Plain, String::new()), (Mark::Faint, name.to_owned()), (Mark::Plain, value)]);
        }
        table.lines()
    }
}

/// `ada as root on desk, from 192.0.2.7`.
pub fn operator_words(operator: &Operator) -> String {
    let Operator { user, sudo_user, host, from } = operator;
    let who = match sudo_user {
        Some(sudo_user) => format!("{sudo_user} as {user}"),
        None => user.clone(),
    };
    // SSH_CONNECTION holds the client's address and port, then the server's: the first says where from.
    let from = from.as_ref().and_then(|from| from.split_whitespace().next());
    let from = from.map(|from| format!(", from {from}")).unwrap_or_default();
    format!("{who} on {host}{from}")
}

fn runbook_facts(runbook: &RunbookLabel) -> Vec<(&'static str, String)> {
    let RunbookLabel { file, name, owner, risk, digest, commit, dirty, untold } = runbook;
    let mut facts = vec![("runbook", name.clone()), ("file", format!("{file}, sha256 {digest}"))];
    let uncommitted = if *dirty { ", WITH UNCOMMITTED CHANGES" } else { "" };
    facts.extend(commit.as_ref().map(|commit| ("commit", format!("{commit}{uncommitted}"))));
    facts.extend(untold.as_ref().map(|why| ("commit", format!("NOT KNOWN: {why}"))));
    facts.extend(owner.clone().map(|owner| ("owner", owner)));
    let words = |risk: Risk| match risk {
        Risk::Low => "low",
        Risk::Medium => "medium",
        Risk::High => "high",
    };
    facts.extend(risk.map(|risk| ("risk", words(risk).to_owned())));
    facts
}

impl HostStory {
    fn failed(&mut self, at: Timestamp, lines: Vec<Line>) {
        self.told = true;
        let mut lines = lines.into_iter();
        self.lines.extend(lines.next().map(|line| clock(at).join(line)));
        self.lines.extend(lines.map(|line| Line::of("          ").join(line)));
    }

    fn undone(&mut self, at: Timestamp, step: &StepLabel, report: &DeedReport, how: &Undone) {
        let (mark, words) = deed::undone(how);
        let line = clock(at).put(mark, "< ").put(Mark::Strong, &step.name);
        self.lines.push(line.column(Mark::Plain, &deed::resource(report)).column(mark, &words));
    }

    fn lines(&self) -> Vec<Line> {
        let outcome = self.ended.as_ref().map(|(outcome, ..)| *outcome);
        let (mark, words) = match outcome {
            Some(HostOutcome::Succeeded) => (Mark::Fine, "succeeded"),
            Some(outcome) => (Mark::Alarm, closing::host_words(outcome)),
            None => (Mark::Alarm, "how it ended is not on record"),
        };
        let mut lines = vec![Line::default().put(Mark::Strong, self.name.as_str()).column(mark, words)];
        if let Some((at, connected)) = &self.connected {
            lines.push(clock(*at).join(connection(connected)));
        }
        lines.extend(self.lines.iter().cloned());
        if let Some((_, _, Some(fault))) = &self.ended
            && !self.told
        {
            lines.push(Line::of("  ").put(Mark::Alarm, "! ").put(Mark::Plain, &fault.message));
            lines.extend(failure::details(fault));
        }
        lines
    }

    fn row(&self) -> Option<EndedHost> {
        let (outcome, counts, _) = self.ended.as_ref()?;
        let name = self.name.clone();
        Some(EndedHost { name, outcome: *outcome, counts: *counts, fault: None, left: Vec::new() })
    }
}

fn connection(connected: &HostConnected) -> Line {
    let HostConnected { host: _, address, transport, host_key, agent, installed, system, took_ms } = connected;
    let key = host_key.as_ref().map(|key| format!(", host key {key}")).unwrap_or_default();
    let installed = if *installed { " (installed)" } else { "" };
    let agent = agent.as_ref().map(|agent| format!(", agent {agent}{installed}")).unwrap_or_default();
    let words = format!("connected to {address} by {transport} in {}{key}{agent}, {system}", time::span(*took_ms));
    Line::default().put(Mark::Faint, &words)
}

fn done(at: Timestamp, step: &StepLabel, report: &DeedReport, took_us: u64, style: Style) -> Vec<Line> {
    let ((mark, sign), (undo_mark, undo)) = (deed::sign(report), deed::undo(report.undo));
    let line = clock(at).put(mark, sign).put(Mark::Plain, " ").put(Mark::Strong, &step.name);
    let line = line.put(Mark::Plain, "  ").join(deed::words(report)).column(undo_mark, undo);
    let mut lines = vec![line];
    if style.verbose {
        let took = format!("{} at {}, {}", step.kind, step.place, time::span(took_us / 1000));
        lines.push(Line::of("              ").put(Mark::Faint, &took));
        lines.extend(digests(report).map(|words| Line::of("              ").put(Mark::Faint, &words)));
    }
    if style.diff {
        lines.extend(deed::diff(report, "              "));
    }
    lines
}

/// The digests of a file's contents before and after: what exactly it was.
fn digests(report: &DeedReport) -> Option<String> {
    let Deed::Change(Change { before, after, .. }) = &report.deed else { return None };
    let digest = |state: &State| match state {
        State::Path(PathState::File { content, .. }) => Some(content.digest.to_string()),
        _ => None,
    };
    let (before, after) = (digest(before), digest(after));
    if before == after {
        return None;
    }
    let words = |digest: Option<String>| digest.unwrap_or_else(|| "none".to_owned());
    Some(format!("sha256 {} → {}", words(before), words(after)))
}

/// The time of day before a line.
fn clock(at: Timestamp) -> Line {
    let moment = time::moment(at);
    let (_, clock) = moment.split_once(' ').unwrap_or(("", &moment));
    Line::default().put(Mark::Faint, &format!("  {clock}  "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    fn told(style: Style, events: Vec<Stamped>) -> Vec<String> {
        let mut story = Story::new(events[0].run.clone(), style);
        events.into_iter().for_each(|event| story.take(event));
        story.lines().iter().map(Line::plain).collect()
    }

    #[test]
    fn a_change_board_finds_its_answers() {
        let lines = told(Style::default(), samples::events());
        assert_eq!(
            lines,
            [
                "run 20261123-051034-k7f3: NEEDS RECOVERY",
                "  opened     2026-11-23 05:10:34 UTC",
                "  closed     2026-11-23 05:10:38 UTC, after 4.3 s",
                "  by         ada as root on desk, from 192.0.2.7",
                "  reason     security fix",
                "  change     CHG-123",
                "  runbook    Release the web tier",
                "  file       runbooks/web.yml, sha256 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
                "  commit     3f1c9ae0b5a94b1f0a7c2a7c7b3b0d6c1e2f3a4b",
                "  owner      web-platform",
                "  risk       medium",
                "  inventory  inventories/prod.yml, sha256 \
                 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "  param      replicas = 3",
                "  param      token = \"[hidden]\"",
                "  param      version = \"1.2.3\"",
                "  set        keep = 5",
                "  tags       web",
                "  limit      web*",
                "  hosts      2",
                "  rollbook   0.1.0",
                "",
                "web01  NEEDS RECOVERY",
                "  05:10:34  connected to 192.0.2.11:22 by ssh2 in 84 ms, host key \
                 SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8, agent 9f86d081884c (installed), debian 13, x86_64",
                "  05:10:34  ~ the site is configured  /etc/nginx/conf.d/site.conf  content 310 B → 324 B, mode 0644 \
                 → 0600  [undo: restore]",
                "  05:10:34  ~ the release is current  /srv/web/current  directory → link to releases/1.2.3  \
                 [undo: restore]",
                "  05:10:36  + nginx is installed  package nginx  version none → 1.26.0-1  [undo: restore]",
                "  05:10:36  ~ nginx runs  service nginx.service  enabled disabled → enabled, active no → yes  \
                 [undo: restore]",
                "  05:10:36  + the deploy user is there  user deploy  uid 1004, group deploy  [undo: restore]",
                "  05:10:36  - the old group is gone  group oldweb  was gid 1009, members ada  [undo: restore]",
                "  05:10:37  * the schema is migrated  run /srv/web/bin/migrate --to 1.2.3  [undo: command]",
                "  05:10:38  ! web01  reload nginx  FAILED",
                "              service at runbooks/web.yml:40, tried 2 times",
                "              exit code 1",
                "              | nginx: [emerg] bind() failed",
                "  05:10:38  < the socket is gone  /run/web.sock  LEFT ALONE, changed by someone else since: a file \
                 of 12 B stands there",
                "  05:10:34  the run 20261122-221500-p3xa is still open on this host",
                "",
                "web02  how it ended is not on record",
                "  05:10:35  ! web02  UNREACHABLE  the host key has changed",
                "              --> /home/ada/.ssh/known_hosts:12:1",
                "              SHA256:AAAA is known, SHA256:BBBB was shown",
                "              help: If you know why, run: ssh-keygen -R web02",
                "",
                "host   ok  changed  skipped  failed  undone  outcome",
                "web01   1        7        0       1       6  NEEDS RECOVERY",
            ]
        );
    }

    #[test]
    fn what_is_missing_is_said() {
        let mut events = samples::events();
        events.retain(|event| matches!(event.event, Event::DeedDone { .. } | Event::Note { .. }));
        let lines = told(Style { diff: true, verbose: true }, events);
        assert_eq!(lines[0], "run 20261123-051034-k7f3: NEVER CLOSED: how it ended is not on record");
        assert_eq!(lines[1], "its opening is not on record");
        assert!(lines.contains(&"              -  listen 80;".to_owned()));
        let digests = "              sha256 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad → \
                       e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert!(lines.contains(&digests.to_owned()), "{lines:?}");
    }
}
