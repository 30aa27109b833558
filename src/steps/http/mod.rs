//! `http`: asks a web server.

mod body;
mod plain;
mod tool;
mod url;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    base::Fault,
    resources::{Halt, View},
    steps::{
        Decision, Desk, Kind,
        fields::{OneOrMore, Span, Word, refuse_secret},
        lines::{compile, is_in},
        yes,
    },
};

use url::Url;

/// Asks a web server from the host, and fails unless it answers as expected. It is a look: it changes nothing, so only
/// GET and HEAD are offered.
///
/// The host itself asks: plain http without any tool, https by the host's `curl` or `wget`. A redirect is not followed;
/// its status is what counts. Where a service needs time to start, give the step a `retry`.
///
/// In a plan it is asked only while no earlier step of the plan would change anything; else it is checked when the plan
/// is applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "controller", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// What to ask for: an http or https address without user and password.
    pub url: String,
    /// How to ask: GET or HEAD. Default: GET.
    #[serde(default)]
    pub method: Method,
    /// The status that is expected, or a list of them. Default: 200.
    #[serde(default = "ok")]
    pub status: OneOrMore<u16>,
    /// A regular expression that the body must match somewhere; `^` and `$` are the ends of a line. The first MiB of it is
    /// looked at (by https 64 KiB). Default: any body will do.
    #[serde(default)]
    pub matches: Option<String>,
    /// Further headers.
    #[serde(default)]
    pub headers: BTreeMap<String, Word>,
    /// How long one answer may take. Default: 10s.
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// Whether the server's certificate is checked. Default: true.
    #[serde(default = "yes")]
    pub validate_certs: bool,
}

/// How to ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "controller", derive(schemars::JsonSchema))]
pub enum Method {
    /// For the whole answer.
    #[default]
    #[serde(rename = "GET")]
    Get,
    /// For the answer without its body.
    #[serde(rename = "HEAD")]
    Head,
}

/// What a server answered.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    /// The body, or its beginning.
    body: Vec<u8>,
}

fn ok() -> OneOrMore<u16> {
    OneOrMore(vec![200])
}

fn timeout() -> Span {
    Span::seconds(10)
}

impl Kind for Http {
    const NAME: &'static str = "http";
    const EXAMPLE: &'static str = "\
- name: the site answers
  http: {url: \"http://localhost/health\", status: 200, matches: '\"status\": *\"up\"'}
  retry: {times: 10, delay: 1s}
";
    const SHORT: Option<&'static str> = Some("url");

    fn prepare(&mut self, desk: &mut dyn Desk) -> Result<(), Fault> {
        let url = Url::parse(&self.url).map_err(Fault::input)?;
        // By https the address may become an argument of wget.
        refuse_secret(desk, &self.url, "url", "hand it over in `headers`")?;
        for (name, Word(value)) in &self.headers {
            check_header(name, value).map_err(Fault::input)?;
        }
        if self.status.0.is_empty() || self.status.0.iter().any(|status| !(100..=599).contains(status)) {
            return Err(Fault::input("status must be numbers from 100 to 599"));
        }
        if self.timeout.ms == 0 {
            return Err(Fault::input("timeout must be more than 0"));
        }
        if !self.validate_certs && !url.tls {
            return Err(Fault::input("validate_certs goes with https only"));
        }
        self.matches.as_deref().map(|text| compile("matches", text)).transpose().map(drop).map_err(Fault::input)
    }

    fn want(&self, now: &mut dyn View) -> Result<Decision, Halt> {
        if now.planning() && now.staged() {
            return Err(Halt::Unknown("it is asked when the earlier steps are done".into()));
        }
        let url = Url::parse(&self.url).map_err(Halt::Failed)?;
        let asked = if url.tls { tool::ask(self, now) } else { plain::ask(self, &url, now) };
        let outcome = asked.and_then(|answer| self.judge(&answer));
        match outcome {
            Err(Halt::NotYet(message)) if now.planning() => Err(Halt::Unknown(format!("as things are: {message}"))),
            outcome => outcome,
        }
    }
}

impl Http {
    fn judge(&self, answer: &Answer) -> Result<Decision, Halt> {
        let OneOrMore(expected) = &self.status;
        if !expected.contains(&answer.status) {
            let expected: Vec<String> = expected.iter().map(u16::to_string).collect();
            let (url, status) = (&self.url, answer.status);
            return Err(Halt::NotYet(format!("{url} answers {status}, not {}", expected.join(" or "))));
        }
        if let Some(text) = &self.matches
            && !is_in("matches", text, &answer.body).map_err(Halt::Failed)?
        {
            return Err(Halt::NotYet(format!("{} answers, but its body does not match {text:?}", self.url)));
        }
        let mut decision = Decision::nothing().say(format!("{} answers {}", self.url, answer.status));
        decision.data.insert("status".into(), answer.status.into());
        Ok(decision)
    }

