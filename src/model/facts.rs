//! What is true of a host, as templates see it under `facts`.

use serde::{Deserialize, Serialize};

/// Facts of a host, read by the agent from the kernel and a few files. Nothing is started for them.
/// Texts are the host's own and hostile until shown escaped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The host's own name (`uname -n`).
    pub hostname: String,
    /// `ID` of os-release: `debian`, `fedora`, `alpine`; `unknown` without one.
    pub distribution: String,
    /// `ID_LIKE` of os-release, split.
    pub distribution_like: Vec<String>,
    /// `VERSION_ID` of os-release; may be empty.
    pub distribution_version: String,
    /// `VERSION_CODENAME` of os-release; may be empty.
    pub distribution_codename: String,
    /// `linux`.
    pub os: String,
    /// The kernel's release (`uname -r`).
    pub kernel: String,
    /// The machine (`uname -m`): `x86_64`, `aarch64`.
    pub arch: String,
    /// Processors that are online.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mb: u64,
    /// Mounted file systems.
    pub mounts: Vec<Mount>,
    /// Addresses of all interfaces but loopback, IPv4 first.
    pub addresses: Vec<String>,
    /// `systemd`, `sysvinit`, `openrc`, `busybox`, `runit` or `unknown`.
    pub init: String,
    /// `apt`, `dnf`, `zypper`, `pacman`, `apk` or `unknown`.
    pub package_manager: String,
    /// The login name that the agent runs as.
    pub user: String,
    /// Whether that is root.
    pub is_root: bool,
    /// That user's home directory.
    pub home: String,
    /// Where that user's programs keep state: `/var/lib` for root, else `$XDG_STATE_HOME` or `~/.local/state`, and
    /// `/var/tmp/rollbook-UID` for a user without a home of its own.
    pub state_dir: String,
    /// The kernel's boot id: changes at every boot.
    pub boot_id: String,
}

/// A mounted file system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mount {
    /// Where.
    pub path: String,
    /// The file system's type.
    pub fstype: String,
    /// What is mounted.
    pub device: String,
    /// Mount options.
    pub options: Vec<String>,
}
