//! The journal's records and their bytes: `length u32 LE | crc32 u32 LE | JSON` (docs/journal-format.md). Pure.

use std::collections::BTreeMap;

use crc::{CRC_32_ISO_HDLC, Crc};
use serde::{Deserialize, Serialize};

use crate::model::{
    change::{Act, Deed},
    event::{HostOutcome, Undone},
    ids::{RunId, TaskNo},
    lease::Lease,
    witness::Witness,
};

/// What a journal begins with; the last byte is the format's version.
pub(super) const MAGIC: &[u8; 8] = b"RBJRNL\n\x01";

/// The longest record. Longer deeds are refused before they are done.
pub(super) const RECORD_BYTES_MAX: usize = 4 * 1024 * 1024;

const HEADER_BYTES: usize = 8;

/// What the journal holds, in the order in which it was written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    /// First of all.
    Opened(Opened),
    /// This run undoes another one.
    Undoes { run: RunId },
    /// A deed may be begun: its undo is on disk.
    Armed(Box<Entry>),
    /// The deed is done.
    Sealed { entry: u32 },
    /// The deed was tried and failed by itself.
    Missed { entry: u32 },
    /// The deed was armed, and will not be done: nothing of it was begun.
    Dropped { entry: u32 },
    /// What handlers do, and which steps notify them.
    Handlers(WayOfHandlers),
    /// The deed was undone, or could not be.
    Undone { entry: u32, how: Undone },
    /// An attempt to put everything back has ended without success; without a message, it has begun.
    Attempted { message: String },
    /// The last.
    Closed { outcome: HostOutcome },
}

/// Who opened the journal, and for what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Opened {
    /// The run, and who runs it.
    pub lease: Lease,
    /// What temporary names begin with: `.rollbook-<token>-`.
    pub token: String,
    /// The record's chain when the run was opened.
    pub witness: Option<Witness>,
}

/// What handlers do when the files that notified them are back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WayOfHandlers {
    /// By the numbers of their steps.
    pub acts: BTreeMap<u32, Vec<Act>>,
    /// Which handlers each step notifies.
    pub notified_by: BTreeMap<u32, Vec<u32>>,
}

/// A deed, and what it takes to undo it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number, from 0.
    pub no: u32,
    /// Which task does it.
    pub task: TaskNo,
    /// Nothing of it is shown.
    pub sensitive: bool,
    /// What is done, and how it was before.
    pub deed: Deed,
    /// How the content before is kept, if there is one to keep.
    pub image: Option<Image>,
    /// The file can only be written in place (a mount point): a crash can leave it half written.
    pub in_place: bool,
}

/// How a before-image is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Image {
    /// The file itself, by a second name.
    Link,
    /// A copy, or a reflink, with owner, mode and times of its own.
    Copy,
}

/// What finds a record that is not what was written: the CRC-32 of IEEE 802.3.
static CHECK: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// A record with its number.
#[derive(Serialize, Deserialize)]
struct Numbered<R> {
    no: u32,
    /// How many records were known to be on disk when this one was written. Only a record beyond that may be missing.
    durable: u32,
    record: R,
}

/// A record that is longer than [`RECORD_BYTES_MAX`].
#[derive(Debug)]
pub(super) struct TooLong(pub(super) usize);

/// Appends the bytes of a record.
pub(super) fn push(out: &mut Vec<u8>, no: u32, durable: u32, record: &Record) -> Result<(), TooLong> {
    let payload = serde_json::to_vec(&Numbered { no, durable, record }).expect("records are plain data");
    if payload.len() > RECORD_BYTES_MAX {
        return Err(TooLong(payload.len()));
    }
    out.extend_from_slice(&u32::try_from(payload.len()).expect("checked above").to_le_bytes());
    out.extend_from_slice(&CHECK.checksum(&payload).to_le_bytes());
    out.extend_from_slice(&payload);
    Ok(())
}

/// What was read from a journal.
#[derive(Debug, PartialEq)]
pub(super) struct Read {
    /// The whole records.
    pub(super) records: Vec<Record>,
    /// How many bytes they are, the magic included. What follows is a torn tail, to be cut off.
    pub(super) bytes: usize,
}

/// Why a journal cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    /// It does not begin with our magic, or with one of another version.
    Magic,
    /// A record in the middle is not what was written; its number.
    Record(u32),
}

/// Reads a journal. What was not acknowledged when the machine went down may be torn or missing, later pages of it
/// may even be there without earlier ones; what was acknowledged must be whole.
pub(super) fn read(bytes: &[u8]) -> Result<Read, Damage> {
    let mut rest = match bytes.strip_prefix(MAGIC) {
        Some(rest) => rest,
        None if is_unwritten(bytes) => return Ok(Read { records: Vec::new(), bytes: 0 }),
        None => return Err(Damage::Magic),
    };
    let mut records = Vec::new();
    loop {
        let no = u32::try_from(records.len()).map_err(|_| Damage::Record(u32::MAX))?;
        match next(rest) {
            Some((found, after)) if found.no == no => {
                records.push(found.record);
                rest = after;
            }
            _ if was_acknowledged(no, rest) => return Err(Damage::Record(no)),
            _ => return Ok(Read { records, bytes: bytes.len() - rest.len() }),
        }
    }
}

