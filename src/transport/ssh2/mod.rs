//! `ssh2`: libssh2, without a program in between. One task per host owns the session and moves its bytes.

mod dial;
mod lane;
mod login;
mod pump;
mod watch;
mod wire;

use std::{
    env, fs,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::{Instant, timeout};

use crate::{
    base::{Fault, FaultKind},
    model::inventory::Host,
    transport::{
        Settings,
        channel::Channel,
        known_hosts::{self, HostKey, SSH_PORT, Shown},
        patience::Patience,
        unreachable,
    },
};

pub(super) use watch::Watch;

use pump::Pump;
use wire::{Trouble, Wire};

/// How long a goodbye is waited for.
const GOODBYE: Duration = Duration::from_secs(2);

/// A host that has proved who it is and let us in.
pub(super) struct Session {
    pub(super) address: String,
    pub(super) host_key: String,
    pump: Pump,
}

impl Session {
    /// Runs a command line as the login shell reads it; it must have been started within `limit`.
    pub(super) async fn run(&mut self, line: &str, limit: Duration) -> Result<Channel, Fault> {
        let late = |_| unreachable(format!("the target did not start a command within {} s", limit.as_secs()));
        timeout(limit, self.pump.run(line)).await.map_err(late)?
    }

    /// Says goodbye.
    pub(super) async fn close(self) {
        self.pump.end(GOODBYE).await;
    }
}

/// Whom to reach.
struct Target<'a> {
    host: &'a Host,
    settings: &'a Settings,
    name: &'a str,
    port: u16,
    user: String,
    files: Vec<PathBuf>,
    until: Instant,
}

/// Connects, checks the host key, and logs in.
pub(super) async fn connect(host: &Host, settings: &Settings) -> Result<Session, Fault> {
    let target = Target {
        host,
        settings,
        name: host.connection.address.as_deref().unwrap_or(host.name.as_str()),
        port: host.connection.port.unwrap_or(SSH_PORT),
        user: user(host)?,
        files: known_files(host),
        until: Instant::now() + settings.connect_timeout,
    };
    let addresses = dial::resolve(target.name, target.port, target.until).await?;
    let _turn = settings.shared.turn(addresses[0]).await;
    // Waiting for a turn is not the host's fault.
    let target = Target { until: Instant::now() + settings.connect_timeout, ..target };
    target.keep_trying(&addresses).await
}

/// Whether another try may help.
enum Try {
    Again(Fault),
    /// There was no time left for it.
    Late(Fault),
    Over(Fault),
}

impl From<Fault> for Try {
    fn from(fault: Fault) -> Self {
        Try::Over(fault)
    }
}

impl Target<'_> {
    async fn keep_trying(&self, addresses: &[SocketAddr]) -> Result<Session, Fault> {
        let mut patience = Patience::until(self.until);
        let mut hung_up = None;
        loop {
            match self.try_once(addresses).await {
                Err(Try::Again(fault)) => {
                    tracing::debug!(host = %self.host.name, %fault, "hung up");
                    if !patience.another_try().await {
                        return Err(fault);
                    }
                    hung_up = Some(fault);
                }
                // What came of a try that had time tells more.
                Err(Try::Late(fault)) => return Err(hung_up.unwrap_or(fault)),
                Err(Try::Over(fault)) => return Err(fault),
                Ok(session) => return Ok(session),
            }
        }
    }

    async fn try_once(&self, addresses: &[SocketAddr]) -> Result<Session, Try> {
        let opened = dial::open(addresses, self.until).await;
        let (stream, address) = opened.map_err(|fault| match Instant::now() < self.until {
            true => Try::Over(fault),
            false => Try::Late(fault),
        })?;
        let known = self.settings.shared.known_hosts.about(&self.files, self.name, self.port);
        let wanted = wire::host_keys(&known.algorithms(), known.is_about_certificates());
        let mut wire = Wire::new(stream, &wanted, self.until, &self.settings.shared.watch)?;
        if let Err(trouble) = wire.handshake().await {
            return Err(no_handshake(&wire, address, &trouble));
        }
        let key = wire.host_key().and_then(HostKey::parse);
        let key = key.ok_or_else(|| unreachable(format!("{address} shows no host key that is understood")))?;
        let fingerprint = key.fingerprint();
        let file = self.files.first().map(|file| file.to_string_lossy().into_owned()).unwrap_or_default();
        let shown = Shown { host: self.name, port: self.port, kind: key.kind, fingerprint: &fingerprint, file: &file };
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
        if let Some(fault) = known_hosts::refusal(&known.judge(&key, now_s), &shown) {
            return Err(Try::Over(fault));
        }
        login::login(&mut wire, self.host, self.settings, &self.user, &address.to_string()).await?;
        let pump = Pump::start(wire, self.settings.silence_timeout);
        Ok(Session { address: address.to_string(), host_key: fingerprint, pump })
    }
}

/// What a handshake that failed means.
fn no_handshake(wire: &Wire, address: SocketAddr, trouble: &Trouble) -> Try {
    let fault = match (trouble, wire.banner()) {
        (_, Some(said)) if !said.starts_with("SSH-") && !is_busy(&said) => {
            return unreachable(format!("{address} is no ssh server: it said {said:.60?}")).into();
        }
        (Trouble::Late, _) => unreachable(format!("{address} did not finish the ssh handshake in time"))
            .hint("a host that hangs, or something in between that swallows what is sent, does this"),
        (Trouble::Flood, _) => unreachable(format!("{address} sent without end instead of an ssh handshake")),
        (Trouble::Ssh(error), _) => unreachable(format!("{address} broke off the ssh handshake"))
            .because(error)
            .hint("a busy sshd does this (`MaxStartups`), and one that has banned this address (`PerSourcePenalties`)"),
    };
    match trouble {
        Trouble::Late => Try::Late(fault),
        _ if trouble.is_hang_up() => Try::Again(fault),
        _ => Try::Over(fault),
    }
}

/// What sshd says before it hangs up on too many at once.
fn is_busy(said: &str) -> bool {
    said.contains("MaxStartups") || said.contains("Not allowed at this time")
}

/// Who logs in: the user that the inventory names, or the one who runs us.
fn user(host: &Host) -> Result<String, Fault> {
    if let Some(user) = &host.connection.user {
        return Ok(user.clone());
    }
    let named = ["USER", "LOGNAME"].into_iter().find_map(|name| env::var(name).ok().filter(|user| !user.is_empty()));
    named.or_else(own_name).ok_or_else(|| {
        Fault::new(FaultKind::Input, "it is not known as whom to log in").hint("set `user` in the inventory")
    })
}

/// The name of the user who runs us, by /etc/passwd.
fn own_name() -> Option<String> {
    let id = rustix::process::geteuid().as_raw().to_string();
    let accounts = fs::read_to_string("/etc/passwd").ok()?;
    let mut fields = accounts.lines().map(|line| line.split(':'));
    fields.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)? == id).then(|| name.to_owned())
    })
}

fn known_files(host: &Host) -> Vec<PathBuf> {
    match &host.connection.known_hosts {
        Some(files) => files.iter().map(|file| expand_home(file)).collect(),
        None => known_hosts::default_files(),
    }
}

/// A path as ssh_config would have it: `~/` is the home directory.
fn expand_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}
