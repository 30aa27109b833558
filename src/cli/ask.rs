//! Questions to the operator: passwords without echo, and the yes before an apply.

use std::{
    collections::HashMap,
    io::{self, BufRead, IsTerminal, Write},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    base::{Masker, Secret},
    engine::gate::Verdict,
    transport::{ASK_BECOME, ASK_PASSPHRASE, ASK_PASSWORD, Asker},
};

/// Asks on the terminal, each question once a run; hosts that ask the same get the same answer.
#[derive(Debug)]
pub(crate) struct Terminal {
    answers: Mutex<HashMap<String, Option<Secret>>>,
    masker: Masker,
}

impl Terminal {
    /// One whose answers are hidden by `masker` from then on.
    pub(crate) fn new(masker: &Masker) -> Arc<Terminal> {
        Arc::new(Terminal { answers: Mutex::default(), masker: masker.clone() })
    }
}

impl Asker for Terminal {
    fn ask(&self, question: &str) -> Option<Secret> {
        // The lock is held while asking: two hosts must not talk over each other.
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = answers.entry(question.to_owned()).or_insert_with(|| {
            let answer = ask_hidden(question);
            self.masker.learn(answer.clone());
            answer
        });
        answer.clone()
    }
}

fn ask_hidden(question: &str) -> Option<Secret> {
    if let Some(answer) = from_environment(question) {
        return Some(answer);
    }
    if !io::stdin().is_terminal() {
        return None;
    }
    rpassword::prompt_password(format!("{question}: ")).ok().map(Secret::new)
}

/// Variables that answer questions, by how the question begins.
const VARIABLES: [(&str, &str); 3] = [
    (ASK_BECOME, "ROLLBOOK_BECOME_PASSWORD"),
    (ASK_PASSWORD, "ROLLBOOK_PASSWORD"),
    (ASK_PASSPHRASE, "ROLLBOOK_PASSPHRASE"),
];

fn from_environment(question: &str) -> Option<Secret> {
    let (_, variable) = VARIABLES.iter().find(|(beginning, _)| question.starts_with(beginning))?;
    std::env::var(variable).ok().filter(|value| !value.is_empty()).map(Secret::new)
}

/// Every answer that the environment holds: none of them must be seen.
pub(crate) fn secrets_of_environment() -> impl Iterator<Item = Secret> {
    VARIABLES.iter().filter_map(|(_, variable)| std::env::var(variable).ok()).map(Secret::new)
}

/// Whether the operator can be asked at all.
pub(crate) fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a question that only the whole word `yes` answers with yes.
pub(crate) fn confirm(question: &str) -> io::Result<bool> {
    let mut terminal = io::stderr().lock();
    write!(terminal, "{question} Only `yes` does it: ")?;
    terminal.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

/// Asks what becomes of what a stopped run has done, until one of the two words is the answer. Where nobody answers, it
/// is undone.
pub(crate) fn undo_or_keep() -> Verdict {
    loop {
        let mut terminal = io::stderr().lock();
        let asked = write!(terminal, "Undo what was done, or keep it as it is? `undo` or `keep`: ");
        let _nobody_reads = asked.and_then(|()| terminal.flush());
        drop(terminal);
        let mut answer = String::new();
        match (io::stdin().lock().read_line(&mut answer), answer.trim()) {
            (Ok(1..), "keep") => return Verdict::Keep,
            (Ok(1..), "undo") | (Ok(0) | Err(_), _) => return Verdict::Undo,
            _ => {}
        }
    }
}
