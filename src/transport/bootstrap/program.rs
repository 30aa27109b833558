//! The agent program: the one that was named, the one inside this program, or the one beside it.

use std::{
    borrow::Cow,
    collections::HashMap,
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use flate2::{Compression, write::GzEncoder};

use crate::base::{Digest, Fault};

#[cfg(rollbook_embedded_agent)]
static EMBEDDED: Option<&[u8]> = Some(include_bytes!(env!("ROLLBOOK_AGENT_FILE")));
#[cfg(not(rollbook_embedded_agent))]
static EMBEDDED: Option<&[u8]> = None;

/// Programs of more bytes hold what only a debugger needs: they are a developer's, and are not sent far.
const PACKED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// An agent program.
pub(in crate::transport) struct Program {
    /// All of it.
    pub(super) bytes: Cow<'static, [u8]>,
    /// Its digest, by which it is named on the target.
    pub(super) digest: Digest,
    /// The machine that it is made for, as `uname -m` would say; none if that cannot be told.
    pub(super) machine: Option<&'static str>,
    /// Its file on this machine, if it lies in one.
    pub(super) file: Option<PathBuf>,
    packed: OnceLock<Vec<u8>>,
}

impl Program {
    fn new(bytes: Cow<'static, [u8]>, file: Option<PathBuf>) -> Self {
        let digest = match (&file, option_env!("ROLLBOOK_AGENT_DIGEST")) {
            // Worked out when this program was built.
            (None, Some(known)) => known.parse().unwrap_or_else(|_| Digest::of(&bytes)),
            _ => Digest::of(&bytes),
        };
        Program { digest, machine: machine(&bytes), bytes, file, packed: OnceLock::new() }
    }

    /// Whether it is worth while to pack it.
    pub(super) fn can_be_packed(&self) -> bool {
        self.bytes.len() <= PACKED_BYTES_MAX
    }

    /// All of it, as `gzip` unpacks it: half of the bytes. Worked out once.
    pub(super) fn packed(&self) -> &[u8] {
        self.packed.get_or_init(|| {
            let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
            packer.write_all(&self.bytes).expect("memory takes everything");
            packer.finish().expect("memory takes everything")
        })
    }
}

/// The agent programs that were read, by their files. Shared by all connections of a run: a thousand hosts read and
/// digest it once.
#[derive(Clone, Default)]
pub(in crate::transport) struct Programs(Arc<Mutex<HashMap<Option<PathBuf>, Arc<Program>>>>);

impl Programs {
    /// The agent program to use, where `named` is the one that was asked for.
    pub(super) fn take(&self, named: Option<&Path>) -> Result<Arc<Program>, Fault> {
        let file = match (named, EMBEDDED) {
            (Some(path), _) => Some(path.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some(beside()?),
        };
        let mut programs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = programs.get(&file) {
            return Ok(Arc::clone(program));
        }
        let program = Arc::new(match (&file, EMBEDDED) {
            (None, Some(bytes)) => Program::new(Cow::Borrowed(bytes), None),
            (file, _) => read(file.as_deref().unwrap_or(Path::new("")))?,
        });
        programs.insert(file, Arc::clone(&program));
        Ok(program)
    }
}

/// Where cargo puts it: in the folder of this program; for a test, one folder up.
fn beside() -> Result<PathBuf, Fault> {
    let exe =
        env::current_exe().map_err(|error| Fault::internal("cannot tell where this program is").because(&error))?;
    let mut folders = exe.ancestors().skip(1).take(2).map(|folder| folder.join("rollbook-agent"));
    let first = folders.next().unwrap_or_default();
    Ok(if first.exists() { first } else { folders.next().filter(|path| path.exists()).unwrap_or(first) })
}

fn read(path: &Path) -> Result<Program, Fault> {
    let bytes = fs::read(path).map_err(|error| {
        Fault::internal(format!("there is no agent program at {}", path.display()))
            .because(&error)
            .hint("build it with `cargo build --bins`, or use a release build, which carries it inside")
    })?;
    Ok(Program::new(Cow::Owned(bytes), Some(path.to_owned())))
}

/// The machine that an ELF file is made for, by `uname -m`'s names.
/// The numbers are those of the ELF specification's `e_machine`.
fn machine(program: &[u8]) -> Option<&'static str> {
    let header = program.get(..20).filter(|header| header.starts_with(b"\x7fELF"))?;
    let number = match header[5] {
        1 => u16::from_le_bytes([header[18], header[19]]),
        _ => u16::from_be_bytes([header[18], header[19]]),
    };
    Some(match number {
        3 => "i686",
        21 => "ppc64le",
        22 => "s390x",
        40 => "armv7l",
        62 => "x86_64",
        183 => "aarch64",
        243 => "riscv64",
        258 => "loongarch64",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_of_a_program_is_known() {
        let own = fs::read(env::current_exe().unwrap()).unwrap();
        assert_eq!(machine(&own), Some(env::consts::ARCH));
        assert_eq!(machine(b"#!/bin/sh\n"), None);
    }

    #[test]
    fn a_program_is_read_once_and_a_missing_one_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent");
        let programs = Programs::default();
        let fault = programs.take(Some(&path)).err().unwrap();
        assert!(fault.message.contains("no agent program at"), "{fault}");
        fs::write(&path, "one").unwrap();
        let first = programs.take(Some(&path)).unwrap();
        fs::write(&path, "two").unwrap();
        assert_eq!(programs.take(Some(&path)).unwrap().digest, first.digest);
        assert_eq!(first.digest, Digest::of(b"one"));
    }
}
