//! The host's own programs by which resources are read and changed: how they are called, and what they say when
//! they fail.

use crate::model::{change::CommandSpec, event::Output};

/// Where an administrator's programs are, whatever the login gave the agent.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Seconds that a program which only looks may take.
const LOOK_S: u64 = 120;

/// Lines of a failed program that a message repeats.
const LINES_TOLD: usize = 8;

/// Characters of each of these lines.
const LINE_CHARS_MAX: usize = 300;

/// A call of one of the host's programs.
pub(super) fn call<S: AsRef<str>>(argv: impl IntoIterator<Item = S>) -> CommandSpec {
    CommandSpec {
        argv: argv.into_iter().map(|word| word.as_ref().to_owned()).collect(),
        environment: [("PATH".to_owned(), PATH.to_owned())].into(),
        ..Default::default()
    }
}

/// A call that only looks, ended when it takes too long.
pub(super) fn look<S: AsRef<str>>(argv: impl IntoIterator<Item = S>) -> CommandSpec {
    CommandSpec { timeout_s: Some(LOOK_S), ..call(argv) }
}

/// How a program failed, in its own last words: what it wrote beside its output, else its output.
pub(super) fn last_words(output: &Output) -> String {
    let ending = match (output.timed_out, output.code, output.signal) {
        (true, ..) => "it took too long and was ended".to_owned(),
        (_, Some(code), _) => format!("it ended with code {code}"),
        (_, None, Some(signal)) => format!("it was ended by signal {signal}"),
        (_, None, None) => "it did not end".to_owned(),
    };
    let told = tail([&output.stderr.text, &output.stdout.text]);
    if told.is_empty() { ending } else { format!("{ending}:\n{told}") }
}

/// The last lines of the first text that has any.
pub(super) fn tail<'a>(texts: impl IntoIterator<Item = &'a String>) -> String {
    for text in texts {
        let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        if let [_, ..] = lines[..] {
            let last = &lines[lines.len().saturating_sub(LINES_TOLD)..];
            let short = |line: &&str| line.chars().take(LINE_CHARS_MAX).collect::<String>();
            return last.iter().map(short).collect::<Vec<_>>().join("\n");
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::Capped;

    #[test]
    fn the_last_words_are_few_and_short() {
        let text: String = (0..100).map(|n| format!("line {n} {}\n\n", "x".repeat(1000))).collect();
        let output = Output { code: Some(100), stderr: Capped { text, ..Capped::default() }, ..Output::default() };
        let told = last_words(&output);
        assert!(told.starts_with("it ended with code 100:\nline 92 x") && told.len() < 3000, "{told}");
        assert_eq!(last_words(&Output { signal: Some(9), ..Output::default() }), "it was ended by signal 9");
    }
}
