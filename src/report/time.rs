//! Times as people read them.

use crate::base::Timestamp;

/// UTC to the second: `2026-11-23 05:10:34`.
pub fn moment(at: Timestamp) -> String {
    let text = at.to_string();
    let end = text.rfind('.').unwrap_or(text.len());
    text[..end].replace('T', " ")
}

/// How long something took, in the two largest units that matter.
pub fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{}.{} s", seconds, ms % 1000 / 100),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        assert_eq!(moment(Timestamp(1_795_410_634_999_999)), "2026-11-23 05:10:34");
        let spans = [(0, "0 ms"), (999, "999 ms"), (1250, "1.2 s"), (59_999, "59.9 s"), (61_000, "1 min 1 s")];
        spans.iter().for_each(|(ms, text)| assert_eq!(span(*ms), *text));
        assert_eq!(span(3 * 3_600_000 + 5 * 60_000), "3 h 5 min");
    }
}
