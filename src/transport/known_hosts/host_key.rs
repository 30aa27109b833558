//! The key that a host shows: a plain one, or a certificate that vouches for one.

use base64ct::{Base64Unpadded, Encoding};
use ssh_key::{Algorithm, PublicKey};

use super::certificate::Certificate;
use crate::base::Digest;

/// A host's key.
pub struct HostKey {
    /// The plain key, as ssh sends it.
    pub(super) plain: Vec<u8>,
    /// Its type by ssh-keyscan's word: `ed25519`, `ecdsa`, `rsa`.
    pub kind: &'static str,
    /// What vouches for it.
    pub(super) certificate: Option<Certificate>,
}

impl HostKey {
    /// Takes apart what a host showed; `None` where it is no key that is understood.
    pub fn parse(shown: &[u8]) -> Option<Self> {
        let (plain, certificate) = match Certificate::parse(shown) {
            Some((plain, certificate)) => (plain, Some(certificate)),
            None => (shown.to_vec(), None),
        };
        let kind = kind(&PublicKey::from_bytes(&plain).ok()?.algorithm())?;
        Some(HostKey { plain, kind, certificate })
    }

    /// `SHA256:…`, as `ssh-keygen -l` shows it; of a certificate, that of its key.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", Base64Unpadded::encode_string(&Digest::of(&self.plain).0))
    }
}

fn kind(algorithm: &Algorithm) -> Option<&'static str> {
    match algorithm {
        Algorithm::Ed25519 => Some("ed25519"),
        Algorithm::Ecdsa { .. } => Some("ecdsa"),
        Algorithm::Rsa { .. } => Some("rsa"),
        _ => None,
    }
}
