//! Host names and ranges of them: `web[01:50].example.com`, `db[a:f]`, `n[0:10:2]`.

use crate::syntax::inventory::HOSTS_MAX;

/// Characters that a host's name may have.
const NAME_MAX: usize = 255;

/// The names that `written` stands for, and the port behind it, if any: `web[1:3]:2222`. The error is a sentence.
pub(super) fn expand(written: &str) -> Result<(Vec<String>, Option<u16>), String> {
    if has_zone(written) {
        return Err(format!("{written:.80}: an address with a zone (what follows the `%`) is not supported"));
    }
    let (written, port) = split_port(written)?;
    let mut names = vec![String::new()];
    for piece in pieces(written)? {
        let words = match piece {
            Piece::Plain(text) => vec![text.to_owned()],
            Piece::Range(range) => words(range)?,
        };
        if names.len().saturating_mul(words.len()) > HOSTS_MAX {
            return Err(format!("{written:.80} stands for more than {HOSTS_MAX} hosts"));
        }
        names = names.iter().flat_map(|name| words.iter().map(move |word| format!("{name}{word}"))).collect();
    }
    names.iter().try_for_each(|name| check(name))?;
    Ok((names, port))
}

enum Piece<'a> {
    Plain(&'a str),
    Range(&'a str),
}

/// Cuts at the brackets. An address in brackets is no range.
fn pieces(written: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = written;
    while let Some((plain, after)) = rest.split_once('[') {
        let Some((range, after)) = after.split_once(']') else {
            return Err(format!("{written:.80}: a `[` without its `]`"));
        };
        pieces.push(Piece::Plain(plain));
        pieces.push(if is_address(range) { Piece::Plain(range) } else { Piece::Range(range) });
        rest = after;
    }
    pieces.push(Piece::Plain(rest));
    Ok(pieces)
}

fn is_address(text: &str) -> bool {
    text.parse::<std::net::Ipv6Addr>().is_ok()
}

/// An address that means another host on each link: `fe80::1%eth0`.
fn has_zone(written: &str) -> bool {
    let address = written.trim_start_matches('[').split_once('%');
    address.is_some_and(|(address, _)| is_address(address))
}

/// `name:port`, unless the name is an IPv6 address.
fn split_port(written: &str) -> Result<(&str, Option<u16>), String> {
    let after_brackets = written.rfind(']').map_or(0, |at| at + 1);
    let Some((_, port)) = written[after_brackets..].split_once(':') else { return Ok((written, None)) };
    if is_address(written) {
        return Ok((written, None));
    }
    match port.parse() {
        Ok(number) if number > 0 => Ok((&written[..written.len() - port.len() - 1], Some(number))),
        _ => Err(format!("{written:.80}: {port:.20} is no port; a port is a number from 1 to 65535")),
    }
}

fn words(range: &str) -> Result<Vec<String>, String> {
    let parts: Vec<&str> = range.split(':').collect();
    let (start, end, step) = match parts[..] {
        [start, end] => (start, end, "1"),
        [start, end, step] => (start, end, step),
        _ => return Err(format!("[{range:.40}] is no range; write one as in [01:50], [a:f] or [0:10:2]")),
    };
    let step = match step.parse::<usize>() {
        Ok(step) if step > 0 => step,
        _ => return Err(format!("[{range:.40}]: the step must be a whole number above 0")),
    };
    let start = if start.is_empty() { "0" } else { start };
    if let (Some(first), Some(last)) = (letter(start), letter(end)) {
        return letters(range, first, last, step);
    }
    numbers(range, start, end, step)
}

const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

fn letter(text: &str) -> Option<usize> {
    LETTERS.iter().position(|letter| text.as_bytes() == [*letter])
}

fn letters(range: &str, first: usize, last: usize, step: usize) -> Result<Vec<String>, String> {
    if first > last {
        return Err(format!("[{range}] ends before it begins"));
    }
    Ok(LETTERS[first..=last].iter().step_by(step).map(|letter| char::from(*letter).to_string()).collect())
}

fn numbers(range: &str, start: &str, end: &str, step: usize) -> Result<Vec<String>, String> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.len() <= 12 && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u64>().ok()).flatten()
    };
    let (Some(first), Some(last)) = (number(start), number(end)) else {
        return Err(format!("[{range:.40}] is no range; write one as in [01:50], [a:f] or [0:10:2]"));
    };
    let padded = start.len() > 1 && start.starts_with('0');
    if padded && start.len() != end.len() {
        return Err(format!("[{range}]: where numbers have leading zeros, both ends have as many digits"));
    }
    if first > last {
        return Err(format!("[{range}] ends before it begins"));
    }
    if (last - first) / step as u64 >= HOSTS_MAX as u64 {
        return Err(format!("[{range}] stands for more than {HOSTS_MAX} hosts"));
    }
    let width = if padded { start.len() } else { 1 };
    Ok((first..=last).step_by(step).map(|number| format!("{number:0width$}")).collect())
}

