//! Certificates of host keys (OpenSSH's PROTOCOL.certkeys). They are taken apart here, since the parser of the crate
//! that knows keys refuses those that are valid forever, as most are.

use signature::Verifier;
use ssh_key::{PublicKey, Signature};

use crate::transport::known_hosts::lines::matches_exactly;

/// A certificate's `type` where it is for a host.
const FOR_A_HOST: u32 = 2;

/// A certificate that a host showed. Nothing in it is to be believed but by [`Certificate::vouches_for`].
pub(super) struct Certificate {
    /// What was signed.
    signed: Vec<u8>,
    signature: Vec<u8>,
    /// The key that signed it, as ssh sends it.
    pub(super) authority: Vec<u8>,
    purpose: u32,
    /// Patterns of the names of those for whom it is.
    principals: Vec<Vec<u8>>,
    /// In seconds since 1970.
    valid_from_s: u64,
    valid_until_s: u64,
    has_critical_options: bool,
}

impl Certificate {
    /// Takes one apart, and gives its plain key as ssh would send that; `None` where it is none, or malformed.
    pub(super) fn parse(shown: &[u8]) -> Option<(Vec<u8>, Self)> {
        let mut rest = Fields(shown);
        let kind = std::str::from_utf8(rest.string()?).ok()?.strip_suffix("-cert-v01@openssh.com")?;
        let _nonce = rest.string()?;
        // The fields of the key itself: a point; a curve and a point; an exponent and a modulus.
        let fields = if kind == "ssh-ed25519" { 1 } else { 2 };
        let before = rest.0;
        for _ in 0..fields {
            rest.string()?;
        }
        let key = &before[..before.len() - rest.0.len()];
        let length = u32::try_from(kind.len()).ok()?;
        let plain = [&length.to_be_bytes(), kind.as_bytes(), key].concat();

        let _serial = rest.u64()?;
        let purpose = rest.u32()?;
        let _id = rest.string()?;
        let principals = Fields(rest.string()?).strings()?;
        let (valid_from_s, valid_until_s) = (rest.u64()?, rest.u64()?);
        let has_critical_options = !rest.string()?.is_empty();
        let _extensions = rest.string()?;
        let _reserved = rest.string()?;
        let authority = rest.string()?.to_vec();
        let signed = shown[..shown.len() - rest.0.len()].to_vec();
        let signature = rest.string()?.to_vec();
        let is_whole = rest.0.is_empty();
        let certificate = Certificate {
            signed,
            signature,
            authority,
            purpose,
            principals,
            valid_from_s,
            valid_until_s,
            has_critical_options,
        };
        is_whole.then_some((plain, certificate))
    }

    /// Whether it vouches for a host, given in lower case, at a moment in seconds since 1970. The authority itself is
    /// not judged. An error says why not.
    pub(super) fn vouches_for(&self, host: &str, now_s: u64) -> Result<(), &'static str> {
        let named = |principal: &Vec<u8>| matches_exactly(principal, host.as_bytes());
        if !self.is_signed() {
            return Err("its authority's signature cannot be verified");
        }
        if self.purpose != FOR_A_HOST {
            return Err("it is not for a host");
        }
        if now_s < self.valid_from_s {
            return Err("it is not valid yet");
        }
        if now_s >= self.valid_until_s {
            return Err("it has expired");
        }
        // Both as OpenSSH has it from 10.3 on. Before, such a one was for every host (CVE-2024-7594).
        if self.principals.is_empty() {
            return Err("it names no host; sign the key again with `ssh-keygen -h -n HOST`");
        }
        if !self.principals.iter().any(named) {
            return Err("it is for another host");
        }
        if self.has_critical_options {
            return Err("it has critical options, and none is known");
        }
        Ok(())
    }

    /// Whether the authority has signed it; not by SHA-1, which is not taken any more.
    fn is_signed(&self) -> bool {
        let Ok(authority) = PublicKey::from_bytes(&self.authority) else { return false };
        let Ok(signature) = Signature::try_from(self.signature.as_slice()) else { return false };
        authority.key_data().verify(&self.signed, &signature).is_ok()
    }
}

/// Fields as ssh writes them (RFC 4251, 5).
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*bytes))
    }

    fn u64(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*bytes))
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn strings(mut self) -> Option<Vec<Vec<u8>>> {
        let mut strings = Vec::new();
        while !self.0.is_empty() {
            strings.push(self.string()?.to_vec());
        }
        Some(strings)
    }
}

#[cfg(test)]
mod tests {
    use base64ct::{Base64, Encoding};

    use super::*;

    /// An Ed25519 host key, signed by another for `web1` and `web2`, forever (made by ssh-keygen).
    const SHOWN: &str = "AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAIJFLn9FA1OkEr4v/zXzv4TYOVNeYc4NIkHqJRjmGF6RbAAAA\
        IIMJzHZeMboGsJaQwa0SK45n8TTosUvBKUA580Q/+/HOAAAAAAAAAAAAAAACAAAABmEgaG9zdAAAABAAAAAEd2ViMQAAAAR3ZWIy\
        AAAAAAAAAAD//////////wAAAAAAAAAAAAAAAAAAADMAAAALc3NoLWVkMjU1MTkAAAAgycCGaokSmJ5dkzZjNiVQJbJF3FhnavEJ\
        R4GZFlNtr/0AAABTAAAAC3NzaC1lZDI1NTE5AAAAQMCqEalNHnr6D2BwOH4bd842dPkXYAgJ96f2Khtd3gVDw6eaMv2XQeEddGRO\
        OWW2TcRH13WxBivB8Av8+XPXcgI=";
    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIMJzHZeMboGsJaQwa0SK45n8TTosUvBKUA580Q/+/HO";

    fn shown() -> Vec<u8> {
        Base64::decode_vec(SHOWN).unwrap()
    }

    fn verdict(bytes: &[u8], host: &str) -> Option<Result<(), &'static str>> {
        Some(Certificate::parse(bytes)?.1.vouches_for(host, 1_800_000_000))
    }

    #[test]
    fn a_certificate_vouches_for_its_hosts() {
        let (plain, _) = Certificate::parse(&shown()).unwrap();
        assert_eq!(plain, PublicKey::from_openssh(KEY).unwrap().to_bytes().unwrap());
        assert_eq!(verdict(&shown(), "web2"), Some(Ok(())));
        assert_eq!(verdict(&shown(), "web3"), Some(Err("it is for another host")));
    }

    #[test]
    fn no_byte_of_it_can_be_changed() {
        for at in 0..shown().len() {
            let mut bytes = shown();
            bytes[at] ^= 1;
            assert!(!matches!(verdict(&bytes, "web1"), Some(Ok(()))), "byte {at}");
        }
    }

    #[test]
    fn it_cannot_be_cut_or_prolonged() {
        for length in 0..shown().len() {
            assert!(Certificate::parse(&shown()[..length]).is_none(), "{length} bytes");
        }
        assert!(Certificate::parse(&[shown(), vec![0]].concat()).is_none());
    }
}
