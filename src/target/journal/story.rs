//! What a journal's records tell. Pure: the same function reads a journal back and follows it while it is written.

use crate::{
    model::{
        event::{HostOutcome, Undone},
        ids::RunId,
    },
    target::journal::record::{Entry, Opened, Record, WayOfHandlers},
};

/// How far an entry has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It may have been begun, or not, or half done.
    Armed,
    /// It was tried and failed by itself.
    Missed,
    /// It is done.
    Sealed,
    /// It was not begun, and will not be.
    Dropped,
    /// It was undone, or could not be.
    Undone(Undone),
}

/// What the records tell so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Story {
    /// Who opened it.
    pub(super) opened: Option<Opened>,
    /// The run that this one undoes, if it does.
    pub(super) undoes: Option<RunId>,
    /// The deeds and how far each has come.
    pub(super) entries: Vec<(Entry, Status)>,
    /// What handlers do.
    pub(super) handlers: WayOfHandlers,
    /// Attempts to put everything back that were in vain.
    pub(super) attempts: Attempts,
    /// Whether one of them has begun and not ended.
    is_attempted: bool,
    /// How it ended.
    pub(super) closed: Option<HostOutcome>,
}

/// Attempts to put everything back that were in vain, or were cut off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// How many.
    pub count: u32,
    /// What the last one left.
    pub message: String,
}

/// A record that cannot follow those before it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OutOfOrder;

impl Story {
    /// Goes on by one record.
    pub(super) fn tell(&mut self, record: &Record) -> Result<(), OutOfOrder> {
        if self.closed.is_some() || self.opened.is_none() != matches!(record, Record::Opened(_)) {
            return Err(OutOfOrder);
        }
        match record {
            Record::Opened(opened) => self.opened = Some(opened.clone()),
            Record::Undoes { run } => self.undoes = Some(run.clone()),
            Record::Armed(entry) if entry.no as usize == self.entries.len() => {
                self.entries.push(((**entry).clone(), Status::Armed));
            }
            Record::Armed(_) => return Err(OutOfOrder),
            Record::Sealed { entry } => self.advance(*entry, Status::Sealed)?,
            Record::Missed { entry } => self.advance(*entry, Status::Missed)?,
            Record::Dropped { entry } => self.advance(*entry, Status::Dropped)?,
            Record::Undone { entry, how } => self.advance(*entry, Status::Undone(how.clone()))?,
            Record::Handlers(handlers) => self.handlers = handlers.clone(),
            Record::Attempted { message } => self.attempt(message),
            Record::Closed { outcome } => self.closed = Some(*outcome),
        }
        Ok(())
    }

    /// An attempt begins (without a message), or has ended without success.
    fn attempt(&mut self, message: &str) {
        let begins = message.is_empty();
        let was_begun = std::mem::replace(&mut self.is_attempted, begins);
        self.attempts.count += u32::from(begins || !was_begun);
        message.clone_into(&mut self.attempts.message);
        if begins {
            "it was cut off".clone_into(&mut self.attempts.message);
        }
    }

    fn advance(&mut self, entry: u32, to: Status) -> Result<(), OutOfOrder> {
        let (_, status) = self.entries.get_mut(entry as usize).ok_or(OutOfOrder)?;
        let follows = match (&*status, &to) {
            (Status::Armed, _) => true,
            (Status::Missed | Status::Sealed, Status::Undone(_)) => true,
            // Whoever takes a run up looks at everything again.
            (Status::Undone(_), Status::Undone(_)) => true,
            _ => false,
        };
        if !follows {
            return Err(OutOfOrder);
        }
        *status = to;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::Timestamp,
        model::{
            change::{Act, Deed, Undo},
            ids::{RunId, TaskNo},
            lease::{Bid, Lease},
        },
    };

    fn lease(letter: u32) -> Lease {
        let run = RunId::from_parts("20261123-051034", letter);
        let bid = Bid { run, operator: "ann".into(), reason: None, job: None };
        Lease { bid, since: Timestamp(0), fence: 1 }
    }

    fn opened() -> Record {
        Record::Opened(Opened { lease: lease(7), token: "t".into(), witness: None })
    }

    fn armed(no: u32) -> Record {
        let deed = Deed::Act { act: Act::Reload("x.service".into()), undo: Undo::Repeat };
        Record::Armed(Box::new(Entry {
            no,
            task: TaskNo { step: 0, item: 0 },
            sensitive: false,
            deed,
            image: None,
            in_place: false,
        }))
    }

    fn tell(records: &[Record]) -> Result<Story, OutOfOrder> {
        let mut story = Story::default();
        records.iter().try_for_each(|record| story.tell(record)).map(|()| story)
    }

    #[test]
    fn only_what_follows_is_believed() {
        let sealed = |entry| Record::Sealed { entry };
        let undone = |entry| Record::Undone { entry, how: Undone::Undone };
        let closed = Record::Closed { outcome: HostOutcome::Succeeded };
        let whole = tell(&[opened(), armed(0), armed(1), sealed(0), undone(1), undone(0), closed.clone()]).unwrap();
        assert_eq!(whole.closed, Some(HostOutcome::Succeeded));
        for wrong in [
            vec![armed(0)],
            vec![opened(), opened()],
            vec![opened(), armed(1)],
            vec![opened(), sealed(0)],
            vec![opened(), armed(0), sealed(0), sealed(0)],
            vec![opened(), armed(0), undone(0), sealed(0)],
            vec![opened(), armed(0), Record::Dropped { entry: 0 }, sealed(0)],
            vec![opened(), armed(0), sealed(0), Record::Dropped { entry: 0 }],
            vec![opened(), closed, armed(0)],
        ] {
            assert_eq!(tell(&wrong), Err(OutOfOrder), "{wrong:?}");
        }
    }
}
