//! Facts: read from the kernel and a few files, in milliseconds. Nothing is started for them.

use std::{fs, io::Read, os::unix::fs::MetadataExt, path::Path};

use crate::model::facts::{Facts, Mount};

/// Bytes of any one file that are read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Mounts and addresses that are told.
const MOUNTS_MAX: usize = 1024;
const ADDRESSES_MAX: usize = 256;

/// What is true of the machine below `root`.
pub fn gather(root: &Path) -> Facts {
    let host = Host { root };
    let uname = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let release = Release::of(&host);
    let uid = rustix::process::geteuid().as_raw();
    let (user, home) = host.user(uid);
    let memory = rustix::system::sysinfo();
    Facts {
        hostname: text(uname.nodename()),
        distribution: release.value("ID").unwrap_or_else(|| "unknown".into()),
        distribution_like: words(&release.value("ID_LIKE").unwrap_or_default()),
        distribution_version: release.value("VERSION_ID").unwrap_or_default(),
        distribution_codename: release.value("VERSION_CODENAME").unwrap_or_default(),
        os: text(uname.sysname()).to_lowercase(),
        kernel: text(uname.release()),
        arch: text(uname.machine()),
        cpus: host.cpus(),
        memory_mb: (memory.totalram as u64).saturating_mul(u64::from(memory.mem_unit)) >> 20,
        mounts: host.mounts(),
        addresses: host.addresses(),
        init: host.init().into(),
        package_manager: host.package_manager().into(),
        state_dir: host.state_dir(uid, &home),
        user,
        is_root: uid == 0,
        home,
        boot_id: host.read("proc/sys/kernel/random/boot_id").trim().to_owned(),
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Whether a folder for state lies where every user can make folders.
pub(super) fn is_public(state_dir: &str) -> bool {
    state_dir.starts_with("/var/tmp/")
}

struct Host<'a> {
    root: &'a Path,
}

impl Host<'_> {
    /// A file's beginning as text; empty where it cannot be read.
    fn read(&self, path: &str) -> String {
        let mut bytes = Vec::new();
        let _unreadable_is_empty =
            fs::File::open(self.root.join(path)).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn has(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// The login name and home of a user, as passwd has them.
    fn user(&self, uid: u32) -> (String, String) {
        let number = uid.to_string();
        let passwd = self.read("etc/passwd");
        let of_user = |line: &str| {
            let fields: Vec<&str> = line.split(':').collect();
            match fields[..] {
                [name, _, own, _, _, home, ..] if own == number => Some((name.to_owned(), home.to_owned())),
                _ => None,
            }
        };
        let home = || std::env::var("HOME").ok().filter(|home| home.starts_with('/')).unwrap_or_else(|| "/".into());
        passwd.lines().find_map(of_user).unwrap_or_else(|| (number.clone(), home()))
    }

    /// Where programs of this user keep state. Users of services often have a home that is not theirs, or is not there.
    fn state_dir(&self, uid: u32, home: &str) -> String {
        if uid == 0 {
            return "/var/lib".into();
        }
        let given = std::env::var("XDG_STATE_HOME").ok().filter(|path| path.starts_with('/'));
        let owns = || fs::metadata(home).is_ok_and(|found| found.is_dir() && found.uid() == uid);
        given.unwrap_or_else(|| match self.root != Path::new("/") || owns() {
            true => format!("{}/.local/state", home.trim_end_matches('/')),
            false => format!("/var/tmp/rollbook-{uid}"),
        })
    }

    fn cpus(&self) -> u32 {
        let online = self.read("sys/devices/system/cpu/online");
        match count_ranges(online.trim()) {
            Some(count @ 1..) => count,
            _ => std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1)),
        }
    }

    fn mounts(&self) -> Vec<Mount> {
        self.read("proc/self/mounts").lines().filter_map(mounted).take(MOUNTS_MAX).collect()
    }

    fn addresses(&self) -> Vec<String> {
        let mut found = addresses_v4(&self.read("proc/net/fib_trie"));
        found.extend(addresses_v6(&self.read("proc/net/if_inet6")));
        found.truncate(ADDRESSES_MAX);
        found
    }

    fn init(&self) -> &'static str {
        let first = self.read("proc/1/comm");
        match first.trim() {
            _ if self.has("run/systemd/system") => "systemd",
            _ if self.has("run/openrc") => "openrc",
            "runit" | "runit-init" => "runit",
            "busybox" => "busybox",
            "init" if self.is_busybox("sbin/init") => "busybox",
            "init" if self.has("etc/inittab") || self.has("etc/init.d") => "sysvinit",
            _ => "unknown",
        }
    }

    fn is_busybox(&self, path: &str) -> bool {
        fs::read_link(self.root.join(path)).is_ok_and(|target| target.ends_with("busybox"))
    }

    fn package_manager(&self) -> &'static str {
        let known = [
            ("apt", ["usr/bin/apt-get", "usr/bin/dpkg"]),
            ("dnf", ["usr/bin/dnf", "usr/bin/rpm"]),
            ("zypper", ["usr/bin/zypper", "usr/bin/rpm"]),
            ("pacman", ["usr/bin/pacman", "usr/bin/pacman"]),
            ("apk", ["sbin/apk", "sbin/apk"]),
            ("apk", ["usr/bin/apk", "usr/bin/apk"]),
        ];
        known.iter().find(|(_, paths)| paths.iter().all(|path| self.has(path))).map_or("unknown", |(name, _)| name)
    }
}

