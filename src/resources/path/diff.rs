//! Unified diffs of contents, bounded in what they read, in time, and in length.

use std::time::Duration;

use similar::{Algorithm, TextDiff};

/// Contents longer than this are not compared line by line.
pub const INPUT_BYTES_MAX: usize = 1024 * 1024;

/// The longest diff: some 400 lines, which is more than anyone reads; the contents have digests. It goes over the wire
/// and into the record.
const DIFF_BYTES_MAX: usize = 16 * 1024;

/// What is told of a new file that is too long to be told whole: a beginning by which people know it.
const BEGINNING_BYTES_MAX: usize = 4 * 1024;

/// After this, the comparison is finished with less care.
const TIME_MAX: Duration = Duration::from_millis(200);

/// The unified diff of two contents, without file names. None if they are equal, or if one of them is no text or too
/// long. A long diff is cut at a line's end, and says so.
pub fn diff(old: &[u8], new: &[u8]) -> Option<String> {
    let (old, new) = (text(old)?, text(new)?);
    if old == new {
        return None;
    }
    // A lone CR ends a line for the comparison.
    if old.is_empty() && !new.contains('\r') {
        return Some(added(new));
    }
    let diff = TextDiff::configure().algorithm(Algorithm::Myers).timeout(TIME_MAX).diff_lines(old, new);
    let mut told = String::new();
    for hunk in diff.unified_diff().context_radius(3).iter_hunks() {
        told.push_str(&hunk.to_string());
        if told.len() > DIFF_BYTES_MAX {
            return Some(cut(told, DIFF_BYTES_MAX));
        }
    }
    Some(told)
}

/// The same where there was nothing: all that there is to read is what will be told.
fn added(new: &str) -> String {
    let lines = new.split_inclusive('\n').count();
    let mut told = if lines == 1 { "@@ -0,0 +1 @@\n".to_owned() } else { format!("@@ -0,0 +1,{lines} @@\n") };
    for line in new.split_inclusive('\n') {
        told.push('+');
        told.push_str(line);
        if told.len() > DIFF_BYTES_MAX {
            return cut(told, BEGINNING_BYTES_MAX);
        }
    }
    if !new.ends_with('\n') {
        told.push_str("\n\\ No newline at end of file\n");
    }
    told
}

/// Text is UTF-8 without NUL.
fn text(bytes: &[u8]) -> Option<&str> {
    let short = bytes.len() <= INPUT_BYTES_MAX && !bytes.contains(&0);
    short.then(|| std::str::from_utf8(bytes).ok())?
}

fn cut(mut told: String, bytes_max: usize) -> String {
    const NOTE: &str = "[… the rest of the diff is left out …]\n";
    let mut end = bytes_max - NOTE.len();
    while !told.is_char_boundary(end) {
        end -= 1;
    }
    end = told[..end].rfind('\n').map_or(end, |at| at + 1);
    told.truncate(end);
    told + NOTE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_compared_and_the_rest_is_not() {
        let told = diff(b"a\nb\nc\n", b"a\nB\nc\n").unwrap();
        assert_eq!(told, "@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n");
        assert!(diff(b"", b"new").unwrap().contains("+new\n\\ No newline"));
        assert_eq!(diff(b"same", b"same"), None);
        assert_eq!(diff(b"\0", b"x"), None);
        assert_eq!(diff(b"\xff", b"x"), None);
    }

    #[test]
    fn what_is_new_is_told_as_any_difference_is() {
        for new in ["a\n", "a", "a\nb\n", "a\nb", "\n", "\n\n", "é\n"] {
            let all = TextDiff::configure().algorithm(Algorithm::Myers).diff_lines("", new);
            let told: String = all.unified_diff().context_radius(3).iter_hunks().map(|hunk| hunk.to_string()).collect();
            assert_eq!(added(new), told, "{new:?}");
        }
    }

    #[test]
    fn long_and_hostile_inputs_are_bounded() {
        let lines = |from: usize| (from..from + 40_000).map(|n| format!("{}\n", n % 7)).collect::<String>();
        let told = diff(lines(0).as_bytes(), lines(3).as_bytes()).unwrap();
        assert!(told.len() <= DIFF_BYTES_MAX, "{}", told.len());
        let all_new: String = (0..30_000).map(|n| format!("line {n} é\n")).collect();
        let told = diff(b"", all_new.as_bytes()).unwrap();
        assert!(told.len() <= BEGINNING_BYTES_MAX && told.len() > BEGINNING_BYTES_MAX / 2, "{}", told.len());
        assert!(told.ends_with("left out …]\n"));
        let whole = all_new.split_inclusive('\n').take(700).collect::<String>();
        let told = diff(b"", whole.as_bytes()).unwrap();
        assert!(told.len() > whole.len() && told.len() <= DIFF_BYTES_MAX && told.ends_with("+line 699 é\n"));
        assert_eq!(diff(&vec![b'a'; INPUT_BYTES_MAX + 1], b""), None);
    }
}
