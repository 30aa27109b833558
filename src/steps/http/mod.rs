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
        lines::compile,
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
    /// A regular expression that the body must match somewhere. The first MiB of it is looked at (by https 64 KiB).
    /// Default: any body will do.
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
        refuse_secret(desk, &self.url, "url")?;
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
            && !compile("matches", text).map_err(Halt::Failed)?.is_match(&answer.body)
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
