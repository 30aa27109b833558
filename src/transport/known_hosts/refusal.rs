//! What is told of a host key that is not trusted.

use super::{SSH_PORT, Verdict, lookup_name};
use crate::base::{Fault, FaultKind};

/// The key that a host showed, as it is told of.
pub struct Shown<'a> {
    /// The host, as the user names it.
    pub host: &'a str,
    /// The port.
    pub port: u16,
    /// The key's type by ssh-keyscan's word: `ed25519`, `ecdsa`, `rsa`.
    pub kind: &'a str,
    /// `SHA256:…`.
    pub fingerprint: &'a str,
    /// The file that a new host would be written to.
    pub file: &'a str,
}

/// What to tell of a key that is not trusted; `None` if it is.
pub fn refusal(verdict: &Verdict, shown: &Shown<'_>) -> Option<Fault> {
    let Shown { host, port, kind, fingerprint, file } = *shown;
    let refused = |message: String| Fault::new(FaultKind::Unreachable, message);
    let name = lookup_name(host, port);
    let key = format!("its {kind} key is {fingerprint}");
    match verdict {
        Verdict::Trusted => None,
        Verdict::Unknown(why) => Some(
            refused(match why {
                None => format!("the host key of {name} is not known; {key}"),
                Some(why) => {
                    format!("the host key of {name} is not known; {key}, and its certificate is of no use: {why}")
                }
            })
            .hint("compare that fingerprint with one that you got another way, such as on the host's console")
            .hint(format!("then trust it: {}", trusting(host, Some(port), Some(kind), file))),
        ),
        Verdict::Changed(place) => Some(
            refused(format!("THE HOST KEY OF {name} HAS CHANGED; {key}, and another one is known"))
                .at(place)
                .hint("somebody may be listening in, or the host was installed anew: find out which")
                .hint(format!(
                    "if it was installed anew: {}, and then trust its new key",
                    forgetting(host, port, &place.file)
                )),
        ),
        Verdict::Revoked(place) => Some(
            refused(format!("THE HOST KEY OF {name} IS REVOKED; {key}, which must not be used any more"))
                .at(place)
                .hint("whoever holds a revoked key can pass for the host: give the host a new key"),
        ),
    }
}

/// The command that would forget a host's key.
pub(in crate::transport) fn forgetting(host: &str, port: u16, file: &str) -> String {
    format!("ssh-keygen -f {} -R {}", quoted(file), quoted(&lookup_name(host, port)))
}

/// The command that would trust a host.
pub(in crate::transport) fn trusting(host: &str, port: Option<u16>, kind: Option<&str>, file: &str) -> String {
    let mut words = vec!["ssh-keyscan".to_owned()];
    words.extend(port.filter(|port| *port != SSH_PORT).map(|port| format!("-p {port}")));
    words.extend(kind.map(|kind| format!("-t {kind}")));
    // The home directory is the shell's to fill in.
    let file = if file.starts_with("~/") { file.to_owned() } else { quoted(file) };
    words.extend([quoted(host), ">>".to_owned(), file]);
    words.join(" ")
}

/// A word as a shell would read it.
fn quoted(word: &str) -> String {
    shlex::try_quote(word).map_or_else(|_| word.to_owned(), std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Place;

    #[test]
    fn a_refusal_says_what_to_do() {
        let shown =
            Shown { host: "web1", port: 2222, kind: "ed25519", fingerprint: "SHA256:x", file: "~/.ssh/known_hosts" };
        let fault = refusal(&Verdict::Unknown(None), &shown).unwrap();
        assert_eq!(fault.hints[1], "then trust it: ssh-keyscan -p 2222 -t ed25519 web1 >> ~/.ssh/known_hosts");
        let place = Place { line: 7, column: 1, ..Place::file("/home/o/.ssh/known_hosts") };
        let fault = refusal(&Verdict::Changed(place), &shown).unwrap();
        assert!(fault.to_string().starts_with("/home/o/.ssh/known_hosts:7:1: THE HOST KEY OF [web1]:2222"), "{fault}");
        assert!(fault.hints[1].contains("ssh-keygen -f /home/o/.ssh/known_hosts -R '[web1]:2222'"), "{fault:?}");
        assert_eq!(refusal(&Verdict::Trusted, &shown), None);
    }
}
