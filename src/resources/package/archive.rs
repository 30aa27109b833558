//! Package files on the host's own disk, for versions that the repositories no longer have.

use crate::{base::ByteText, resources::package::apt, target::Probe};

/// The folders where package files may be found, best first.
const FOLDERS: [&str; 1] = [apt::ARCHIVES];

/// The package file of a version, if the host still has it: `NAME_VERSION_ARCHITECTURE.deb`, colons written `%3a`.
pub(super) fn find(probe: &Probe, package: &str, version: &str) -> Option<String> {
    let (name, architecture) = package.split_once(':').unwrap_or((package, ""));
    let beginning = format!("{name}_{}_", version.replace(':', "%3a"));
    FOLDERS.iter().flat_map(|folder| probe.list(&ByteText::from(*folder)).unwrap_or_default()).find_map(|file| {
        let path = file.as_path().to_str()?;
        let rest = path.rsplit('/').next()?.strip_prefix(&beginning)?.strip_suffix(".deb")?;
        (architecture.is_empty() || rest == architecture).then(|| path.to_owned())
    })
}
