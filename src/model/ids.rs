//! Names of runs, hosts and steps.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize, Serializer};

/// A run's id: its UTC start and four random letters, `20261123-051034-k7f3`. Sorts by time, can be read
/// over the phone, and any unique prefix of it names the run.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct RunId(String);

impl RunId {
    /// Digits and letters of the random part; without those that are misread (0 o, 1 l i).
    pub const ALPHABET: &[u8; 31] = b"23456789abcdefghjkmnpqrstuvwxyz";

    /// Puts an id together from its parts: `YYYYMMDD-HHMMSS` and randomness.
    pub fn from_parts(start: &str, random: u32) -> Self {
        let letter = |place: u32| Self::ALPHABET[(random >> (place * 8)) as usize % Self::ALPHABET.len()] as char;
        RunId(format!("{start}-{}", (0..4).map(letter).collect::<String>()))
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text is not a run's id.
#[derive(Debug, PartialEq, Eq)]
pub struct NotARunId;

impl fmt::Display for NotARunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a run's id (YYYYMMDD-HHMMSS-xxxx)")
    }
}

impl FromStr for RunId {
    type Err = NotARunId;

    fn from_str(text: &str) -> Result<Self, NotARunId> {
        let fits = |(at, byte): (usize, u8)| match at {
            8 | 15 => byte == b'-',
            0..15 => byte.is_ascii_digit(),
            _ => Self::ALPHABET.contains(&byte),
        };
        let whole = text.len() == 20 && text.bytes().enumerate().all(fits);
        whole.then(|| RunId(text.to_owned())).ok_or(NotARunId)
    }
}

impl TryFrom<String> for RunId {
    type Error = NotARunId;

    fn try_from(text: String) -> Result<Self, NotARunId> {
        text.parse()
    }
}

impl Serialize for RunId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A host's name in the inventory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostName(pub Arc<str>);

impl HostName {
    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for HostName {
    fn from(name: &str) -> Self {
        HostName(name.into())
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What `steps.<id>` names: given by the user, a letter followed by letters, digits and underscores.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(pub Arc<str>);

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One thing to do on one host: the runbook's step by number, and which item of its loop.
/// Handlers are numbered after the steps, in one row with them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct TaskNo {
    /// The step's number in the runbook, from 0; handlers follow the last step.
    pub step: u32,
    /// The loop's item, from 0; 0 where there is no loop.
    pub item: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_round_trip_and_nothing_else_does() {
        let id = RunId::from_parts("20261123-051034", 0xdead_beef);
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        for wrong in ["", "20261123-051034-", "20261123-051034-k7f", "20261123-051034-k0f3", "2026112-051034-k7f33"] {
            assert_eq!(wrong.parse::<RunId>(), Err(NotARunId), "{wrong}");
        }
    }
}
