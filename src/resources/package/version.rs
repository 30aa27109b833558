//! The order of Debian's versions: `[epoch:]upstream[-revision]` (Debian Policy 5.6.12, deb-version(7)).

use std::cmp::Ordering;

/// Compares two versions as dpkg does.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (Parts::of(a), Parts::of(b));
    let by_epoch = number(a.epoch).cmp(&number(b.epoch));
    by_epoch.then_with(|| mixed(a.upstream, b.upstream)).then_with(|| mixed(a.revision, b.revision))
}

struct Parts<'a> {
    epoch: &'a str,
    upstream: &'a str,
    revision: &'a str,
}

impl<'a> Parts<'a> {
    fn of(version: &'a str) -> Self {
        let (epoch, rest) = version.split_once(':').unwrap_or(("0", version));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        Parts { epoch, upstream, revision }
    }
}

/// Digits as a number of any length: by length without leading zeros, then digit by digit.
fn number(digits: &str) -> (usize, &str) {
    let digits = digits.trim_start_matches('0');
    (digits.len(), digits)
}

/// Stretches without digits and numbers in turn.
fn mixed(mut a: &str, mut b: &str) -> Ordering {
    while !(a.is_empty() && b.is_empty()) {
        let (text_a, rest_a) = a.split_at(a.find(|c: char| c.is_ascii_digit()).unwrap_or(a.len()));
        let (text_b, rest_b) = b.split_at(b.find(|c: char| c.is_ascii_digit()).unwrap_or(b.len()));
        let (number_a, after_a) = rest_a.split_at(digits(rest_a));
        let (number_b, after_b) = rest_b.split_at(digits(rest_b));
        let order = words(text_a, text_b).then_with(|| number(number_a).cmp(&number(number_b)));
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (after_a, after_b);
    }
    Ordering::Equal
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// A tilde sorts before everything, even the end; letters before all other signs.
fn words(a: &str, b: &str) -> Ordering {
    let weight = |byte: Option<&u8>| match byte {
        Some(b'~') => -1,
        None => 0,
        Some(letter) if letter.is_ascii_alphabetic() => i32::from(*letter),
        Some(sign) => i32::from(*sign) + 256,
    };
    let (a, b) = (a.as_bytes(), b.as_bytes());
    (0..=a.len().max(b.len()))
        .map(|at| weight(a.get(at)).cmp(&weight(b.get(at))))
        .find(|o| o.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// Whether `version` fits `pattern`, in which `*` stands for anything.
pub(super) fn fits(pattern: &str, version: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or("");
    let Some(mut rest) = version.strip_prefix(first) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checked one by one with `dpkg --compare-versions`.
    #[test]
    fn versions_are_ordered_as_dpkg_orders_them() {
        let ascending = [
            "0~rc1",
            "0",
            "0.1",
            "1.0~beta1~svn1245",
            "1.0~beta1",
            "1.0",
            "1.0-1",
            "1.0-1+b1",
            "1.0-1.1",
            "1.0a",
            "1.0+x",
            "1.0.1",
            "1.2",
            "1.02.1",
            "1.10",
            "1.22.1-9",
            "1.22.1-9+deb12u1",
            "1.22.1-9+deb12u7",
            "1.22.1-10",
            "99",
            "1:0.63-4",
            "1:1.2.13.dfsg-1",
            "2:0",
            "10:0",
        ];
        for pair in ascending.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        for (a, b) in [("1.0", "0:1.0"), ("1.0-0", "1.0"), ("1.00", "1.0"), ("", "0")] {
            assert_eq!(compare(a, b), Ordering::Equal, "{a} {b}");
        }
    }

    #[test]
    fn patterns_have_stars() {
        for (pattern, version) in
            [("1.2*", "1.2.7-1"), ("1.2", "1.2"), ("*", "x"), ("1*-1*", "1.3-1ubuntu2"), ("1.*", "1.")]
        {
            assert!(fits(pattern, version), "{pattern} {version}");
        }
        for (pattern, version) in [("1.2*", "11.2"), ("1.2", "1.2.1"), ("*-1", "1-2"), ("ab*ba", "aba")] {
            assert!(!fits(pattern, version), "{pattern} {version}");
        }
    }
}
