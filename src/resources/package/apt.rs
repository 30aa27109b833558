//! How apt is called. Names and versions are always whole arguments behind `--`.

use crate::{
    model::change::CommandSpec,
    resources::{package::plan::Request, program},
};

/// Where apt keeps its lists of packages.
pub(super) const LISTS: &str = "/var/lib/apt/lists";

/// Where apt keeps the packages that it has downloaded.
pub(super) const ARCHIVES: &str = "/var/cache/apt/archives";

/// Seconds to wait for another program that holds dpkg's lock.
pub(super) const LOCK_TIMEOUT_S: u32 = 120;

/// Seconds that asking the repositories may take.
const UPDATE_S: u64 = 600;

/// Nobody is there to answer, and nothing may be done that the plan did not show: needrestart would restart services
/// on its own.
const ENVIRONMENT: [(&str, &str); 6] = [
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("DEBIAN_PRIORITY", "critical"),
    ("APT_LISTCHANGES_FRONTEND", "none"),
    ("APT_LISTBUGS_FRONTEND", "none"),
    ("NEEDRESTART_SUSPEND", "1"),
    ("UCF_FORCE_CONFFOLD", "1"),
];

/// One word behind `apt-get install --`.
pub(super) fn word(name: &str, version: Option<&str>) -> String {
    version.map_or_else(|| name.to_owned(), |version| format!("{name}={version}"))
}

/// What a request would do, with the packages of earlier steps as they would be.
pub(super) fn simulation(request: &Request, staged: &[(String, Option<String>)]) -> CommandSpec {
    let installed = request.install.iter().map(|(name, version)| word(name, version.as_deref()));
    let removed = request.remove.iter().map(|name| format!("{name}-"));
    let earlier = staged.iter().map(|(name, version)| match version {
        Some(version) => word(name, Some(version)),
        None => format!("{name}-"),
    });
    let words: Vec<String> = installed.chain(removed).chain(earlier).collect();
    let installs = !request.install.is_empty() || staged.iter().any(|(_, version)| version.is_some());
    let mut argv = simulated(installs);
    if let Some(recommends) = request.recommends {
        argv.insert(1, if recommends { "--install-recommends" } else { "--no-install-recommends" });
    }
    program::look(argv.into_iter().chain(words.iter().map(String::as_str)))
}

/// What a transaction would do.
pub(super) fn rehearsal(transaction: &Transaction) -> CommandSpec {
    let mut argv = simulated(!transaction.install.is_empty());
    argv.insert(1, "--no-install-recommends");
    let words = transaction.words();
    program::look(argv.into_iter().chain(words.iter().map(String::as_str)))
}

/// Downgrades and held packages are shown here, and judged by us.
fn simulated(installs: bool) -> Vec<&'static str> {
    let verb = if installs { "install" } else { "remove" };
    let options = ["apt-get", "-s", "-qq", "-y", "--allow-downgrades", "--allow-change-held-packages"];
    let settings = ["-o", "APT::Get::AutomaticRemove=false", "-o", "APT::Get::Purge=false"];
    options.into_iter().chain(settings).chain([verb, "--"]).collect()
}

/// What apt is to do at once.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// `name=version`, or the path of a package file.
    pub(super) install: Vec<String>,
    /// Names.
    pub(super) remove: Vec<String>,
    /// What is removed loses its configuration files too.
    pub(super) purge: bool,
}

impl Transaction {
    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.install.is_empty() && self.remove.is_empty()
    }

    fn words(&self) -> Vec<String> {
        // Among packages to install, a minus behind a name means its removal; `apt-get remove` takes it too.
        self.install.iter().cloned().chain(self.remove.iter().map(|name| format!("{name}-"))).collect()
    }

    /// The call that does it.
    pub(super) fn call(&self) -> CommandSpec {
        let lock = format!("DPkg::Lock::Timeout={LOCK_TIMEOUT_S}");
        let mut argv: Vec<&str> = vec!["apt-get", "-y", "-q", "--allow-downgrades", "--no-install-recommends"];
        argv.extend(["-o", &lock, "-o", "Dpkg::Use-Pty=0", "-o", "APT::Get::AutomaticRemove=false"]);
        argv.extend(["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"]);
        let purge = if self.purge { "APT::Get::Purge=true" } else { "APT::Get::Purge=false" };
        argv.extend(["-o", purge, if self.install.is_empty() { "remove" } else { "install" }, "--"]);
        let words = self.words();
        call(argv.into_iter().chain(words.iter().map(String::as_str)))
    }
}

/// Asks the repositories what they offer.
pub(super) fn update() -> CommandSpec {
    let lock = format!("DPkg::Lock::Timeout={LOCK_TIMEOUT_S}");
    CommandSpec { timeout_s: Some(UPDATE_S), ..call(["apt-get", "-q", "-o", &lock, "update"]) }
}

/// Marks packages: `auto`, `manual`, `hold` or `unhold`.
pub(super) fn mark<'a>(how: &'a str, names: &[&'a str]) -> CommandSpec {
    call(["apt-mark", how, "--"].into_iter().chain(names.iter().copied()))
}

/// Has dpkg finish what was cut short.
pub(super) fn configure_pending() -> CommandSpec {
    call(["dpkg", "--force-confdef", "--force-confold", "--configure", "--pending"])
}

/// Removes packages of which only half is there, which apt refuses.
pub(super) fn force_remove(names: &[&str]) -> CommandSpec {
    call(["dpkg", "--force-remove-reinstreq", "--remove", "--"].into_iter().chain(names.iter().copied()))
}

fn call<S: AsRef<str>>(argv: impl IntoIterator<Item = S>) -> CommandSpec {
    let mut call = program::call(argv);
    call.environment.extend(ENVIRONMENT.map(|(name, value)| (name.to_owned(), value.to_owned())));
    call
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_behind_the_end_of_options() {
        let transaction = Transaction { install: vec!["g++=4:12".into()], remove: vec!["exim4".into()], purge: false };
        let argv = transaction.call().argv;
        let end = argv.iter().position(|word| word == "--").unwrap();
        assert_eq!(argv[end - 1..], ["install", "--", "g++=4:12", "exim4-"]);
        let request = Request { remove: vec!["rbdemo".into()], ..Request::default() };
        let argv = simulation(&request, &[("rbdep".into(), Some("1.0".into())), ("tree".into(), None)]).argv;
        let end = argv.iter().position(|word| word == "--").unwrap();
        assert_eq!(argv[end - 1..], ["install", "--", "rbdemo-", "rbdep=1.0", "tree-"]);
        assert!(simulation(&request, &[("tree".into(), None)]).argv.contains(&"remove".to_owned()));
    }
}
