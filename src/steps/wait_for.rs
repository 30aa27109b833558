//! `wait_for`: waits for a port or a path.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::{
    base::Fault,
    model::state::PathState,
    resources::{Halt, View},
    steps::{
        Decision, Desk, Kind, Patience, address,
        fields::{AbsolutePath, Span},
        lines::{compile, is_in},
        paths::{Spot, exists},
    },
};

/// Waits, as seen from the host, until a TCP port takes connections (or no longer does), or until a path exists (or no
/// longer does). Changes nothing.
///
/// In a plan it looks once, and only while no earlier step of the plan would change anything; nothing is waited for.
///
/// Other than in Ansible there is no bare pause: a step always says what it waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "controller", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WaitFor {
    /// The TCP port. Either this or `path`.
    #[serde(default)]
    pub port: Option<u16>,
    /// Name or address of whose port it is. Default: 127.0.0.1, the host itself.
    #[serde(default)]
    pub host: Option<String>,
    /// The absolute path. Either this or `port`.
    #[serde(default)]
    pub path: Option<AbsolutePath>,
    /// A regular expression that the file at `path` must match somewhere; `^` and `$` are the ends of a line.
    #[serde(default)]
    pub search_regex: Option<String>,
    /// What to wait for. Default: started, the same as present.
    #[serde(default)]
    pub state: Awaited,
    /// How long to wait in all. Default: 300s.
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// How long to wait between two looks. Default: 1s.
    #[serde(default = "interval")]
    pub interval: Span,
    /// How long one connection may take to open. Default: 5s.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: Span,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "controller", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Awaited {
    /// The path does not exist; the port takes no connections.
    Absent,
    /// The path exists; the port takes connections.
    Present,
    /// The same as present.
    #[default]
    Started,
    /// The same as absent.
    Stopped,
}

fn timeout() -> Span {
    Span::seconds(300)
}

fn interval() -> Span {
    Span::seconds(1)
}

fn connect_timeout() -> Span {
    Span::seconds(5)
}

impl Kind for WaitFor {
    const NAME: &'static str = "wait_for";
    const EXAMPLE: &'static str = "\
- name: the database takes connections
  wait_for: {port: 5432, timeout: 60s}

- name: the old process has gone
  wait_for: {path: /run/app.pid, state: absent, timeout: 30s}
";

    fn prepare(&mut self, _desk: &mut dyn Desk) -> Result<(), Fault> {
        match (&self.port, &self.path) {
            (Some(0), _) => return Err(Fault::input("port must be from 1 to 65535")),
            (Some(_), None) | (None, Some(_)) => {}
            _ => return Err(Fault::input("wait_for needs either port or path")),
        }
        if self.path.is_some() && self.host.is_some() {
            return Err(Fault::input("host goes with port only"));
        }
        if self.search_regex.is_some() && (self.path.is_none() || !self.awaits_presence()) {
            return Err(Fault::input("search_regex goes with path, and with state: present only"));
        }
        let host = self.host.as_deref().unwrap_or("localhost");
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
        if host.is_empty() || host.starts_with('-') || !host.bytes().all(is_name) {
            return Err(Fault::input(format!("{host:?} is no host name or address")));
        }
        if self.interval.ms == 0 || self.connect_timeout.ms == 0 {
            return Err(Fault::input("interval and connect_timeout must be more than 0"));
        }
        let search = self.search_regex.as_deref().map(|text| compile("search_regex", text));
        search.transpose().map(drop).map_err(Fault::input)
    }

    fn want(&self, now: &mut dyn View) -> Result<Decision, Halt> {
        if now.planning() && now.staged() {
            return Err(Halt::Unknown("it is waited for when the earlier steps are done".into()));
        }
        let seen = match (&self.port, &self.path) {
            (Some(port), _) => self.look_at_port(now, *port),
            (None, Some(path)) => self.look_at_path(now, path),
            (None, None) => Err(Halt::Failed("neither port nor path was sent".into())),
        };
        match seen {
            Err(Halt::NotYet(message)) if now.planning() => {
                Err(Halt::Unknown(format!("as things are: {message}; it is waited for when the plan is applied")))
            }
            Err(halt) => Err(halt),
            Ok(message) => Ok(Decision::nothing().say(message)),
        }
    }

    fn patience(&self) -> Option<Patience> {
        Some(Patience { limit_ms: self.timeout.ms, interval_ms: self.interval.ms })
    }
}

impl WaitFor {
    fn awaits_presence(&self) -> bool {
        matches!(self.state, Awaited::Present | Awaited::Started)
    }

