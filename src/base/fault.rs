//! One shape for everything that can be told to a person as wrong.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// Who must act, which is also the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Rollbook itself, or the machine it runs on.
    Internal,
    /// The command line.
    Usage,
    /// A runbook, an inventory, a template, a value.
    Input,
    /// A host that does not answer, or is not who it says.
    Unreachable,
    /// Refused by policy: host keys, locks, secrets in a process list, confirmations.
    Policy,
    /// The record store is not whole or cannot be written.
    Record,
    /// A step failed on a host.
    Failed,
}

/// Where in a file something stands. Lines and columns count from 1; columns count characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The file's name as the user would write it.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// How many characters on that line are meant; at least 1.
    pub width: u32,
}

impl Place {
    /// The whole of a file, when no line can be named.
    pub fn file(name: &str) -> Self {
        Place { file: name.into(), line: 0, column: 0, width: 1 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}:{}", self.file, self.column),
        }
    }
}

/// Something wrong, told whole: what, where, why, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Who must act.
    pub kind: FaultKind,
    /// One sentence without a full stop: what is wrong.
    pub message: String,
    /// Where, if it stands in a file.
    pub place: Option<Place>,
    /// Underlying causes, outermost first.
    pub causes: Vec<String>,
    /// What to do, one sentence each.
    pub hints: Vec<String>,
}

impl Fault {
    /// A fault of `kind` with one sentence.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Fault { kind, message: message.into(), place: None, causes: Vec::new(), hints: Vec::new() }
    }

    /// A fault in what the user wrote.
    pub fn input(message: impl Into<String>) -> Self {
        Fault::new(FaultKind::Input, message)
    }

    /// A fault of our own or of this machine.
    pub fn internal(message: impl Into<String>) -> Self {
        Fault::new(FaultKind::Internal, message)
    }

    /// Adds where.
    pub fn at(mut self, place: &Place) -> Self {
        self.place = Some(place.clone());
        self
    }

    /// Adds an underlying cause, and the causes behind it.
    pub fn because(mut self, cause: &(dyn std::error::Error + 'static)) -> Self {
        let mut next = Some(cause);
        while let Some(error) = next {
            self.causes.push(error.to_string());
            next = error.source();
        }
        self
    }

    /// Adds what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.message)?;
        self.causes.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl std::error::Error for Fault {}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Faults(vec![fault])
    }
}

/// All that was found wrong, in the order of the text. Never empty when it stands in an `Err`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// Adds one.
    pub fn push(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    /// `value` if nothing is wrong.
    pub fn or<T>(self, value: T) -> Result<T, Faults> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }

    /// Keeps an error's faults and gives the value, if any.
    pub fn keep<T>(&mut self, result: Result<T, impl Into<Faults>>) -> Option<T> {
        result.map_err(|error| self.0.extend(error.into().0)).ok()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|fault| writeln!(f, "{fault}"))
    }
}

impl std::error::Error for Faults {}

/// The one of `known` that `word` was most likely meant to be.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |name: &str| strsim::osa_distance(&word.to_lowercase(), &name.to_lowercase());
    let (found, name) = known.into_iter().map(|name| (distance(name), name)).min()?;
    (found <= 1 + word.chars().count().min(name.chars().count()) / 4).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_names_are_near() {
        let known = ["hosts", "handlers", "become", "steps"];
        assert_eq!(nearest("host", known), Some("hosts"));
        assert_eq!(nearest("setps", known), Some("steps"));
        assert_eq!(nearest("becmoe", known), Some("become"));
        assert_eq!(nearest("owner", known), None);
    }
}