/// A name must be one that patterns and ssh can tell from their own signs.
fn check(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(format!("a host's name has 1 to {NAME_MAX} characters"));
    }
    if name.starts_with('-') {
        return Err(format!("{name:.80}: a host's name cannot begin with a hyphen"));
    }
    let strange = |c: &char| c.is_whitespace() || c.is_control() || ",!&*?~@/\\\"'`$(){}<>|;#%".contains(*c);
    match name.chars().find(strange) {
        Some(c) => Err(format!("{name:.80?}: a host's name cannot have {c:?} in it")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(written: &str) -> Vec<String> {
        expand(written).unwrap().0
    }

    #[test]
    fn ranges_are_expanded_as_ansible_does() {
        assert_eq!(names("web[01:03].x"), ["web01.x", "web02.x", "web03.x"]);
        assert_eq!(names("[a:c]"), ["a", "b", "c"]);
        assert_eq!(names("n[8:12:2]"), ["n8", "n10", "n12"]);
        assert_eq!(names("r[1:2]s[a:b]"), ["r1sa", "r1sb", "r2sa", "r2sb"]);
        assert_eq!(names("x[:2]"), ["x0", "x1", "x2"]);
        assert_eq!(names("plain"), ["plain"]);
    }

    #[test]
    fn ports_and_addresses() {
        assert_eq!(expand("web[1:2]:2222"), Ok((vec!["web1".into(), "web2".into()], Some(2222))));
        assert_eq!(expand("2001:db8::1"), Ok((vec!["2001:db8::1".into()], None)));
        assert_eq!(expand("[2001:db8::1]:22"), Ok((vec!["2001:db8::1".into()], Some(22))));
        assert!(expand("web:ssh").unwrap_err().contains("no port"));
        assert!(expand("web:0").is_err() && expand("web:65536").is_err());
    }

    #[test]
    fn what_is_no_range_or_name_is_refused() {
        for (wrong, why) in [
            ("web[1:3", "without its"),
            ("web[3:1]", "ends before"),
            ("web[c:a]", "ends before"),
            ("web[01:100]", "as many digits"),
            ("web[1:5:0]", "step"),
            ("web[1]", "no range"),
            ("web[1:x]", "no range"),
            ("web[]", "no range"),
            ("web[1:99999999999]", "more than 200000"),
            ("w[1:999][1:999]", "more than 200000"),
            ("", "1 to 255"),
            ("a b", "cannot have"),
            ("web*", "cannot have"),
            ("-oProxyCommand=x", "hyphen"),
            ("fe80::1%eth0", "zone"),
            ("[fe80::1%eth0]:22", "zone"),
            ("w\u{1b}[1:2]", "cannot have"),
        ] {
            let said = expand(wrong).unwrap_err();
            assert!(said.contains(why), "{wrong}: {said}");
        }
    }
}
