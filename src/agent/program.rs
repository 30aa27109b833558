//! The agent's own program: what it is, and that it is whole.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
};

use crate::base::Digest;

/// SHA-256 of the program that runs.
pub(super) fn own_digest() -> io::Result<Digest> {
    Digest::of_reader(fs::File::open("/proc/self/exe")?).map(|(digest, _)| digest)
}

/// Permission bits of a program that was found to be what its name says, and brought onto the disk: nobody writes to
/// it any more.
const CHECKED: u32 = 0o500;

/// SHA-256 of the program that runs, as far as it has to be worked out: where it was put under its digest's name, the
/// first start checks that, and sees to it that a power cut cannot take any of it back.
pub(super) fn known_digest() -> io::Result<Digest> {
    let file = fs::File::open("/proc/self/exe")?;
    let named = fs::read_link("/proc/self/exe")?
        .file_name()
        .and_then(|name| name.to_str()?.strip_prefix("agent-")?.parse().ok());
    let found = file.metadata()?;
    let is_own = found.uid() == rustix::process::geteuid().as_raw();
    if let Some(named) = named
        && is_own
        && found.mode() & 0o7777 == CHECKED
    {
        return Ok(named);
    }
    let digest = own_digest()?;
    if named == Some(digest) && is_own {
        // Where it cannot be done, the next start checks again.
        let _checked_again = file.sync_all().and_then(|()| file.set_permissions(fs::Permissions::from_mode(CHECKED)));
    }
    Ok(digest)
}
