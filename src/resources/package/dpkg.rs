//! dpkg's database, read from its own files: one look costs a scan of a few megabytes and starts no program.
//!
//! `/var/lib/dpkg/status` holds a stanza for each package; `/var/lib/dpkg/updates/` holds newer ones while dpkg works
//! and after it was cut short; `/var/lib/apt/extended_states` says what was installed only as a dependency.

use std::io;

use crate::{base::ByteText, model::state::PackageState, resources::Halt, target::Probe};

/// The database of installed packages.
pub(super) const STATUS: &str = "/var/lib/dpkg/status";

/// Where dpkg keeps stanzas that are not in [`STATUS`] yet.
const UPDATES: &str = "/var/lib/dpkg/updates";

/// The files of each package that dpkg keeps for itself.
pub(super) const INFO: &str = "/var/lib/dpkg/info";

/// What apt knows of packages beyond dpkg.
const EXTENDED_STATES: &str = "/var/lib/apt/extended_states";

/// The package whose architecture is the host's own.
const DPKG: &str = "dpkg";

/// What dpkg and apt know of the installed packages.
pub(super) struct Database {
    status: String,
    extended: String,
    native: String,
}

impl Database {
    /// Reads the database of a host.
    pub(super) fn read(probe: &Probe) -> Result<Self, Halt> {
        let mut status = text(probe, STATUS)?;
        for update in updates(probe)? {
            status.push('\n');
            status.push_str(&text(probe, &update.to_string())?);
        }
        Ok(Database::of(&status, &text(probe, EXTENDED_STATES)?))
    }

    /// Takes in the texts of the database's files.
    fn of(status: &str, extended: &str) -> Self {
        let mut database =
            Database { status: format!("\n{status}"), extended: format!("\n{extended}"), native: String::new() };
        let own = Stanzas { text: &database.status, name: DPKG }.filter_map(|own| own.field("Architecture")).last();
        database.native = own.unwrap_or("all").to_owned();
        database
    }

    /// The stanza of a package, named as apt names it: a foreign one as `name:architecture`.
    pub(super) fn find(&self, package: &str) -> Option<Stanza<'_>> {
        let (name, wanted) = match package.split_once(':') {
            Some((name, architecture)) => (name, Some(architecture)),
            None => (package, None),
        };
        let fits = |stanza: &Stanza<'_>| match (stanza.field("Architecture"), wanted) {
            (Some(found), Some(wanted)) => found == wanted,
            (Some(found), None) => found == self.native || found == "all",
            (None, wanted) => wanted.is_none_or(|wanted| wanted == self.native),
        };
        Stanzas { text: &self.status, name }.filter(fits).last()
    }

    /// The state of a package.
    pub(super) fn state(&self, package: &str) -> PackageState {
        let Some(stanza) = self.find(package) else { return PackageState::default() };
        let mut words = stanza.field("Status").unwrap_or_default().split(' ');
        let (want, flag, status) = (words.next(), words.next(), words.next().unwrap_or_default());
        let version = stanza.field("Version").map(str::to_owned);
        let mut state = PackageState { held: want == Some("hold"), ..PackageState::default() };
        match status {
            "installed" if flag != Some("reinstreq") => {
                state.automatic = self.is_automatic(&stanza);
                state.version = version;
            }
            "config-files" => state.residue = true,
            "not-installed" | "" => {}
            other => state.unfinished = Some(other.to_owned()),
        }
        state
    }

    /// apt keeps a package that is for all architectures under the host's own.
    fn is_automatic(&self, stanza: &Stanza<'_>) -> bool {
        let architecture = stanza.field("Architecture").filter(|found| *found != "all").unwrap_or(&self.native);
        let name = stanza.field("Package").unwrap_or_default();
        let mut of_package = Stanzas { text: &self.extended, name };
        of_package.any(|found| {
            found.field("Architecture") == Some(architecture) && found.field("Auto-Installed") == Some("1")
        })
    }
}

/// The names of the packages that dpkg was at work on when it was cut short (or is at work on).
pub(super) fn interrupted(probe: &Probe) -> Result<Vec<String>, Halt> {
    let mut names = Vec::new();
    for update in updates(probe)? {
        let text = text(probe, &update.to_string())?;
        names.extend(text.lines().filter_map(|line| line.strip_prefix("Package: ")).map(str::to_owned));
    }
    Ok(names)
}

