//! What this target has seen of the record's chain, so that a cut tail of the record shows.

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crate::{
    base::point::fault,
    model::witness::Witness,
    target::{disk, journal::fault::JournalFault, probe::open_regular},
};

/// How many are told; the newest. The file is cut down to them when it is twice as long.
pub const WITNESSES_MAX: usize = 1000;

/// The longest file that is read.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Keeps a witness, one JSON line each, and brings it onto the disk.
pub(super) fn keep(path: &Path, witness: &Witness) -> Result<(), JournalFault> {
    let doing = || JournalFault::io(format!("keeping the record's witness in {}", path.display()));
    let mut kept = read(path)?;
    if kept.last() == Some(witness) {
        return Ok(());
    }
    kept.push(witness.clone());
    if kept.len() >= 2 * WITNESSES_MAX {
        return rewrite(path, &kept[kept.len() - WITNESSES_MAX..]).map_err(doing());
    }
    let is_new = kept.len() == 1;
    let mut file = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(doing())?;
    // The line break comes first: it ends a line that a crash may have torn.
    fault!("witness.append", io)
        .and_then(|()| file.write_all(format!("\n{}", line(witness)).as_bytes()))
        .and_then(|()| fault!("witness.sync", sync))
        .and_then(|()| disk::sync(&file))
        .map_err(doing())?;
    match path.parent() {
        Some(folder) if is_new => crate::target::folder::sync_folder(folder).map_err(doing()),
        _ => Ok(()),
    }
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
    Ok(bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
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
        let many: String = (0..1999).map(|seq| line(&witness(seq)) + "\n").collect();
        fs::write(&path, many).unwrap();
        keep(&path, &witness(5000)).unwrap();
        let kept = read(&path).unwrap();
        assert_eq!((kept.len(), kept.last()), (WITNESSES_MAX, Some(&witness(5000))));
    }
}