    fn look_at_port(&self, now: &mut dyn View, port: u16) -> Result<String, Halt> {
        let host = self.host.as_deref().unwrap_or("127.0.0.1");
        let until = Instant::now() + Duration::from_millis(self.connect_timeout.ms);
        let addresses = address::find(now, host, port)?;
        match (address::connect(&addresses, until), self.awaits_presence()) {
            (Ok(_), true) => Ok(format!("{host} port {port} takes connections")),
            (Ok(_), false) => Err(Halt::NotYet(format!("{host} port {port} still takes connections"))),
            (Err(_), false) => Ok(format!("{host} port {port} takes no connections")),
            (Err(error), true) => Err(Halt::NotYet(format!("{host} port {port} takes no connections: {error}"))),
        }
    }

    fn look_at_path(&self, now: &mut dyn View, path: &AbsolutePath) -> Result<String, Halt> {
        let name = path.as_str();
        match (exists(now, path)?, self.awaits_presence()) {
            (true, false) => Err(Halt::NotYet(format!("{name} still exists"))),
            (false, true) => Err(Halt::NotYet(format!("{name} does not exist"))),
            (false, false) => Ok(format!("{name} does not exist")),
            (true, true) => match &self.search_regex {
                None => Ok(format!("{name} exists")),
                Some(text) => self.search(now, path, text),
            },
        }
    }

    fn search(&self, now: &mut dyn View, path: &AbsolutePath, text: &str) -> Result<String, Halt> {
        let spot = Spot::find(now, path, true)?;
        let PathState::File { content, .. } = &spot.state else {
            return Err(Halt::NotYet(format!("{} is no file", spot.path)));
        };
        // A log is written to while it is read: that is no fault of its, and the next look will tell.
        let bytes = now.bytes(&spot.path, content).map_err(|halt| Halt::NotYet(halt.message().to_owned()))?;
        match is_in("search_regex", text, &bytes).map_err(Halt::Failed)? {
            true => Ok(format!("{} matches {text:?}", spot.path)),
            false => Err(Halt::NotYet(format!("{} does not match {text:?}", spot.path))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::fake::{Fake, meta};

    fn seen(fake: &mut Fake, fields: &str) -> Result<(), Halt> {
        fake.ask_step::<WaitFor>(fields).map(drop)
    }

    #[test]
    fn a_port_is_seen_to_open_and_close() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (open, closed) = (format!(r#"{{"port": {port}}}"#), format!(r#"{{"port": {port}, "state": "stopped"}}"#));
        let mut fake = Fake::with(&[]);
        assert_eq!(seen(&mut fake, &open), Ok(()));
        assert!(matches!(seen(&mut fake, &closed), Err(Halt::NotYet(_))));
        drop(listener);
        assert_eq!(seen(&mut fake, &closed), Ok(()));
        assert!(matches!(seen(&mut fake, &open), Err(Halt::NotYet(_))));
        fake.planning = true;
        assert!(matches!(seen(&mut fake, &open), Err(Halt::Unknown(_))));
    }

    #[test]
    fn a_path_is_seen_to_come_and_go() {
        let mut fake = Fake::with(&["/run/", "/run/pid"]);
        assert_eq!(seen(&mut fake, r#"{"path": "/run/pid"}"#), Ok(()));
        assert_eq!(seen(&mut fake, r#"{"path": "/run/pid", "search_regex": "p.d"}"#), Ok(()));
        assert!(matches!(seen(&mut fake, r#"{"path": "/run/pid", "search_regex": "x"}"#), Err(Halt::NotYet(_))));
        assert!(matches!(seen(&mut fake, r#"{"path": "/run/pid", "state": "absent"}"#), Err(Halt::NotYet(_))));
        assert_eq!(seen(&mut fake, r#"{"path": "/run/x", "state": "absent"}"#), Ok(()));
        let content = fake.put(b"begun\xff\r\nready\r\n".to_vec());
        fake.paths.insert("/run/log".into(), PathState::File { content, meta: meta(0o600) });
        for (regex, fits) in [("^ready$", true), ("^begun.$", true), ("^read$", false), ("^eady$", false)] {
            let look = seen(&mut fake, &format!(r#"{{"path": "/run/log", "search_regex": "{regex}"}}"#));
            assert_eq!(look.is_ok(), fits, "{regex}: {look:?}");
        }
        (fake.planning, fake.staged) = (true, true);
        assert!(matches!(seen(&mut fake, r#"{"path": "/run/pid"}"#), Err(Halt::Unknown(_))));
    }

    #[test]
    fn it_is_always_clear_what_is_waited_for() {
        for fields in [
            "{}",
            r#"{"port": 1, "path": "/x"}"#,
            r#"{"port": 0}"#,
            r#"{"path": "/x", "host": "a"}"#,
            r#"{"port": 1, "host": "-x"}"#,
            r#"{"port": 1, "search_regex": "x"}"#,
            r#"{"path": "/x", "search_regex": "x", "state": "absent"}"#,
            r#"{"port": 1, "interval": 0}"#,
        ] {
            assert!(matches!(seen(&mut Fake::with(&[]), fields), Err(Halt::Failed(_))), "{fields}");
        }
    }
}
