//! The journal's file: appended to, synced, read back.

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::{
    base::point::fault,
    target::{
        disk,
        journal::{
            fault::JournalFault,
            record::{self, Damage, MAGIC, Record},
        },
        probe::open_regular,
    },
};

/// The longest journal that is read back: some hundred thousand deeds.
const JOURNAL_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// An append-only file of records.
#[derive(Debug)]
pub(super) struct Log {
    file: fs::File,
    path: PathBuf,
    bytes: u64,
    written: u32,
    durable: u32,
    broken: bool,
}

impl Log {
    /// Makes the file; there must be none.
    pub(super) fn create(path: &Path) -> Result<Log, JournalFault> {
        let doing = || format!("making the journal {}", path.display());
        let mut file = fs::OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(JournalFault::io(doing()))?;
        fault!("journal.made", io).and_then(|()| file.write_all(MAGIC)).map_err(JournalFault::io(doing()))?;
        let bytes = MAGIC.len() as u64;
        Ok(Log { file, path: path.to_owned(), bytes, written: 0, durable: 0, broken: false })
    }

    /// Opens a journal to write on: what it holds, with a torn tail cut off.
    pub(super) fn reopen(path: &Path) -> Result<(Log, Vec<Record>), JournalFault> {
        let doing = || format!("opening the journal {}", path.display());
        let (records, bytes) = read_file(path)?;
        let mut file = fs::OpenOptions::new().append(true).open(path).map_err(JournalFault::io(doing()))?;
        fault!("journal.reopen", io).and_then(|()| file.set_len(bytes)).map_err(JournalFault::io(doing()))?;
        if bytes == 0 {
            file.write_all(MAGIC).map_err(JournalFault::io(doing()))?;
        }
        let bytes = bytes.max(MAGIC.len() as u64);
        let written = u32::try_from(records.len()).expect("a journal's length is bounded");
        let mut log = Log { file, path: path.to_owned(), bytes, written, durable: 0, broken: false };
        log.sync()?;
        Ok((log, records))
    }

    /// Reads a journal and leaves it as it is.
    pub(super) fn read(path: &Path) -> Result<Vec<Record>, JournalFault> {
        read_file(path).map(|(records, _)| records)
    }

    /// Appends records. They are safe from a crash of the agent; from one of the machine after [`Log::sync`].
    pub(super) fn append(&mut self, records: &[Record]) -> Result<(), JournalFault> {
        if self.broken {
            return Err(JournalFault::Broken);
        }
        let (mut bytes, mut no) = (Vec::new(), self.written);
        for record in records {
            record::push(&mut bytes, no, self.durable, record)
                .map_err(|long| JournalFault::TooLong { bytes: long.0 })?;
            no += 1;
        }
        if let Err(error) = write(&mut self.file, &bytes) {
            // Half a record must not stand before a whole one, nor a hole: the file is one that is appended to.
            self.broken = self.file.set_len(self.bytes).is_err();
            return Err(JournalFault::io(format!("writing to the journal {}", self.path.display()))(error));
        }
        self.bytes += bytes.len() as u64;
        self.written = no;
        fault!("journal.appended");
        Ok(())
    }

    /// Brings what was appended onto the disk. When that fails, nothing more is written: what the disk holds is no
    /// longer known, and asking it again would say that all is well.
    pub(super) fn sync(&mut self) -> Result<(), JournalFault> {
        if self.broken {
            return Err(JournalFault::Broken);
        }
        if let Err(error) = fault!("journal.sync", sync).and_then(|()| disk::sync(&self.file)) {
            self.broken = true;
            return Err(JournalFault::io(format!("bringing the journal {} onto the disk", self.path.display()))(error));
        }
        self.durable = self.written;
        fault!("journal.synced");
        Ok(())
    }
}

#[cfg(not(feature = "faults"))]
fn write(file: &mut fs::File, bytes: &[u8]) -> std::io::Result<()> {
    file.write_all(bytes)
}

/// In two pieces: a program can be killed, and a disk be full, in the middle of a record.
#[cfg(feature = "faults")]
fn write(file: &mut fs::File, bytes: &[u8]) -> std::io::Result<()> {
    let (first, rest) = bytes.split_at(bytes.len() / 2);
    fault!("journal.append", io)?;
    file.write_all(first)?;
    fault!("journal.torn", io)?;
    file.write_all(rest)
}

fn read_file(path: &Path) -> Result<(Vec<Record>, u64), JournalFault> {
    let doing = || format!("reading the journal {}", path.display());
    let damaged = |why: String| JournalFault::Damaged { path: path.to_owned(), why };
    let file = open_regular(path).map_err(JournalFault::io(doing()))?;
    let mut bytes = Vec::new();
    file.take(JOURNAL_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(JournalFault::io(doing()))?;
    if bytes.len() as u64 > JOURNAL_BYTES_MAX {
        return Err(damaged("is too long to be a journal".into()));
    }
    let read = record::read(&bytes).map_err(|damage| {
        damaged(match damage {
            Damage::Magic => "is no journal of this version".into(),
            Damage::Record(no) => format!("is damaged at record {no}, which had been written whole"),
        })
    })?;
    Ok((read.records, read.bytes as u64))
}
