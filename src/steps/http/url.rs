//! The addresses that `http` takes.

/// An http or https address in its parts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Url {
    /// https.
    pub(super) tls: bool,
    /// Host name or address, without brackets.
    pub(super) host: String,
    /// The port.
    pub(super) port: u16,
    /// As the `Host` header has it.
    pub(super) authority: String,
    /// Path and query; begins with a slash.
    pub(super) target: String,
}

impl Url {
    /// Reads an address. The error is a sentence.
    pub(super) fn parse(text: &str) -> Result<Url, String> {
        let wrong = |why: &str| format!("{text:?} is no address: {why}");
        if text.len() > 8192 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("it is too long, or holds characters that must be written as %XX"));
        }
        let (tls, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err(wrong("it must begin with http:// or https://")),
        };
        let rest = rest.split('#').next().unwrap_or(rest);
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(wrong("user and password do not belong here; use headers"));
        }
        let (host, port) = split_port(authority).ok_or_else(|| wrong("its host or port is wrong"))?;
        Ok(Url {
            tls,
            host: host.to_owned(),
            port: port.unwrap_or(if tls { 443 } else { 80 }),
            authority: authority.to_owned(),
            target: if target.starts_with('/') { target.to_owned() } else { format!("/{target}") },
        })
    }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(inner) => {
            let (host, rest) = inner.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, rest)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    if host.is_empty() || host.starts_with('-') || !host.bytes().all(is_name) {
        return None;
    }
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Some((host, None)),
        None => None,
        Some(port) => Some((host, Some(port.parse().ok().filter(|port| *port > 0)?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_split() {
        let parts = |text: &str| {
            let url = Url::parse(text).unwrap();
            (url.tls, url.host, url.port, url.authority, url.target)
        };
        let own = |tls, host: &str, port, authority: &str, target: &str| {
            (tls, host.to_owned(), port, authority.to_owned(), target.to_owned())
        };
        assert_eq!(parts("http://localhost"), own(false, "localhost", 80, "localhost", "/"));
        assert_eq!(parts("https://a.example:8443/x?y=1#z"), own(true, "a.example", 8443, "a.example:8443", "/x?y=1"));
        assert_eq!(parts("http://[::1]:81?q"), own(false, "::1", 81, "[::1]:81", "/?q"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for wrong in [
            "",
            "ftp://a",
            "http://",
            "http:///x",
            "http://u:p@a/",
            "http://a b/",
            "http://a:0/",
            "http://a:99999/",
            "http://[::1/",
            "http://[x]/",
            "http://a/\r\nX: y",
            "http://-x/",
            "http://[::1]x/",
            "http://é/",
        ] {
            assert!(Url::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