/// os-release: `NAME=value` lines, the value quoted as in a shell.
struct Release(String);

impl Release {
    fn of(host: &Host<'_>) -> Release {
        let own = host.read("etc/os-release");
        Release(if own.is_empty() { host.read("usr/lib/os-release") } else { own })
    }

    fn value(&self, name: &str) -> Option<String> {
        let raw = self.0.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='))?;
        shlex::split(raw)?.into_iter().next().filter(|value| !value.is_empty())
    }
}

/// How many numbers `0-3,5` names.
fn count_ranges(text: &str) -> Option<u32> {
    text.split(',').try_fold(0u32, |sum, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let count = last.parse::<u32>().ok()?.checked_sub(first.parse().ok()?)?.checked_add(1)?;
        sum.checked_add(count)
    })
}

/// A line of /proc/self/mounts: device, path, type, options; blanks in them as `\040`.
fn mounted(line: &str) -> Option<Mount> {
    let mut fields = line.split(' ').map(unescape);
    let (device, path, fstype, options) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    Some(Mount { path, fstype, device, options: options.split(',').map(str::to_owned).collect() })
}

/// Octal escapes of three digits.
fn unescape(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, tail @ ..] = rest {
        let code = tail.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The machine's own IPv4 addresses in /proc/net/fib_trie: a line `|-- address` before one that says `/32 host LOCAL`.
fn addresses_v4(trie: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut last = "";
    for line in trie.lines() {
        if let Some((_, address)) = line.split_once("|-- ") {
            last = address.trim();
        } else if line.contains("/32 host LOCAL")
            && !last.starts_with("127.")
            && last.parse::<std::net::Ipv4Addr>().is_ok()
            && !found.iter().any(|known| known == last)
        {
            found.push(last.to_owned());
        }
    }
    found
}

/// The machine's IPv6 addresses of global scope in /proc/net/if_inet6: address, index, prefix, scope, flags, name.
fn addresses_v6(table: &str) -> Vec<String> {
    let address = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields[..] {
            [hex, _, _, "00", _, name] if name != "lo" => {
                let bits = u128::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 32)?;
                Some(std::net::Ipv6Addr::from(bits).to_string())
            }
            _ => None,
        }
    };
    table.lines().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tables_are_read() {
        assert_eq!(count_ranges("0-3,5"), Some(5));
        assert_eq!(count_ranges("3-0"), None);
        let line = r"/dev/sda1 /mnt/with\040blank ext4 rw,relatime 0 0";
        assert_eq!(mounted(line).unwrap().path, "/mnt/with blank");
        let trie = "Local:\n  |-- 10.0.0.5\n     /32 host LOCAL\n  |-- 10.0.0.0\n     /24 link UNICAST\n  |-- 127.0.0.1\n     /32 host LOCAL\n";
        assert_eq!(addresses_v4(trie), ["10.0.0.5"]);
        let table = "20010db8000000000000000000000001 02 40 00 80 eth0\nfe800000000000000000000000000001 02 40 20 80 eth0\n00000000000000000000000000000001 01 80 10 80 lo\n";
        assert_eq!(addresses_v6(table), ["2001:db8::1"]);
    }

    #[test]
    fn a_made_up_host_is_told_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let uid = rustix::process::geteuid().as_raw();
        write("etc/os-release", "NAME='A  B'\nID=\"debian\"\nID_LIKE='x y'\nVERSION_ID=12\n");
        write("etc/passwd", &format!("else:x:{}::::\nann:x:{uid}:0:Ann:/home/ann:/bin/sh\n", uid + 1));
        write("usr/bin/apt-get", "");
        write("usr/bin/dpkg", "");
        write("proc/1/comm", "init\n");
        write("etc/inittab", "");
        let facts = gather(root.path());
        assert_eq!((facts.distribution.as_str(), facts.distribution_version.as_str()), ("debian", "12"));
        assert_eq!(facts.distribution_like, ["x", "y"]);
        assert_eq!((facts.user.as_str(), facts.home.as_str()), ("ann", "/home/ann"));
        assert_eq!((facts.package_manager.as_str(), facts.init.as_str()), ("apt", "sysvinit"));
        assert!(facts.cpus > 0 && facts.memory_mb > 0);
    }

    #[test]
    fn hostile_files_are_bounded() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/self")).unwrap();
        fs::write(root.path().join("proc/self/mounts"), "d /p t o 0 0\n".repeat(200_000)).unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/os-release"), "ID='unclosed\n").unwrap();
        let facts = gather(root.path());
        assert_eq!(facts.mounts.len(), MOUNTS_MAX);
        assert_eq!(facts.distribution, "unknown");
    }
}
