//! Journals, read by other eyes than the agent's: docs/journal-format.md, written down once more.

use std::{fs, path::Path};

use serde_json::Value;

/// What is in an agent's store.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// Runs that are open, with their records. One whose journal is closed, or was never begun, is only to be tidied up.
    pub(crate) open: Vec<Journal>,
    /// Runs that were closed.
    pub(crate) closed: Vec<Journal>,
    /// Folders that a next run tidies up.
    pub(crate) untidy: Vec<String>,
}

/// A run's journal.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) run: String,
    /// `(kind, fields)` of each record.
    pub(crate) records: Vec<(String, Value)>,
}

impl Journal {
    /// How the run ended, by its last record.
    pub(crate) fn outcome(&self) -> Option<&str> {
        let (kind, fields) = self.records.last()?;
        (kind == "closed").then(|| fields["outcome"].as_str().unwrap())
    }

    /// Whether a path was to be changed.
    pub(crate) fn names(&self, path: &str) -> bool {
        let is_of = |fields: &Value| fields["deed"].to_string().contains(&format!("\"{path}\""));
        self.records.iter().any(|(kind, fields)| kind == "armed" && is_of(fields))
    }
}

impl Book {
    /// Reads all journals. The error says what no crash may leave behind.
    pub(crate) fn read(store: &Path) -> Result<Book, String> {
        let mut book = Book::default();
        let Ok(entries) = fs::read_dir(store.join("runs")) else { return Ok(book) };
        for entry in entries {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let is_open = name.ends_with(".open");
            let Some(bytes) = fs::read(path.join("journal")).ok() else {
                if is_open {
                    book.untidy.push(name);
                }
                continue;
            };
            let records = records(&bytes).map_err(|why| format!("{name}: {why}"))?;
            let journal = Journal { run: name.trim_end_matches(".open").to_owned(), records };
            match (journal.records.is_empty(), journal.outcome().is_some()) {
                (true, _) => book.untidy.push(name),
                (_, true) => {
                    if is_open {
                        book.untidy.push(name);
                    } else if path.join("blobs").exists() {
                        return Err(format!("{name}: its blobs are still there"));
                    }
                    book.closed.push(journal);
                }
                (_, false) if is_open => book.open.push(journal),
                (_, false) => return Err(format!("{name} is settled, and its journal is not closed")),
            }
        }
        Ok(book)
    }
}

/// The records of a journal; a torn last one is left out.
fn records(bytes: &[u8]) -> Result<Vec<(String, Value)>, String> {
    let magic = b"RBJRNL\n\x01";
    let Some(mut rest) = bytes.strip_prefix(magic) else {
        return if magic.starts_with(bytes) { Ok(Vec::new()) } else { Err("no magic".into()) };
    };
    let (mut found, mut durable) = (Vec::new(), 0);
    while rest.len() >= 8 {
        let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
        let (length, sum) = (word(0) as usize, word(4));
        let Some(payload) = rest[8..].get(..length) else { break };
        if crc32(payload) != sum {
            return Err(format!("record {} does not add up", found.len()));
        }
        let value: Value = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
        if value["no"] != found.len() {
            return Err(format!("record {} says that it is {}", found.len(), value["no"]));
        }
        let own = value["durable"].as_u64().ok_or("a record without its count")?;
        if own < durable || own > found.len() as u64 {
            return Err(format!("record {} believes {own} to be on the disk, after {durable}", found.len()));
        }
        durable = own;
        let (kind, fields) = value["record"].as_object().and_then(|map| map.iter().next()).ok_or("an empty record")?;
        found.push((kind.clone(), fields.clone()));
        rest = &rest[8 + length..];
    }
    follows(&found).map(|()| found)
}

/// Whether the records make sense in their order.
fn follows(records: &[(String, Value)]) -> Result<(), String> {
    let mut entries: Vec<&str> = Vec::new();
    for (at, (kind, fields)) in records.iter().enumerate() {
        let wrong = || Err(format!("record {at}, {kind}, does not follow from those before it"));
        if (kind == "opened") != (at == 0) || (kind == "closed" && at + 1 != records.len()) {
            return wrong();
        }
        match kind.as_str() {
            "armed" if fields["no"] == entries.len() => entries.push("armed"),
            "armed" => return wrong(),
            "sealed" | "missed" | "undone" => {
                let Some(entry) = fields["entry"].as_u64().and_then(|no| entries.get_mut(no as usize)) else {
                    return wrong();
                };
                if kind != "undone" && *entry != "armed" {
                    return wrong();
                }
                *entry = if kind == "undone" { "undone" } else { "done" };
            }
            _ => {}
        }
    }
    Ok(())
}

/// CRC-32 as IEEE 802.3 has it, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1));
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}
