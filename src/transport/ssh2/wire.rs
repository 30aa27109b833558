//! A libssh2 session on a socket of tokio's: an operation that would block waits for what the session says it waits
//! for, and is tried again.

use std::{fmt, io::ErrorKind, sync::Arc, task::Context};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::sockopt::set_tcp_quickack,
};
use ssh2::{BlockDirections, Error, ErrorCode, MethodType, Session};
use tokio::{
    io::Interest,
    net::TcpStream,
    time::{Instant, timeout_at},
};

use crate::{
    base::Fault,
    transport::ssh2::watch::{Watch, Watched},
};

/// libssh2's "would block".
const AGAIN: ErrorCode = ErrorCode::Session(-37);

/// Key exchanges, the cheap and safe first. Those that the library does not know are left out.
const KEY_EXCHANGES: &str = "mlkem768x25519-sha256,curve25519-sha256,curve25519-sha256@libssh.org,\
    ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521,diffie-hellman-group-exchange-sha256,\
    diffie-hellman-group16-sha512,diffie-hellman-group18-sha512,diffie-hellman-group14-sha256";

/// Ciphers likewise.
const CIPHERS: &str = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,\
    aes256-ctr,aes192-ctr,aes128-ctr";

/// Host key algorithms likewise, in the order of the system's ssh.
const HOST_KEYS: &str = "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,\
    rsa-sha2-512,rsa-sha2-256";

/// What goes wrong on a line.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It took too long.
    Late,
    /// The peer sent without end, and was cut off.
    Flood,
    /// libssh2 says so.
    Ssh(Error),
}

impl Trouble {
    /// Whether this is how a connection ends that the other side hung up: socket errors, and an end in the middle.
    pub(super) fn is_hang_up(&self) -> bool {
        matches!(self, Trouble::Ssh(error) if matches!(error.code(), ErrorCode::Session(-2 | -7 | -13 | -43)))
    }

    /// Whether the line is still of use after it: a login that was refused is no trouble of the line.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Trouble::Ssh(_)) && !self.is_hang_up()
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Late => f.write_str("it took too long"),
            Trouble::Flood => f.write_str("it sent without end"),
            Trouble::Ssh(error) => f.write_str(error.message()),
        }
    }
}

impl std::error::Error for Trouble {}

/// A session and its socket.
pub(super) struct Wire {
    session: Session,
    socket: Arc<TcpStream>,
    watched: Arc<Watched>,
    /// When connecting and logging in must be done.
    pub(super) until: Instant,
}

impl Wire {
    /// A session on a connected socket. The host will be asked for a key of one of the algorithms in `host_keys`.
    pub(super) fn new(socket: TcpStream, host_keys: &str, until: Instant, watch: &Watch) -> Result<Self, Fault> {
        let _slower_without = socket.set_nodelay(true);
        let socket = Arc::new(socket);
        let mut session = Session::new().map_err(|error| Fault::internal("libssh2 cannot start").because(&error))?;
        session.set_tcp_stream(Arc::clone(&socket));
        session.set_blocking(false);
        prefer(&session, MethodType::Kex, KEY_EXCHANGES)?;
        prefer(&session, MethodType::CryptCs, CIPHERS)?;
        prefer(&session, MethodType::CryptSc, CIPHERS)?;
        prefer(&session, MethodType::HostKey, host_keys)?;
        let watched = watch.over(Arc::clone(&socket));
        Ok(Wire { session, socket, watched, until })
    }

    /// Shakes hands.
    pub(super) async fn handshake(&mut self) -> Result<(), Trouble> {
        let mut session = self.session.clone();
        self.wait_for(move || session.handshake()).await
    }

