//! Plain http, asked by the agent itself.

use std::{
    io::{self, BufReader, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use super::{Answer, Http, Method, body, url::Url};
use crate::{
    resources::{Halt, View},
    steps::{address, fields::Word},
};

pub(super) fn ask(http: &Http, url: &Url, view: &mut dyn View) -> Result<Answer, Halt> {
    let until = Instant::now() + Duration::from_millis(http.timeout.ms);
    let not_yet = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            Halt::NotYet(format!("{} does not answer within {}", http.url, http.timeout))
        }
        _ => Halt::NotYet(format!("{} does not answer: {error}", http.url)),
    };
    let addresses = address::find(view, &url.host, url.port)?;
    let stream = address::connect(&addresses, until).map_err(not_yet)?;
    exchange(stream, &request(http, url), http.method == Method::Head, until).map_err(not_yet)
}

fn request(http: &Http, url: &Url) -> String {
    let has = |name: &str| http.headers.keys().any(|key| key.eq_ignore_ascii_case(name));
    let mut text =
        format!("{} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", http.method(), url.target, url.authority);
    if !has("user-agent") {
        text.push_str("User-Agent: rollbook\r\n");
    }
    if !has("accept") {
        text.push_str("Accept: */*\r\n");
    }
    for (name, Word(value)) in &http.headers {
        text.extend([name, ": ", value, "\r\n"]);
    }
    text.push_str("\r\n");
    text
}

fn exchange(mut stream: TcpStream, request: &str, head_only: bool, until: Instant) -> io::Result<Answer> {
    stream.set_write_timeout(Some(left(until)?))?;
    stream.write_all(request.as_bytes())?;
    body::read(BufReader::new(Until { stream, until }), head_only)
}

/// A stream with one deadline for all reads together.
struct Until {
    stream: TcpStream,
    until: Instant,
}

impl Read for Until {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.until)?))?;
        self.stream.read(buffer)
    }
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}
