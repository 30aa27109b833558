//! `ssh2`: libssh2, without a program in between. One task per host owns the session and moves its bytes.

mod login;
mod pump;
mod wire;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use base64ct::{Base64Unpadded, Encoding};
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, sleep, timeout_at},
};

use crate::{
    base::{Digest, Fault},
    model::inventory::Host,
    transport::{
        Settings,
        channel::{Channel, LastWords},
        known_hosts, unreachable,
    },
};

use pump::Pump;
use wire::Wire;

/// The port that ssh listens on.
const SSH_PORT: u16 = 22;

/// Pauses between tries at a host that hangs up before it says who it is: a busy sshd (`MaxStartups`) does.
const RETRY_PAUSE: Duration = Duration::from_millis(150);

/// A host that has proved who it is and let us in.
pub(super) struct Session {
    pub(super) address: String,
    pub(super) host_key: String,
    pump: Pump,
}

/// Connects, checks the host key, and logs in.
pub(super) async fn connect(host: &Host, settings: &Settings) -> Result<Session, Fault> {
    let until = Instant::now() + settings.connect_timeout;
    let name = host.connection.address.as_deref().unwrap_or(host.name.as_str());
    let port = host.connection.port.unwrap_or(SSH_PORT);
    let addresses = resolve(name, port, until).await?;
    let _turn = settings.pacing.turn(addresses[0]).await;
    let mut pause = RETRY_PAUSE;
    loop {
        match try_connect(host, settings, name, port, &addresses, until).await {
            Err(Try::Again(fault)) if Instant::now() + pause < until => {
                tracing::debug!(host = %host.name, %fault, "trying again");
                sleep(jittered(pause)).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
            Err(Try::Again(fault) | Try::Over(fault)) => return Err(fault),
            Ok(session) => return Ok(session),
        }
    }
}

/// Whether another try may help.
enum Try {
    Again(Fault),
    Over(Fault),
}

async fn try_connect(
    host: &Host,
    settings: &Settings,
    name: &str,
    port: u16,
    addresses: &[SocketAddr],
    until: Instant,
) -> Result<Session, Try> {
    let (stream, address) = open(addresses, until).await.map_err(Try::Over)?;
    let files = known_files(host);
    let mut wire = Wire::new(stream, &known_hosts::algorithms(&files, name, port)).map_err(Try::Over)?;
    let greeted = timeout_at(until, wire.handshake()).await;
    greeted
        .map_err(|_| Try::Over(unreachable(format!("{address} did not answer as an ssh server in time"))))?
        .map_err(|error| {
            let fault = unreachable(format!("{address} broke off the ssh handshake")).because(&error);
            if wire::is_hang_up(&error) { Try::Again(fault) } else { Try::Over(fault) }
        })?;
    let (blob, kind) = wire.host_key().ok_or_else(|| Try::Over(unreachable(format!("{address} shows no host key"))))?;
    let fingerprint = fingerprint(&blob);
    let verdict = known_hosts::judge(&files, name, port, &blob);
    if let Some(fault) = known_hosts::refusal(&verdict, name, port, &kind, &fingerprint) {
        return Err(Try::Over(fault));
    }
    let logged_in = timeout_at(until, login::login(&mut wire, host, settings, &address.to_string())).await;
    logged_in
        .map_err(|_| Try::Over(unreachable(format!("{address} did not finish the login in time"))))?
        .map_err(Try::Over)?;
    let pump = Pump::start(wire, settings.silence_timeout);
    Ok(Session { address: address.to_string(), host_key: fingerprint, pump })
}

impl Session {
    /// Runs a command line as the login shell reads it.
    pub(super) async fn run(&mut self, line: &str) -> Result<(Channel, LastWords), Fault> {
        self.pump.run(line).await
    }
}

async fn resolve(name: &str, port: u16, until: Instant) -> Result<Vec<SocketAddr>, Fault> {
    let found = timeout_at(until, lookup_host((name, port))).await;
    let found = found.map_err(|_| unreachable(format!("the name {name} was not resolved in time")))?;
    let addresses: Vec<SocketAddr> =
        found.map_err(|error| unreachable(format!("the name {name} cannot be resolved")).because(&error))?.collect();
    if addresses.is_empty() {
        return Err(unreachable(format!("the name {name} has no address")));
    }
    Ok(addresses)
}

/// Connects to the first address that answers. Each has its share of the time that is left.
async fn open(addresses: &[SocketAddr], until: Instant) -> Result<(TcpStream, SocketAddr), Fault> {
    let mut fault = None;
    for (at, address) in addresses.iter().enumerate() {
        let left = until.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - at).unwrap_or(1);
        fault = Some(match timeout_at(Instant::now() + share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok((stream, *address)),
            Ok(Err(error)) => unreachable(format!("cannot connect to {address}")).because(&error),
            Err(_) => unreachable(format!("{address} does not answer within {share:.0?}")),
        });
    }
    Err(fault.expect("there is at least one address"))
}

fn known_files(host: &Host) -> Vec<PathBuf> {
    match &host.connection.known_hosts {
        Some(files) => files.iter().map(|file| expand_home(file)).collect(),
        None => known_hosts::default_files(),
    }
}

/// A path as ssh_config would have it: `~/` is the home directory.
fn expand_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}

fn fingerprint(blob: &[u8]) -> String {
    format!("SHA256:{}", Base64Unpadded::encode_string(&Digest::of(blob).0))
}

/// A pause that differs among hosts, so that those who were turned away together do not come back together.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0u8; 2];
    let _no_jitter_then = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    pause / 2 + pause * u32::from(u16::from_le_bytes(random)) / 65_536
}