/// Whether not even the magic was written whole.
fn is_unwritten(bytes: &[u8]) -> bool {
    MAGIC.starts_with(bytes) || bytes.iter().all(|byte| *byte == 0)
}

/// The record that begins `bytes`, and what comes after it.
fn next(bytes: &[u8]) -> Option<(Numbered<Record>, &[u8])> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (length, crc) = (word(0)? as usize, word(4)?);
    let (payload, after) = bytes.get(HEADER_BYTES..)?.split_at_checked(length)?;
    let plausible = length <= RECORD_BYTES_MAX && payload.first() == Some(&b'{');
    let whole = plausible && CHECK.checksum(payload) == crc;
    whole.then(|| serde_json::from_slice(payload).ok())?.map(|found| (found, after))
}

/// Whether a record behind the damage says that record `no` was on disk when it was written.
fn was_acknowledged(no: u32, rest: &[u8]) -> bool {
    (0..rest.len()).any(|at| next(&rest[at..]).is_some_and(|(found, _)| found.no >= no && found.durable > no))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::Undone;

    fn sample(count: u32) -> (Vec<u8>, Vec<Record>) {
        let records: Vec<Record> = (0..count).map(|entry| Record::Sealed { entry }).collect();
        let mut bytes = MAGIC.to_vec();
        (0..).zip(&records).for_each(|(no, record)| push(&mut bytes, no, no, record).unwrap());
        (bytes, records)
    }

    #[test]
    fn every_cut_of_the_tail_is_tolerated() {
        let (bytes, records) = sample(3);
        for end in 0..=bytes.len() {
            let read = read(&bytes[..end]).unwrap();
            assert!(records.starts_with(&read.records), "cut at {end}");
            assert!(read.bytes <= end);
        }
        assert_eq!(read(&bytes).unwrap(), Read { records, bytes: bytes.len() });
    }

    #[test]
    fn one_changed_byte_never_goes_unseen() {
        let (bytes, records) = sample(3);
        for at in 0..bytes.len() {
            for flip in [1, 0x80] {
                let mut changed = bytes.clone();
                changed[at] ^= flip;
                match read(&changed) {
                    Err(_) => {}
                    Ok(read) => assert!(read.records.len() < 3 && records.starts_with(&read.records), "byte {at}"),
                }
            }
        }
    }

    #[test]
    fn damage_to_what_was_acknowledged_is_no_torn_tail() {
        let (bytes, _) = sample(3);
        for at in [0, 3, HEADER_BYTES + 3] {
            let mut changed = bytes.clone();
            changed[MAGIC.len() + at] ^= 1;
            assert_eq!(read(&changed), Err(Damage::Record(0)), "byte {at}");
        }
        let zeros = [bytes, vec![0; 100]].concat();
        assert_eq!(read(&zeros).unwrap().records.len(), 3);
    }

    #[test]
    fn a_hole_in_what_was_not_acknowledged_is_a_torn_tail() {
        let (mut bytes, mut ends) = (MAGIC.to_vec(), Vec::new());
        for no in 0..3 {
            push(&mut bytes, no, 1, &Record::Sealed { entry: no }).unwrap();
            ends.push(bytes.len());
        }
        bytes[ends[0]..ends[1]].fill(0);
        let read = read(&bytes).unwrap();
        assert_eq!((read.records.len(), read.bytes), (1, ends[0]));
    }

    /// What a disk may hold after the power went: all that was synced, and of the rest any of its sectors, in any
    /// combination. Sectors that never came are zeros, or the file ends before them.
    #[test]
    fn any_sectors_of_what_was_not_synced_leave_a_beginning_of_the_journal() {
        const SECTOR: usize = 512;
        for synced in 1..=3_u32 {
            let long = |entry: u32| Record::Undone { entry, how: Undone::Failed("x".repeat(700)) };
            let records: Vec<Record> =
                (0..8).map(|entry| if entry < 3 { Record::Sealed { entry } } else { long(entry) }).collect();
            let (mut bytes, mut safe) = (MAGIC.to_vec(), 0);
            for (no, record) in (0..).zip(&records) {
                push(&mut bytes, no, no.min(synced), record).unwrap();
                if no < synced {
                    safe = bytes.len();
                }
            }
            let pending: Vec<(usize, usize)> = (safe / SECTOR..bytes.len().div_ceil(SECTOR))
                .map(|sector| ((sector * SECTOR).max(safe), ((sector + 1) * SECTOR).min(bytes.len())))
                .collect();
            assert!((6..=12).contains(&pending.len()), "{} sectors", pending.len());
            for kept in 0..1_u32 << pending.len() {
                let mut disk = bytes.clone();
                for (at, (from, to)) in pending.iter().enumerate() {
                    if kept >> at & 1 == 0 {
                        disk[*from..*to].fill(0);
                    }
                }
                let last =
                    pending.iter().enumerate().filter(|(at, _)| kept >> at & 1 == 1).map(|(_, (_, to))| *to).max();
                for end in [disk.len(), last.unwrap_or(safe)] {
                    let read = read(&disk[..end]).unwrap_or_else(|damage| panic!("{kept:b} of {synced}: {damage:?}"));
                    assert!(read.records.len() >= synced as usize, "{kept:b}: what was synced is there");
                    assert!(records.starts_with(&read.records), "{kept:b}: nothing else is read");
                }
            }
        }
    }
}
