//! Questions to the operator: passwords without echo, and the yes before an apply.

use std::{
    collections::HashMap,
    io::{self, BufRead, IsTerminal, Write},
    sync::{Mutex, PoisonError},
};

use crate::{base::Secret, transport::Asker};

/// Asks on the terminal, each question once a run; hosts that ask the same get the same answer.
#[derive(Debug, Default)]
pub(crate) struct Terminal {
    answers: Mutex<HashMap<String, Option<Secret>>>,
}

impl Asker for Terminal {
    fn ask(&self, question: &str) -> Option<Secret> {
        // The lock is held while asking: two hosts must not talk over each other.
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.entry(question.to_owned()).or_insert_with(|| ask_hidden(question)).clone()
    }
}

fn ask_hidden(question: &str) -> Option<Secret> {
    if !io::stdin().is_terminal() {
        return None;
    }
    rpassword::prompt_password(format!("{question}: ")).ok().map(Secret::new)
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