    fn method(&self) -> &'static str {
        match self.method {
            Method::Get => "GET",
            Method::Head => "HEAD",
        }
    }
}

/// A header that cannot end early or become another one.
fn check_header(name: &str, value: &str) -> Result<(), String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(format!("{name:?} is no header's name"));
    }
    if ["host", "connection", "content-length", "transfer-encoding"].contains(&name.to_ascii_lowercase().as_str()) {
        return Err(format!("the header {name} is set by Rollbook"));
    }
    if value.chars().any(|c| c.is_control() && c != '\t') || value.len() > 8192 {
        return Err(format!("the value of the header {name} is too long, or holds a control character"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Write},
        net::{TcpListener, TcpStream},
        thread,
    };

    use super::*;
    use crate::steps::fake::Fake;

    /// A server that answers one request with these bytes, and gives the request back.
    fn serve(answer: &'static str) -> (u16, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let request = request(&stream);
            (&stream).write_all(answer.as_bytes()).unwrap();
            request
        });
        (port, server)
    }

    fn request(stream: &TcpStream) -> String {
        let lines = BufReader::new(stream).lines().map(Result::unwrap);
        lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_server_is_asked_and_judged() {
        let ask = |answer, more: &str| {
            let (port, server) = serve(answer);
            let step = format!(r#"{{"url": "http://localhost:{port}/health?x=1"{more}}}"#);
            let judged = Fake::with(&[]).ask_step::<Http>(&step);
            (judged.map(drop), server.join().unwrap())
        };
        let (judged, request) = ask("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nup", r#", "headers": {"X-A": 1}"#);
        assert_eq!(judged, Ok(()));
        assert!(request.starts_with("GET /health?x=1 HTTP/1.1\nHost: localhost:"), "{request}");
        assert!(request.contains("\nX-A: 1"), "{request}");
        let (judged, _) = ask("HTTP/1.1 503 No\r\n\r\n", r#", "status": [200, 204]"#);
        assert!(judged.unwrap_err().message().contains("answers 503, not 200 or 204"));
        assert_eq!(ask("HTTP/1.1 200 OK\r\n\r\nup", r#", "matches": "^up$""#).0, Ok(()));
        assert_eq!(ask("HTTP/1.1 200 OK\r\n\r\nis:\nup\n", r#", "matches": "^up$""#).0, Ok(()));
        let (judged, _) = ask("HTTP/1.1 200 OK\r\n\r\ndown", r#", "matches": "up""#);
        assert!(matches!(judged, Err(Halt::NotYet(_))));
        let (judged, request) = ask("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", r#", "method": "HEAD""#);
        assert!(judged.is_ok() && request.starts_with("HEAD "));
    }

    #[test]
    fn a_server_that_never_ends_its_answer_costs_its_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(b"H").is_ok() {
                thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        let started = std::time::Instant::now();
        let step = format!(r#"{{"url": "http://127.0.0.1:{port}/", "timeout": "300ms"}}"#);
        let judged = Fake::with(&[]).ask_step::<Http>(&step).unwrap_err();
        assert!(judged.message().contains("within 300ms"), "{judged}");
        assert!(started.elapsed() < std::time::Duration::from_secs(5));
        server.join().unwrap();
    }

    #[test]
    fn https_needs_a_tool_of_the_host() {
        let mut fake = Fake::with(&[]);
        let failed = fake.ask_step::<Http>(r#"{"url": "https://a/"}"#).unwrap_err();
        assert!(failed.message().contains("curl or wget"));
        assert_eq!(fake.asked.len(), 2);
    }

    #[test]
    fn headers_cannot_become_others() {
        for fields in [
            r#"{"url": "http://a/", "headers": {"X": "a\r\nY: b"}}"#,
            r#"{"url": "http://a/", "headers": {"X Y": "a"}}"#,
            r#"{"url": "http://a/", "headers": {"host": "a"}}"#,
            r#"{"url": "http://a/", "status": 42}"#,
            r#"{"url": "http://a/", "timeout": 0}"#,
            r#"{"url": "http://a/", "validate_certs": false}"#,
            r#"{"url": "http://a/", "matches": "("}"#,
        ] {
            assert!(matches!(Fake::with(&[]).ask_step::<Http>(fields), Err(Halt::Failed(_))), "{fields}");
        }
    }
}
