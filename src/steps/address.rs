//! Names to addresses, and connections to them: what `http` and `wait_for` do alike.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use crate::{
    model::change::CommandSpec,
    resources::{Halt, View},
};

/// The addresses of a name, which are then spoken to: that takes its time. Names are looked up by the host's own `getent`: a static program cannot load what the host's
/// name service consists of.
pub(super) fn find(view: &mut dyn View, host: &str, port: u16) -> Result<Vec<SocketAddr>, Halt> {
    view.take_time();
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]);
    }
    let argv = ["getent", "ahosts", host].map(str::to_owned).to_vec();
    let asked = view.ask(&CommandSpec { argv, timeout_s: Some(20), ..Default::default() });
    let output = asked.map_err(|halt| match halt {
        Halt::Failed(reason) => {
            Halt::Failed(format!("{host} cannot be looked up ({reason}); write its address instead"))
        }
        halt => halt,
    })?;
    let mut found: Vec<SocketAddr> = Vec::new();
    for line in output.stdout.text.lines() {
        let address = line.split_whitespace().next().and_then(|word| word.parse::<IpAddr>().ok());
        let address = address.map(|address| SocketAddr::new(address, port));
        found.extend(address.filter(|address| !found.contains(address)));
    }
    if found.is_empty() { Err(Halt::NotYet(format!("{host} has no address"))) } else { Ok(found) }
}

/// A connection to the first address that takes one; the last one's error else.
pub(super) fn connect(addresses: &[SocketAddr], until: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::TimedOut);
    for (at, address) in addresses.iter().enumerate() {
        // An address that stays silent must not use up the time of those after it.
        let share = until.saturating_duration_since(Instant::now()) / (addresses.len() - at) as u32;
        if share < Duration::from_millis(1) {
            break;
        }
        match TcpStream::connect_timeout(address, share) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