/// Files with newer stanzas, oldest first: their names are numbers of one width.
fn updates(probe: &Probe) -> Result<Vec<ByteText>, Halt> {
    let found = match probe.list(&UPDATES.into()) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Halt::io(format_args!("listing {UPDATES}"), &error)),
    };
    let is_number = |path: &ByteText| {
        let name = path.as_path().file_name().and_then(|name| name.to_str()).unwrap_or_default();
        !name.is_empty() && name.bytes().all(|digit| digit.is_ascii_digit())
    };
    Ok(found.into_iter().filter(is_number).collect())
}

fn text(probe: &Probe, path: &str) -> Result<String, Halt> {
    match probe.read(&path.into()) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Halt::io(format_args!("reading {path}"), &error)),
    }
}

/// The stanzas of one package, in the order of the text. The text begins with a line end.
struct Stanzas<'text, 'name> {
    text: &'text str,
    name: &'name str,
}

impl<'text> Iterator for Stanzas<'text, '_> {
    type Item = Stanza<'text>;

    fn next(&mut self) -> Option<Stanza<'text>> {
        let at = self.text.find(&format!("\nPackage: {}\n", self.name))? + 1;
        let rest = &self.text[at..];
        let end = rest.find("\n\n").map_or(rest.len(), |end| end + 1);
        self.text = &rest[end.saturating_sub(1)..];
        Some(Stanza(&rest[..end]))
    }
}

/// What is known of one package.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stanza<'a>(&'a str);

impl<'a> Stanza<'a> {
    /// Its configuration files: lines as ` /etc/app.conf 773fb95e98a27947de4a95abb3d3f2a2 obsolete`.
    pub(super) fn conffiles(&self) -> Vec<&'a str> {
        let lines = self.0.lines().skip_while(|line| *line != "Conffiles:").skip(1);
        let lines = lines.take_while(|line| line.starts_with(' ')).map(str::trim);
        lines.filter_map(|line| Some(line.strip_suffix(" obsolete").unwrap_or(line).rsplit_once(' ')?.0)).collect()
    }

    /// The first line of a field.
    pub(super) fn field(&self, name: &str) -> Option<&'a str> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From a Debian 12 host, fields left out; rbbroken's stanza is the newer one of `updates/`.
    const STATUS: &str = "\
Package: adduser
Status: install ok installed
Architecture: all
Multi-Arch: foreign
Version: 3.134
Conffiles:
 /etc/deluser.conf 773fb95e98a27947de4a95abb3d3f2a2
Description: add and remove users and groups
 Package: rbdemo
 is not about that.

Package: bash
Essential: yes
Status: install ok installed
Architecture: amd64
Version: 5.2.15-2+b13

Package: dpkg
Status: install ok installed
Architecture: amd64
Version: 1.21.22

Package: libc6
Status: install ok installed
Architecture: i386
Multi-Arch: same
Version: 2.35-1

Package: rbdemo
Status: hold ok installed
Architecture: all
Version: 1.0

Package: rbdep
Status: deinstall ok config-files
Architecture: all
Version: 1.0

Package: rbbroken
Status: install ok unpacked
Architecture: all
Version: 1.0

Package: gone
Status: hold ok not-installed
Architecture: amd64

Package: rbbroken
Status: install ok half-configured
Architecture: all
Version: 1.0
";

    const EXTENDED: &str = "\
Package: bash
Architecture: i386
Auto-Installed: 1

Package: adduser
Architecture: amd64
Auto-Installed: 1
";

    #[test]
    fn states_are_read_from_the_database() {
        let database = Database::of(STATUS, EXTENDED);
        let state = |name: &str| database.state(name);
        let none = PackageState::default();
        let at = |version: &str| PackageState { version: Some(version.into()), ..PackageState::default() };
        assert_eq!(state("bash"), at("5.2.15-2+b13"));
        assert_eq!(state("adduser"), PackageState { automatic: true, ..at("3.134") });
        assert_eq!(state("rbdemo"), PackageState { held: true, ..at("1.0") });
        assert_eq!(state("rbdep"), PackageState { residue: true, ..none.clone() });
        assert_eq!(state("rbbroken"), PackageState { unfinished: Some("half-configured".into()), ..none.clone() });
        assert_eq!(state("gone"), PackageState { held: true, ..none.clone() });
        assert_eq!(state("libc6:i386"), at("2.35-1"));
        for absent in ["libc6", "libc6:amd64", "bas", "ash", "nosuch", "bash:i386"] {
            assert_eq!(state(absent), none, "{absent}");
        }
    }

    #[test]
    fn a_torn_database_is_read_as_far_as_it_goes() {
        let database = Database::of("\n\nPackage: a\n\nPackage: b\nStatus: install", "");
        assert_eq!(database.state("a"), PackageState::default());
        assert_eq!(database.state("b"), PackageState::default());
        assert_eq!(Database::of("", "").state("a"), PackageState::default());
    }
}
