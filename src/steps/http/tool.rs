//! https, asked by the host's `curl` or `wget`. The agent carries no TLS: the host's own tool trusts what the host
//! trusts.

use super::{Answer, Http, Method};
use crate::{
    model::{change::CommandSpec, event::Output},
    resources::{Halt, View},
    steps::fields::Word,
};

pub(super) fn ask(http: &Http, view: &mut dyn View) -> Result<Answer, Halt> {
    match view.ask(&curl(http)) {
        Ok(output) => return read_curl(http, &output),
        Err(Halt::Failed(_)) => {}
        Err(halt) => return Err(halt),
    }
    if !http.headers.is_empty() {
        return Err(Halt::Failed("https with headers needs curl on the host, which cannot be started there".into()));
    }
    match view.ask(&wget(http)) {
        Ok(output) => read_wget(http, &output),
        Err(Halt::Failed(_)) => {
            Err(Halt::Failed("https needs curl or wget on the host; neither of them can be started there".into()))
        }
        Err(halt) => Err(halt),
    }
}

/// `curl` reads address and headers from its standard input: they may be sensitive, and arguments are seen by all.
fn curl(http: &Http) -> CommandSpec {
    let mut lines = vec![
        format!("url = {}", quoted(&http.url)),
        format!("max-time = {}.{:03}", http.timeout.ms / 1000, http.timeout.ms % 1000),
        "silent\nshow-error\ngloboff\nproto = \"=https\"\noutput = \"-\"".to_owned(),
        "write-out = \"\\n%{http_code}\"".to_owned(),
        "user-agent = \"rollbook\"".to_owned(),
    ];
    if http.method == Method::Head {
        lines.push("head".into());
    }
    if !http.validate_certs {
        lines.push("insecure".into());
    }
    for (name, Word(value)) in &http.headers {
        lines.push(format!("header = {}", quoted(&format!("{name}: {value}"))));
    }
    let argv = ["curl", "--disable", "--config", "-"].map(str::to_owned).to_vec();
    CommandSpec { argv, stdin: Some(lines.join("\n") + "\n"), timeout_s: limit_s(http), ..Default::default() }
}

/// A text in the quotes of curl's configuration files.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\t', "\\t"))
}

fn read_curl(http: &Http, output: &Output) -> Result<Answer, Halt> {
    // Its first line is the reason; advice follows.
    let reason = output.stderr.text.lines().next().unwrap_or("it gave no reason");
    let unanswered = || Halt::NotYet(format!("{} does not answer: {reason}", http.url));
    if !output.succeeded() {
        return Err(unanswered());
    }
    let (body, status) = output.stdout.text.rsplit_once('\n').ok_or_else(unanswered)?;
    let status = status.parse().map_err(|_| unanswered())?;
    Ok(Answer { status, body: body.as_bytes().to_vec() })
}

/// Only options that GNU's and busybox's `wget` have in common.
fn wget(http: &Http) -> CommandSpec {
    let seconds = http.timeout.ms.div_ceil(1000).to_string();
    let mut argv: Vec<String> = ["wget", "-q", "-S", "-O", "-", "-T", &seconds].map(str::to_owned).to_vec();
    if http.method == Method::Head {
        argv.push("--spider".into());
    }
    if !http.validate_certs {
        argv.push("--no-check-certificate".into());
    }
    argv.push(http.url.clone());
    CommandSpec { argv, timeout_s: limit_s(http), ..Default::default() }
}

/// The first status line that `-S` shows is the answer to our own request; what follows are redirects.
fn read_wget(http: &Http, output: &Output) -> Result<Answer, Halt> {
    let status = output.stderr.text.lines().find_map(|line| {
        let rest = line.trim_start().strip_prefix("HTTP/")?;
        rest.split_whitespace().nth(1)?.parse().ok()
    });
    match status {
        Some(status) => Ok(Answer { status, body: output.stdout.text.as_bytes().to_vec() }),
        None => Err(Halt::NotYet(format!("{} does not answer: {}", http.url, last_line(&output.stderr.text)))),
    }
}

/// A tool that does not keep its own time is ended a little later.
fn limit_s(http: &Http) -> Option<u64> {
    Some(http.timeout.ms.div_ceil(1000) + 2)
}

fn last_line(text: &str) -> &str {
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it gave no reason").trim()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::Capped;

    fn http(json: &str) -> Http {
        serde_json::from_str(json).unwrap()
    }

    fn printed(stdout: &str, stderr: &str, code: i32) -> Output {
        let capped = |text: &str| Capped { text: text.into(), bytes: text.len() as u64, cut: false };
        Output { code: Some(code), stdout: capped(stdout), stderr: capped(stderr), ..Default::default() }
    }

    #[test]
    fn nothing_sensitive_is_an_argument_of_curl() {
        let step = http(r#"{"url": "https://a/?t=1", "headers": {"X-Key": "a\"b\\c"}, "validate_certs": false}"#);
        let command = curl(&step);
        assert_eq!(command.argv, ["curl", "--disable", "--config", "-"]);
        let stdin = command.stdin.unwrap();
        assert!(stdin.contains(r#"header = "X-Key: a\"b\\c""#) && stdin.contains("\ninsecure\n"), "{stdin}");
    }

    #[test]
    fn answers_of_both_tools_are_read() {
        let step = http(r#"{"url": "https://a/"}"#);
        let body = |text: &str| text.as_bytes().to_vec();
        assert_eq!(read_curl(&step, &printed("hi\n\n404", "", 0)), Ok(Answer { status: 404, body: body("hi\n") }));
        let refused = read_curl(&step, &printed("\n000", "curl: (7) refused\nMore: advice\n", 7)).unwrap_err();
        assert_eq!(refused, Halt::NotYet("https://a/ does not answer: curl: (7) refused".into()));
        let told = "  HTTP/1.1 301 Moved\n  Location: /x\n  HTTP/1.1 200 OK\n";
        assert_eq!(read_wget(&step, &printed("hi", told, 0)), Ok(Answer { status: 301, body: body("hi") }));
        assert!(read_wget(&step, &printed("", "wget: bad address 'a'\n", 1)).is_err());
    }
}
