//! What this target has seen of the record's chain, so that a cut tail of the record shows.

use std::{
    fs,
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crate::{
    base::point::fault,
    model::witness::Witness,
    target::{disk, journal::fault::JournalFault, probe::open_regular},
};

/// How many are told; the newest.
pub const WITNESSES_MAX: usize = 1000;

/// A file of so many bytes is cut down to [`WITNESSES_MAX`] of them. It holds about twice as many then.
const CUT_FROM_BYTES: u64 = 300 * 1024;

/// The longest file that is read.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The end of the file, in which its last witness stands.
const TAIL_BYTES: u64 = 4096;

/// Keeps a witness, one JSON line each, and brings it onto the disk, with those that were only noted.
pub(super) fn keep(path: &Path, witness: &Witness) -> Result<(), JournalFault> {
    let doing = || JournalFault::io(format!("keeping the record's witness in {}", path.display()));
    let file = append(path, witness).map_err(doing())?;
    if file.metadata().map_err(doing())?.len() >= CUT_FROM_BYTES {
        let kept = read(path)?;
        return rewrite(path, &kept[kept.len().saturating_sub(WITNESSES_MAX)..]).map_err(doing());
    }
    fault!("witness.sync", sync).and_then(|()| disk::sync(&file)).map_err(doing())
}

/// Notes a witness. It is brought onto the disk with the next one that is kept.
pub(super) fn note(path: &Path, witness: &Witness) -> Result<(), JournalFault> {
    let doing = || JournalFault::io(format!("noting the record's witness in {}", path.display()));
    append(path, witness).map(drop).map_err(doing())
}

/// Puts a witness behind the others, unless it is the last one already. A new file's name is on the disk then.
fn append(path: &Path, witness: &Witness) -> std::io::Result<fs::File> {
    fault!("witness.append", io)?;
    let mut file = fs::OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let bytes = file.metadata()?.len();
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(bytes.saturating_sub(TAIL_BYTES)))?;
    Read::by_ref(&mut file).take(TAIL_BYTES).read_to_end(&mut tail)?;
    if lines(&tail).last().as_ref() == Some(witness) {
        return Ok(file);
    }
    // The line break comes first: it ends a line that a crash may have torn.
    file.write_all(format!("\n{}", line(witness)).as_bytes())?;
    match path.parent() {
        Some(folder) if bytes == 0 => crate::target::folder::sync_folder(folder)?,
        _ => {}
    }
    Ok(file)
}

/// All witnesses of the file, oldest first. Lines that are none, such as a torn one, are passed over.
pub(super) fn read(path: &Path) -> Result<Vec<Witness>, JournalFault> {
    let mut bytes = Vec::new();
    match open_regular(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(JournalFault::io(format!("reading the record's witnesses in {}", path.display()))(error));
        }
    }
    Ok(lines(&bytes).collect())
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = Witness> {
    bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}

fn rewrite(path: &Path, witnesses: &[Witness]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(witnesses.iter().map(|witness| line(witness) + "\n").collect::<String>().as_bytes())?;
    fault!("witness.rewrite", sync)?;
    disk::sync(file.as_file())?;
    fault!("witness.replace", io)?;
    file.persist(path)?;
    crate::target::folder::sync_folder(folder)
}

fn line(witness: &Witness) -> String {
    serde_json::to_string(witness).expect("plain data")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Digest;

    fn witness(seq: u64) -> Witness {
        Witness { store: "s".into(), seq, hash: Digest::of(&seq.to_le_bytes()) }
    }

    #[test]
    fn the_newest_are_kept_and_a_torn_line_costs_only_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("witnesses");
        keep(&path, &witness(1)).unwrap();
        keep(&path, &witness(1)).unwrap();
        let torn = fs::read(&path).unwrap();
        fs::write(&path, [&torn[..], b"\n{\"store\":\"s\",\"se"].concat()).unwrap();
        keep(&path, &witness(2)).unwrap();
        assert_eq!(read(&path).unwrap(), [witness(1), witness(2)]);
        let many: String = (0..4000).map(|seq| line(&witness(seq)) + "\n").collect();
        assert!(many.len() as u64 >= CUT_FROM_BYTES);
        fs::write(&path, many).unwrap();
        keep(&path, &witness(5000)).unwrap();
        let kept = read(&path).unwrap();
        assert_eq!((kept.len(), kept.last()), (WITNESSES_MAX, Some(&witness(5000))));
    }

    #[test]
    fn what_was_noted_is_synced_with_what_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("witnesses");
        keep(&path, &witness(1)).unwrap();
        let before = disk::syncs();
        note(&path, &witness(2)).unwrap();
        assert_eq!(disk::syncs(), before);
        keep(&path, &witness(2)).unwrap();
        keep(&path, &witness(3)).unwrap();
        assert_eq!(disk::syncs(), before + 2);
        assert_eq!(read(&path).unwrap(), [witness(1), witness(2), witness(3)]);
    }
}
