//! `package`: what is installed.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::{
    base::{Fault, Timestamp},
    model::state::{PackageState, Resource, State},
    resources::{
        Halt, View,
        package::{self as packages, Request},
    },
    steps::{
        Decision, Desk, Kind,
        fields::{OneOrMore, Span},
    },
};

/// Lists of packages that are younger than this are fresh where the step does not say otherwise.
const FRESH_S: u64 = 60;

/// Installs, upgrades, downgrades or removes packages of the distribution (apt).
///
/// The plan shows every package that changes, with its versions: what is asked for, what comes with it, and what has
/// to go. The apply does exactly that in one transaction, or nothing. It is undone package by package to the versions
/// that were there before; what was newly installed is purged: its configuration goes, and its data where the package
/// deletes that then, as databases do. The plan of an undo says so.
///
/// A package that is held is never changed. A configuration file that was edited on the host is kept. When another
/// package manager is at work, it is waited for, two minutes at most.
///
/// Other than in Ansible: the name is the package's own, never a file, a pattern or `name=version`; a package that was
/// installed only as a dependency is marked as wanted for itself when a step names it; packages that are no longer
/// needed are left alone; a version is exactly that version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "controller", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// The package's name, or a list of names. All are changed in one transaction.
    pub name: OneOrMore<PackageName>,
    /// What should be. Default: present.
    #[serde(default)]
    pub state: Presence,
    /// The version to have, where one package is named: `1.22.1-9`, or a pattern as `1.22.*`, of which any version
    /// will do and the newest is installed. Default: any; the newest where none is installed.
    #[serde(default)]
    pub version: Option<VersionPattern>,
    /// Whether a lower version may take the place of a higher one. Default: false.
    #[serde(default)]
    pub allow_downgrade: bool,
    /// Whether the packages are held back from upgrades. Default: as they are.
    #[serde(default)]
    pub hold: Option<bool>,
    /// Whether apt asks the repositories what they have before anything is installed. Where nothing is to be
    /// installed it does not. A plan does not do this, since it writes nothing: where the lists of packages are too
    /// old, it says that the step cannot be known. Default: false.
    #[serde(default)]
    pub update_cache: bool,
    /// How old the lists of packages may be before `update_cache` renews them. Default: one minute.
    #[serde(default)]
    pub cache_valid_time: Option<Span>,
    /// Whether recommended packages are installed too. Default: as the host is configured.
    #[serde(default)]
    pub install_recommends: Option<bool>,
}

/// Whether a package should be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "controller", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// Installed, in whatever version.
    #[default]
    Present,
    /// Installed, in the newest version that the repositories have.
    Latest,
    /// Not installed; its configuration files stay.
    Absent,
    /// Not installed, and no configuration files left.
    Purged,
}

impl Kind for Package {
    const NAME: &'static str = "package";
    const EXAMPLE: &'static str = "\
- name: the web server is installed
  package: {name: nginx, update_cache: true}

- name: the database stays at its version
  package: {name: postgresql-15, version: 15.*, hold: true}

- name: nobody prints here
  package: {name: [cups, cups-browsed], state: absent}
";
    const SHORT: Option<&'static str> = Some("name");

    fn prepare(&mut self, _desk: &mut dyn Desk) -> Result<(), Fault> {
        let goes = matches!(self.state, Presence::Absent | Presence::Purged);
        let count = self.name.0.len();
        if count == 0 {
            return Err(Fault::input("a package step needs the name of a package"));
        }
        if self.version.is_some() && (count > 1 || self.state != Presence::Present) {
            return Err(Fault::input("version goes with one package and state: present only"));
        }
        if goes && (self.hold.is_some() || self.update_cache || self.allow_downgrade) {
            return Err(Fault::input(
                "hold, update_cache and allow_downgrade do not go with packages that are removed",
            ));
        }
        if self.cache_valid_time.is_some() && !self.update_cache {
            return Err(Fault::input("cache_valid_time goes with update_cache: true only"));
        }
        Ok(())
    }

    fn want(&self, now: &mut dyn View) -> Result<Decision, Halt> {
        packages::supported(now.facts())?;
        let mut found = Vec::new();
        for PackageName(name) in &self.name.0 {
            let name = packages::plain_name(now, name)?;
            let state = packages::observe(now, &name)?;
            found.push((name, state));
        }
        match self.state {
            Presence::Present | Presence::Latest => self.have(now, found),
            Presence::Absent | Presence::Purged => self.remove(now, found),
        }
    }
}

impl Package {
    fn have(&self, now: &mut dyn View, found: Vec<(String, PackageState)>) -> Result<Decision, Halt> {
        let is_lacking = |state: &PackageState| match (&state.version, &self.version) {
            (None, _) => true,
            (Some(_), None) => self.state == Presence::Latest,
            (Some(version), Some(VersionPattern(pattern))) => !packages::fits(pattern, version),
        };
        let lacking: Vec<String> =
            found.iter().filter(|(_, state)| is_lacking(state)).map(|(name, _)| name.clone()).collect();
        let mut states = Vec::new();
        if !lacking.is_empty() {
            self.freshen(now)?;
            let mut install = Vec::new();
            for name in lacking {
                let version = self.version.as_ref().map(|pattern| pattern.choose(now, &name)).transpose()?;
                install.push((name, version));
            }
            let recommends = self.install_recommends;
            let request = Request { install, recommends, downgrade: self.allow_downgrade, ..Request::default() };
            states = packages::predict(now, &request)?;
        }
        for (name, state) in found {
            self.adopt(&mut states, name, state);
        }
        Ok(Decision { states, ..Decision::default() })
    }