    /// What the peer said first; what is no version of ssh's protocol came from no ssh server.
    pub(super) fn banner(&self) -> Option<String> {
        self.session.banner_bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// The host's key as ssh sends it.
    pub(super) fn host_key(&self) -> Option<&[u8]> {
        self.session.host_key().map(|(key, _)| key)
    }

    /// The session, for operations that [`Wire::wait_for`] drives.
    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// Tries an operation once; `None` where it would block.
    pub(super) fn attempt<T>(&self, operation: impl FnOnce() -> Result<T, Error>) -> Option<Result<T, Trouble>> {
        match self.watched.call(operation) {
            Ok(value) => Some(Ok(value)),
            Err(error) if error.code() == AGAIN => None,
            Err(_) if self.watched.is_cut() => Some(Err(Trouble::Flood)),
            Err(error) => Some(Err(Trouble::Ssh(error))),
        }
    }

    /// Tries an operation until it no longer would block, or it is too late.
    pub(super) async fn wait_for<T>(&self, mut operation: impl FnMut() -> Result<T, Error>) -> Result<T, Trouble> {
        loop {
            match self.attempt(&mut operation) {
                Some(done) => return done,
                None => self.wait().await?,
            }
        }
    }

    /// Waits until an operation that would block is worth another try, or it is too late.
    pub(super) async fn wait(&self) -> Result<(), Trouble> {
        timeout_at(self.until, self.ready()).await.map_err(|_| Trouble::Late)
    }

    /// Waits until the socket is ready for what the session waits for. Whoever waits tries everything again after
    /// it: the readiness is taken away here, before the try.
    async fn ready(&self) {
        let outbound = self.is_outbound();
        tokio::select! {
            _ = self.socket.readable(), if self.is_inbound() => {
                self.take_readiness(Interest::READABLE);
                self.acknowledge();
            }
            _ = self.socket.writable(), if outbound => self.take_readiness(Interest::WRITABLE),
        }
    }

    /// Whether something came since it was last asked. If not, the task is woken when something comes.
    pub(super) fn has_come(&self, context: &mut Context<'_>) -> bool {
        let mut came = false;
        while self.socket.poll_read_ready(context).is_ready() {
            self.take_readiness(Interest::READABLE);
            came = true;
        }
        came
    }

    /// Acknowledges at once what has come. The kernel would hold that back for 40 ms, and a server that has more to say
    /// waits for it.
    pub(super) fn acknowledge(&self) {
        let _slower_without = set_tcp_quickack(&*self.socket, true);
    }

    /// Registers to be woken when something can be sent.
    pub(super) fn wake_for_room(&self, context: &mut Context<'_>) {
        while self.socket.poll_write_ready(context).is_ready() {
            self.take_readiness(Interest::WRITABLE);
        }
    }

    /// Whether something small can be sent at once. The kernel is asked: tokio's readiness is only good for waiting.
    pub(super) fn has_room(&self) -> bool {
        self.is_ready_for(PollFlags::OUT)
    }

    /// Whether there is something to read, by the kernel's word too.
    pub(super) fn holds_something(&self) -> bool {
        self.is_ready_for(PollFlags::IN)
    }

    fn is_ready_for(&self, what: PollFlags) -> bool {
        let mut asked = [PollFd::new(&*self.socket, what)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut asked, Some(&now)).is_ok_and(|ready| ready == 1)
    }

    fn is_inbound(&self) -> bool {
        self.session.block_directions() != BlockDirections::Outbound
    }

    /// Whether the operation that would block has begun to send a packet. Until it is through, no other may send.
    pub(super) fn is_outbound(&self) -> bool {
        matches!(self.session.block_directions(), BlockDirections::Outbound | BlockDirections::Both)
    }

    fn take_readiness(&self, interest: Interest) {
        let taken: std::io::Result<()> = self.socket.try_io(interest, || Err(ErrorKind::WouldBlock.into()));
        debug_assert!(taken.is_err());
    }
}

/// Puts the algorithms that the library knows in our order.
fn prefer(session: &Session, method: MethodType, wanted: &str) -> Result<(), Fault> {
    let broken = |error: Error| Fault::internal("libssh2 knows none of our algorithms").because(&error);
    let known = session.supported_algs(method).map_err(broken)?;
    let usable: Vec<&str> = wanted.split(',').filter(|name| known.contains(name)).collect();
    session.method_pref(method, &usable.join(",")).map_err(broken)
}

/// Host key algorithms: certificates, where they can tell anything; then those of known keys; then the rest.
pub(super) fn host_keys(known: &[&str], with_certificates: bool) -> String {
    let is_known =
        |name: &&str| known.iter().any(|known| known == name || (*known == "ssh-rsa" && name.starts_with("rsa-sha2")));
    let (first, rest): (Vec<&str>, Vec<&str>) = HOST_KEYS.split(',').partition(is_known);
    let certificates = if with_certificates { HOST_KEYS } else { "" }.split(',').filter(|name| !name.is_empty());
    let certificates = certificates.map(|name| format!("{name}-cert-v01@openssh.com"));
    certificates.chain([first, rest].concat().into_iter().map(str::to_owned)).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_keys_are_asked_for_first() {
        assert!(host_keys(&["ssh-rsa"], false).starts_with("rsa-sha2-512,rsa-sha2-256,ssh-ed25519"));
        assert_eq!(host_keys(&[], false), HOST_KEYS);
        assert!(host_keys(&[], true).starts_with("ssh-ed25519-cert-v01@openssh.com,"));
        assert!(host_keys(&[], true).ends_with(HOST_KEYS));
    }
}
