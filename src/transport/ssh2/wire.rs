//! A libssh2 session on a socket of tokio's: an operation that would block waits for what the session says it waits
//! for, and is tried again.

use std::{io::ErrorKind, os::fd::AsFd, path::Path};

use ssh2::{BlockDirections, Channel, Error, ErrorCode, HashType, HostKeyType, MethodType, Session};
use tokio::{io::Interest, net::TcpStream};

use crate::{base::Fault, transport::unreachable};

/// libssh2's "would block".
const AGAIN: ErrorCode = ErrorCode::Session(-37);

/// Key exchanges, the cheap and safe first. Those that the library does not know are left out.
const KEY_EXCHANGES: &str = "mlkem768x25519-sha256,curve25519-sha256,curve25519-sha256@libssh.org,\
    ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521,diffie-hellman-group-exchange-sha256,\
    diffie-hellman-group16-sha512,diffie-hellman-group18-sha512,diffie-hellman-group14-sha256";

/// Ciphers likewise.
const CIPHERS: &str = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,\
    aes256-ctr,aes192-ctr,aes128-ctr";

/// Host key algorithms likewise.
const HOST_KEYS: &str = "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,\
    rsa-sha2-512,rsa-sha2-256";

/// A session and its socket.
pub(super) struct Wire {
    session: Session,
    socket: TcpStream,
}

impl Wire {
    /// A session on a connected socket. The host will be asked first for a key of the algorithms in `known`.
    pub(super) fn new(socket: TcpStream, known: &[String]) -> Result<Self, Fault> {
        let _slower_without = socket.set_nodelay(true);
        // The session reads and writes by a descriptor of its own; readiness is told by tokio's.
        let descriptor = socket.as_fd().try_clone_to_owned();
        let descriptor = descriptor.map_err(|error| unreachable("the connection cannot be used").because(&error))?;
        let mut session = Session::new().map_err(|error| Fault::internal("libssh2 cannot start").because(&error))?;
        session.set_tcp_stream(descriptor);
        session.set_blocking(false);
        prefer(&session, MethodType::Kex, KEY_EXCHANGES)?;
        prefer(&session, MethodType::CryptCs, CIPHERS)?;
        prefer(&session, MethodType::CryptSc, CIPHERS)?;
        prefer(&session, MethodType::HostKey, &host_keys(known))?;
        Ok(Wire { session, socket })
    }

    /// Shakes hands.
    pub(super) async fn handshake(&mut self) -> Result<(), Error> {
        let mut session = self.session.clone();
        self.wait_for(move || session.handshake()).await
    }

    /// The host's key and the name of its type.
    pub(super) fn host_key(&self) -> Option<(Vec<u8>, String)> {
        let (blob, kind) = self.session.host_key()?;
        let kind = match kind {
            HostKeyType::Rsa => "RSA",
            HostKeyType::Dss => "DSA",
            HostKeyType::Ecdsa256 | HostKeyType::Ecdsa384 | HostKeyType::Ecdsa521 => "ECDSA",
            HostKeyType::Ed25519 => "ED25519",
            HostKeyType::Unknown => "unknown",
        };
        debug_assert!(self.session.host_key_hash(HashType::Sha256).is_some());
        Some((blob.to_vec(), kind.to_owned()))
    }

    /// The session, for operations that [`Wire::wait_for`] drives.
    pub(super) fn session(&self) -> Session {
        self.session.clone()
    }

    /// Tries an operation until it no longer would block.
    pub(super) async fn wait_for<T>(&self, mut operation: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        loop {
            match operation() {
                Err(error) if error.code() == AGAIN => self.ready().await,
                done => return done,
            }
        }
    }

    /// Waits until the socket is ready for what the session waits for. Whoever waits tries everything again after
    /// it: the readiness is taken away here, before the try.
    pub(super) async fn ready(&self) {
        let (inbound, outbound) = match self.session.block_directions() {
            BlockDirections::None | BlockDirections::Inbound => (true, false),
            BlockDirections::Outbound => (false, true),
            BlockDirections::Both => (true, true),
        };
        tokio::select! {
            _ = self.socket.readable(), if inbound => self.take_readiness(Interest::READABLE),
            _ = self.socket.writable(), if outbound => self.take_readiness(Interest::WRITABLE),
        }
    }

    fn take_readiness(&self, interest: Interest) {
        let taken: std::io::Result<()> = self.socket.try_io(interest, || Err(ErrorKind::WouldBlock.into()));
        debug_assert!(taken.is_err());
    }

    /// Opens a channel and starts a command line in it.
    pub(super) async fn exec(&self, line: &str) -> Result<Channel, Error> {
        let session = self.session();
        let mut channel = self.wait_for(|| session.channel_session()).await?;
        self.wait_for(|| channel.exec(line)).await?;
        Ok(channel)
    }

    /// Logs in with a key file.
    pub(super) async fn key_file(&self, user: &str, path: &Path, passphrase: Option<&str>) -> Result<(), Error> {
        self.wait_for(|| self.session.userauth_pubkey_file(user, None, path, passphrase)).await
    }
}

/// Whether an error is one that a busy server's hang-up gives.
pub(super) fn is_hang_up(error: &Error) -> bool {
    // Banner not received, socket errors, disconnects.
    matches!(error.code(), ErrorCode::Session(-2 | -4 | -5 | -7 | -8 | -13 | -43))
}

/// Puts the algorithms that the library knows in our order.
fn prefer(session: &Session, method: MethodType, wanted: &str) -> Result<(), Fault> {
    let broken = |error: Error| Fault::internal("libssh2 knows none of our algorithms").because(&error);
    let known = session.supported_algs(method).map_err(broken)?;
    let usable: Vec<&str> = wanted.split(',').filter(|name| known.contains(name)).collect();
    session.method_pref(method, &usable.join(",")).map_err(broken)
}

/// Host key algorithms, those of known keys first.
fn host_keys(known: &[String]) -> String {
    let is_known =
        |name: &&str| known.iter().any(|known| known == name || (known == "ssh-rsa" && name.starts_with("rsa-sha2")));
    let (first, rest): (Vec<&str>, Vec<&str>) = HOST_KEYS.split(',').partition(is_known);
    [first, rest].concat().join(",")
}
