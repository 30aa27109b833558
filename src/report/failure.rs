//! What went wrong: what was tried, how it ended, and the tool's last words.

use crate::{
    base::Fault,
    model::{
        event::{Output, StepEnd, StepLabel},
        ids::HostName,
    },
    report::{
        change,
        line::{Line, Mark, shortened},
        time,
    },
};

/// Lines of a failed tool's output that are shown.
const LAST_LINES: usize = 12;

/// Columns of such a line that are shown: a tool may print a whole page without a line's end.
const LINE_COLUMNS: usize = 300;

/// A step that failed on a host.
pub(super) fn step(host: &HostName, step: &StepLabel, end: &StepEnd) -> Vec<Line> {
    let mut lines = vec![change::head(Mark::Alarm, "!", host, step).column(Mark::Alarm, "FAILED")];
    lines.push(Line::of("    ").put(Mark::Faint, &attempt(step, end)));
    lines.extend(indented(end.message.as_deref().unwrap_or_default()));
    if let Some(output) = &end.output {
        lines.extend(ending(output, end.message.as_deref().unwrap_or_default()));
        lines.extend(last_lines(output));
    }
    lines
}

/// What was tried: the kind, its place, how often, how long.
fn attempt(step: &StepLabel, end: &StepEnd) -> String {
    let times = if end.attempts > 1 { format!(", tried {} times", end.attempts) } else { String::new() };
    let took = if end.took_us >= 1_000_000 { format!(", {}", time::span(end.took_us / 1000)) } else { String::new() };
    format!("{} at {}{times}{took}", step.kind, step.place)
}

/// How the tool ended, unless it is said already.
fn ending(output: &Output, message: &str) -> Option<Line> {
    let words = match (output.timed_out, output.code, output.signal) {
        (true, ..) => "ran past its time and was ended".to_owned(),
        (false, Some(code), _) => format!("exit code {code}"),
        (false, None, Some(signal)) => format!("ended by signal {signal}"),
        (false, None, None) => return None,
    };
    (!message.contains(&words)).then(|| Line::of(&format!("    {words}")))
}

fn last_lines(output: &Output) -> Vec<Line> {
    let (name, text) = match output.stderr.text.trim() {
        "" => ("stdout", &output.stdout.text),
        _ => ("stderr", &output.stderr.text),
    };
    let all: Vec<&str> = text.trim_end().lines().collect();
    let skipped = all.len().saturating_sub(LAST_LINES);
    let mut lines = Vec::new();
    if skipped > 0 {
        lines.push(Line::of("    ").put(Mark::Faint, &format!("the last {LAST_LINES} lines of {name}:")));
    }
    lines.extend(all[skipped..].iter().map(|text| {
        Line::of("    ").put(Mark::Faint, "| ").put(Mark::Plain, &shortened(&text.replace('\t', "    "), LINE_COLUMNS))
    }));
    lines
}

/// A host that could not be reached.
pub(super) fn unreachable(host: &HostName, fault: &Fault) -> Vec<Line> {
    let head = Line::default().put(Mark::Alarm, "!").put(Mark::Plain, " ").put(Mark::Plain, host.as_str());
    let mut lines = vec![head.column(Mark::Alarm, "UNREACHABLE").column(Mark::Plain, &fault.message)];
    lines.extend(details(fault));
    lines
}

/// Where, why, and what to do.
pub(super) fn details(fault: &Fault) -> Vec<Line> {
    let place =
        fault.place.iter().map(|place| Line::of("    ").put(Mark::Place, "--> ").put(Mark::Plain, &place.to_string()));
    let causes = fault.causes.iter().flat_map(|cause| indented(cause));
    let hint = |hint: &String| Line::of("    ").put(Mark::Fine, "help: ").put(Mark::Plain, hint);
    place.chain(causes).chain(fault.hints.iter().map(hint)).collect()
}

fn indented(text: &str) -> Vec<Line> {
    text.lines().map(|line| Line::of(&format!("    {}", line.replace('\t', "    ")))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        model::event::{Capped, Event, Stamped, StepOutcome},
        report::samples,
    };

    fn failed() -> (HostName, Arc<StepLabel>, Box<StepEnd>) {
        samples::events()
            .into_iter()
            .find_map(|Stamped { event, .. }| match event {
                Event::StepEnded { host, step, end } if end.outcome == StepOutcome::Failed => Some((host, step, end)),
                _ => None,
            })
            .unwrap()
    }

    fn plain(lines: &[Line]) -> Vec<String> {
        lines.iter().map(Line::plain).collect()
    }

    #[test]
    fn a_failure_says_what_was_tried_and_the_tools_words() {
        let (host, label, end) = failed();
        assert_eq!(
            plain(&step(&host, &label, &end)),
            [
                "! web01  reload nginx  FAILED",
                "    service at runbooks/web.yml:40, tried 2 times",
                "    exit code 1",
                "    | nginx: [emerg] bind() failed",
            ]
        );
    }

    #[test]
    fn a_chattering_tool_is_cut() {
        let (host, label, mut end) = failed();
        let text: String = (0..40).map(|line| format!("line {line}\t\u{1b}[2J\r{}\n", "x".repeat(5000))).collect();
        end.output =
            Some(Output { signal: Some(9), stdout: Capped { text, bytes: 1 << 33, cut: true }, ..Output::default() });
        end.message = None;
        let lines = step(&host, &label, &end);
        let told = plain(&lines);
        assert_eq!(told.len(), 2 + 1 + 1 + LAST_LINES);
        assert_eq!(told[2..4], ["    ended by signal 9", "    the last 12 lines of stdout:"]);
        assert!(told[4].starts_with("    | line 28    \\u{1b}[2J\\u{d}xxx") && told[4].ends_with('…'), "{}", told[4]);
        lines.iter().for_each(|line| assert!(line.width() < LINE_COLUMNS + 40));
    }

    #[test]
    fn an_unreachable_host_says_what_to_do() {
        let fault = samples::events().into_iter().find_map(|Stamped { event, .. }| match event {
            Event::HostUnreachable { fault, .. } => Some(fault),
            _ => None,
        });
        assert_eq!(
            plain(&unreachable(&"web02".into(), &fault.unwrap())),
            [
                "! web02  UNREACHABLE  the host key has changed",
                "    --> /home/ada/.ssh/known_hosts:12:1",
                "    SHA256:AAAA is known, SHA256:BBBB was shown",
                "    help: If you know why, run: ssh-keygen -R web02",
            ]
        );
    }
}