    /// A package that a step names is wanted for itself, and held or not as the step says.
    fn adopt(&self, states: &mut Vec<(Resource, State)>, name: String, found: PackageState) {
        let resource = Resource::Package(name);
        let place = match states.iter().position(|(planned, _)| *planned == resource) {
            Some(place) => place,
            None => {
                states.push((resource, State::Package(found)));
                states.len() - 1
            }
        };
        if let (_, State::Package(state)) = &mut states[place] {
            state.automatic = false;
            state.held = self.hold.unwrap_or(state.held);
        }
    }

    fn remove(&self, now: &mut dyn View, found: Vec<(String, PackageState)>) -> Result<Decision, Halt> {
        let purge = self.state == Presence::Purged;
        let is_there = |state: &PackageState| state.version.is_some() || state.unfinished.is_some();
        let remove: Vec<String> =
            found.iter().filter(|(_, state)| is_there(state)).map(|(name, _)| name.clone()).collect();
        let mut states = Vec::new();
        if !remove.is_empty() {
            states = packages::predict(now, &Request { remove, purge, ..Request::default() })?;
        }
        for (name, state) in found {
            if purge && state.residue {
                let gone = PackageState { residue: false, ..state };
                states.push((Resource::Package(name), State::Package(gone)));
            }
        }
        Ok(Decision { states, ..Decision::default() })
    }

    /// Renews the lists of packages where the step says so and they are too old.
    fn freshen(&self, now: &mut dyn View) -> Result<(), Halt> {
        if !self.update_cache {
            return Ok(());
        }
        let clock_s = Timestamp::now().0 / 1_000_000;
        let age_s = packages::lists_age_s(now, clock_s)?;
        let valid_s = self.cache_valid_time.map_or(FRESH_S, |span| span.ms / 1000);
        match age_s {
            Some(age_s) if age_s <= valid_s => Ok(()),
            _ if !now.planning() => packages::refresh_lists(now),
            None => Err(Halt::Unknown("apt has no lists of packages yet; the apply gets them first".into())),
            Some(age_s) => Err(Halt::Unknown(format!(
                "apt's lists of packages are {} old; the apply renews them first",
                age(age_s)
            ))),
        }
    }
}

fn age(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} seconds"),
        120..=7199 => format!("{} minutes", seconds / 60),
        7200..=172_799 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A package's name: letters, digits and `+ - . _`, with an architecture behind a colon where it is not the host's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "controller", derive(schemars::JsonSchema), schemars(inline))]
#[serde(transparent)]
pub struct PackageName(pub String);

impl<'de> Deserialize<'de> for PackageName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Some((name, _)) = text.split_once('=') {
            return Err(D::Error::custom(format_args!(
                "{text:?} is no package's name; write name: {name}, version: …"
            )));
        }
        if !packages::is_name(&text) {
            return Err(D::Error::custom(format_args!(
                "{text:?} is no package's name; a package file or a pattern is not taken"
            )));
        }
        Ok(PackageName(text))
    }
}

/// A version, in which `*` stands for anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "controller", derive(schemars::JsonSchema), schemars(inline))]
#[serde(transparent)]
pub struct VersionPattern(pub String);

impl VersionPattern {
    /// The version to install.
    fn choose(&self, now: &mut dyn View, name: &str) -> Result<String, Halt> {
        if self.0.contains('*') { packages::newest(now, name, &self.0) } else { Ok(self.0.clone()) }
    }
}

impl fmt::Display for VersionPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for VersionPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if !packages::is_version(&text.replace('*', "x")) {
            return Err(D::Error::custom(format_args!(
                "{text:?} is no version; write it as in \"1.22.1-9\" or \"1.22.*\""
            )));
        }
        Ok(VersionPattern(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Package, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn names_and_versions_are_checked() {
        assert_eq!(read(r#"{"name": ["g++", "libc6:i386"]}"#).unwrap().name.0.len(), 2);
        assert!(read(r#"{"name": "nginx=1.2"}"#).unwrap_err().contains("write name: nginx, version"));
        for wrong in ["-o", "./x.deb", "ngin*", "a b", "", "../a", "a\u{1b}"] {
            assert!(serde_json::from_value::<PackageName>(wrong.into()).is_err(), "{wrong:?}");
        }
        for wrong in ["", "1 2", "1;2", "-o\n"] {
            assert!(serde_json::from_value::<VersionPattern>(wrong.into()).is_err(), "{wrong:?}");
        }
        assert!(read(r#"{"name": "a", "version": "1:1.22*~x"}"#).is_ok());
    }

    #[test]
    fn a_step_survives_the_wire() {
        let step = read(r#"{"name": "a", "state": "present", "version": "1.*", "cache_valid_time": "1h"}"#).unwrap();
        assert_eq!(postcard::from_bytes::<Package>(&postcard::to_stdvec(&step).unwrap()).unwrap(), step);
    }
}
