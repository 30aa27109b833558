//! Packages that could not be had any more: what goes is kept before it goes, if no repository offers it, and comes back
//! from there. So do settings that a purge takes away.
//!
//! A package that was never downloaded, or whose file is gone, is built anew from what stands on the host. Where one of
//! its configuration files was edited, a stand-in is packed: dpkg must go on to see that file as edited.

use std::path::{Path, PathBuf};

use crate::{
    base::ByteText,
    model::event::Output,
    resources::{
        Halt,
        package::{
            apt,
            dpkg::{Database, Stanza},
        },
        program,
    },
    target::{Probe, Tools},
};

/// Builds a package's file in the folder `$1` from what stands on the host: the package `$2` for `$3`, under the name
/// `$4`. The other words are its edited configuration files. A folder that is a link by now (`/lib`) is made of what is
/// in it.
const PACK: &str = r#"
folder=$1 name=$2 architecture=$3 file=$4
shift 4
info=/var/lib/dpkg/info/$name
[ -e "$info.list" ] || info=$info:$architecture
if grep -Fxqf "$info.list" /var/lib/dpkg/diversions; then
  echo "one of its files is diverted: see dpkg-divert --list" >&2
  exit 1
fi
cd "$folder"
rm -rf tree
mkdir -m 755 tree tree/DEBIAN
while IFS= read -r path; do
  [ -e "$path" ] || [ -L "$path" ] || continue
  [ "$path" != /. ] || continue
  if [ -L "$path" ] && [ -d "$path" ] && grep -Fq "$path/" "$info.list"; then continue; fi
  printf '%s\n' "${path#/}"
done <"$info.list" >list
tar --create --file tree.tar --directory / --no-recursion --verbatim-files-from --files-from=list
tar --extract --file tree.tar --directory tree --preserve-permissions --same-owner --numeric-owner
for path; do
  mkdir -p "tree${path%/*}"
  echo "This stands for the original of a configuration file that was edited on this host." >"tree$path"
done
for kind in preinst postinst prerm postrm conffiles shlibs symbols triggers config templates; do
  [ ! -e "$info.$kind" ] || cp -p "$info.$kind" "tree/DEBIAN/$kind"
done
dpkg-query -s "$name:$architecture" >control 2>/dev/null || dpkg-query -s "$name" >control
sed -e '/^Status:/d' -e '/^Config-Version:/d' -e '/^Conffiles:/,/^[^ ]/{/^Conffiles:/d;/^ /d}' control >tree/DEBIAN/control
dpkg-deb -Zgzip -z1 --build tree new >/dev/null
sync new
mv new "$file"
rm -rf tree tree.tar list control
"#;

/// A package that goes: its name, its version, and whether its settings go with it.
pub(super) struct Leaving<'a> {
    pub(super) name: &'a str,
    pub(super) version: &'a str,
    pub(super) purged: bool,
}

/// Keeps what the way back will need and could not get elsewhere.
pub(super) fn keep(tools: &Tools<'_>, leaving: &[Leaving<'_>]) -> Result<(), Halt> {
    let Some(folder) = tools.packages_to_keep().filter(|_| !leaving.is_empty()) else { return Ok(()) };
    let names = || leaving.iter().map(|package| package.name);
    let look = |argv: Vec<&str>| {
        let call = program::look(argv.iter().copied());
        tools.probe().ask(&call).map_err(|error| Halt::io(format_args!("running {}", argv[0]), &error))
    };
    let edited = edited(&look(["dpkg", "--verify", "--"].into_iter().chain(names()).collect())?.stdout.text);
    let offered = look(["apt-cache", "madison", "--"].into_iter().chain(names()).collect())?;
    let keeper = Keeper { tools, database: Database::read(tools.probe())?, folder, edited };
    for package in leaving {
        if package.purged {
            keeper.settings(package)?;
        }
        if !is_offered(&offered.stdout.text, package) {
            let doing = |halt: Halt| {
                let Leaving { name, version, .. } = package;
                Halt::Failed(format!("nothing was done: {name} {version} cannot be kept for the way back: {halt}"))
            };
            keeper.package(package).map_err(doing)?;
        }
    }
    Ok(())
}

/// The configuration files that are not as their package brought them: lines as `??5?????? c /etc/app.conf`.
fn edited(verified: &str) -> Vec<String> {
    let is_edited = |state: &str| state == "missing" || state.contains('5');
    let path = |line: &str| {
        let (state, path) = line.split_once(" c ")?;
        is_edited(state.trim()).then(|| path.to_owned())
    };
    verified.lines().filter_map(path).collect()
}

/// Whether a line as `rbdemo | 1.1 | file:/srv/repo/deb ./ Packages` is about a package.
fn is_offered(madison: &str, package: &Leaving<'_>) -> bool {
    let plain = package.name.split(':').next().unwrap_or_default();
    madison.lines().any(|line| {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        matches!(columns[..], [name, version, source] if (name == package.name || name == plain)
            && version == package.version && source.ends_with("Packages"))
    })
}

struct Keeper<'a, 'journal> {
    tools: &'a Tools<'journal>,
    database: Database,
    folder: PathBuf,
    edited: Vec<String>,
}

impl Keeper<'_, '_> {
    fn run(&self, argv: &[&str]) -> Result<Output, Halt> {
        run(self.tools, argv)
    }

    fn make_folder(&self) -> Result<(), Halt> {
        self.run(&["mkdir", "-p", "-m", "700", "--", &text(&self.folder)]).map(drop)
    }

    /// Keeps the edited ones of a package's configuration files.
    fn settings(&self, package: &Leaving<'_>) -> Result<(), Halt> {
        let own = self.database.find(package.name).map(|stanza| stanza.conffiles()).unwrap_or_default();
        let is_there =
            |path: &&str| self.tools.probe().lstat(&ByteText::from(*path)).is_ok_and(|found| found.is_some());
        let is_kept = |path: &&str| self.edited.iter().any(|edited| edited == path) && is_there(path);
        let kept: Vec<&str> = own.into_iter().filter(is_kept).map(|path| path.trim_start_matches('/')).collect();
        if kept.is_empty() {
            return Ok(());
        }
        self.make_folder()?;
        let archive = text(&settings_file(&self.folder, package.name));
        let call = ["tar", "--create", "--file", &archive, "--directory", "/", "--acls", "--xattrs", "--"];
        self.run(&call.into_iter().chain(kept).collect::<Vec<_>>())?;
        self.run(&["sync", "--", &archive]).map(drop)
    }

    /// Keeps a package's file.
    fn package(&self, package: &Leaving<'_>) -> Result<(), Halt> {
        self.make_folder()?;
        if let Some(found) = in_folder(self.tools.probe(), apt::ARCHIVES, package.name, package.version) {
            let own = self.folder.join(Path::new(&found).file_name().unwrap_or_default());
            self.run(&["cp", "--", &found, &text(&own)])?;
            return self.run(&["sync", "--", &text(&own)]).map(drop);
        }
        self.pack(package)
    }

    /// Builds a package's file from what stands on the host.
    fn pack(&self, package: &Leaving<'_>) -> Result<(), Halt> {
        let stanza = self.database.find(package.name);
        let own = stanza.as_ref().map(Stanza::conffiles).unwrap_or_default();
        let architecture = stanza.and_then(|stanza| stanza.field("Architecture")).unwrap_or("all");
        let file = format!("{}{architecture}.deb", beginning(package.name, package.version));
        let name = package.name.split(':').next().unwrap_or_default();
        let folder = text(&self.folder);
        let edited = self.edited.iter().map(String::as_str).filter(|edited| own.contains(edited));
        let call = ["sh", "-ec", PACK, "sh", &folder, name, architecture, &file];
        self.run(&call.into_iter().chain(edited).collect::<Vec<_>>()).map(drop)
    }
}

/// Edited configuration files that are to stand there before their package comes back: it leaves them alone.
pub(super) struct Settings {
    archives: Vec<PathBuf>,
    is_way_back: bool,
    since_s: i64,
}

/// Those that were kept of packages.
pub(super) fn settings_to_come(tools: &Tools<'_>, coming: &[&str]) -> Settings {
    let folder = tools.packages_kept();
    let archives = folder.iter().flat_map(|folder| coming.iter().map(|name| settings_file(folder, name)));
    let archives = archives.filter(|file| file.is_file()).collect();
    Settings { archives, is_way_back: folder.is_some(), since_s: crate::base::Timestamp::now().0 / 1_000_000 }
}

impl Settings {
    /// Puts them there, but for those that somebody has made anew.
    pub(super) fn bring(&self, tools: &Tools<'_>) -> Result<(), Halt> {
        for archive in &self.archives {
            let call = ["tar", "--extract", "--file", &text(archive), "--directory", "/", "--skip-old-files"];
            let more = ["--preserve-permissions", "--same-owner", "--numeric-owner", "--acls", "--xattrs"];
            run(tools, &[&call[..], &more].concat())?;
        }
        Ok(())
    }

    /// On the way back, what dpkg has just put beside edited files for somebody to compare goes.
    pub(super) fn tidy<'n>(&self, tools: &Tools<'_>, names: impl Iterator<Item = &'n str>) -> Result<(), Halt> {
        if !self.is_way_back {
            return Ok(());
        }
        use std::os::unix::fs::MetadataExt;
        let database = Database::read(tools.probe())?;
        let own = |name| database.find(name).as_ref().map(Stanza::conffiles).unwrap_or_default();
        let beside = names.flat_map(own).map(|path| format!("{path}.dpkg-dist"));
        let is_new = |path: &String| {
            let found = tools.probe().lstat(&ByteText::from(path.as_str()));
            found.is_ok_and(|found| found.is_some_and(|found| found.is_file() && found.ctime() >= self.since_s))
        };
        let goes: Vec<String> = beside.filter(is_new).collect();
        let argv: Vec<&str> = ["rm", "-f", "--"].into_iter().chain(goes.iter().map(String::as_str)).collect();
        if goes.is_empty() { Ok(()) } else { run(tools, &argv).map(drop) }
    }
}

fn run(tools: &Tools<'_>, argv: &[&str]) -> Result<Output, Halt> {
    let call = program::call(argv);
    let output = tools.run(&call).map_err(|error| Halt::io(format_args!("running {}", argv[0]), &error))?;
    match output.succeeded() {
        true => Ok(output),
        false => Err(Halt::Failed(format!("{} failed; {}", argv[0], program::last_words(&output)))),
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn settings_file(folder: &Path, package: &str) -> PathBuf {
    folder.join(format!("{package}.settings.tar"))
}

/// How a package file's name begins: `NAME_VERSION_ARCHITECTURE.deb`, colons written `%3a`.
fn beginning(package: &str, version: &str) -> String {
    let name = package.split(':').next().unwrap_or_default();
    format!("{name}_{}_", version.replace(':', "%3a"))
}

/// The package file of a version, if the host still has it.
pub(super) fn find(tools: &Tools<'_>, package: &str, version: &str) -> Option<String> {
    let kept = tools.packages_kept().map(|folder| text(&folder));
    let folders = kept.iter().map(String::as_str).chain([apt::ARCHIVES]);
    folders.into_iter().find_map(|folder| in_folder(tools.probe(), folder, package, version))
}

fn in_folder(probe: &Probe, folder: &str, package: &str, version: &str) -> Option<String> {
    let (beginning, architecture) = (beginning(package, version), package.split_once(':').map_or("", |(_, own)| own));
    probe.list(&ByteText::from(folder)).unwrap_or_default().into_iter().find_map(|file| {
        let path = file.as_path().to_str()?;
        let rest = path.rsplit('/').next()?.strip_prefix(&beginning)?.strip_suffix(".deb")?;
        (architecture.is_empty() || rest == architecture).then(|| path.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dpkg_and_apt_say_is_read() {
        let verified = "\
??5?????? c /etc/rbdemo/rbdemo.conf
??5??????   /usr/bin/rbdemod
missing   c /etc/rbdemo/with blank.conf
missing     /usr/share/doc/rbdemo
????????? c /etc/rbdemo/same.conf
";
        assert_eq!(edited(verified), ["/etc/rbdemo/rbdemo.conf", "/etc/rbdemo/with blank.conf"]);
        let madison = "
   rbdemo |        1.1 | file:/srv/repo/deb ./ Packages
   rbdemo |        1.0 | file:/srv/repo/deb ./ Sources
";
        let is = |version| is_offered(madison, &Leaving { name: "rbdemo", version, purged: false });
        assert!(is("1.1") && !is("1.0") && !is("1"));
    }

    #[test]
    fn names_of_files_are_as_apt_writes_them() {
        assert_eq!(beginning("g++:amd64", "4:12.2-1"), "g++_4%3a12.2-1_");
    }
}
