//! What a wanted package brings with it: the whole set of changes, as apt foresees it.

use std::cmp::Ordering;

use crate::{
    base::{ByteText, fault::nearest},
    model::{
        event::Output,
        state::{PackageState, Resource, State},
    },
    resources::{
        Halt, View,
        package::{
            apt, dpkg,
            simulation::{self, Simulation, Step},
            version,
        },
        program,
    },
};

/// The most packages that one step may change: what apt prints of more is cut.
const NAMES_SHOWN_MAX: usize = 5;

/// What is asked of the package manager.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Packages to have, each in a version or in the newest that the repositories offer.
    pub install: Vec<(String, Option<String>)>,
    /// Packages not to have.
    pub remove: Vec<String>,
    /// Packages that are removed because they are asked for here lose their configuration files too.
    pub purge: bool,
    /// Whether recommended packages come with those that are installed; otherwise as the host is configured.
    pub recommends: Option<bool>,
    /// A lower version may take the place of a higher one.
    pub downgrade: bool,
}

/// The states of all packages that a request would change, in the order of their names; asked of apt, which changes
/// nothing. Packages that earlier steps of a plan would have changed are taken into account.
pub fn predict(now: &mut dyn View, request: &Request) -> Result<Vec<(Resource, State)>, Halt> {
    let staged = staged(now, request);
    let output = now.ask(&apt::simulation(request, &staged))?;
    if !output.succeeded() {
        return Err(explain(now, request, &output));
    }
    let simulation = read(&output)?;
    if !simulation.unfinished.is_empty() {
        return Err(Halt::Failed(format!(
            "{} not fully installed; put that right first, with \"dpkg --configure -a\" or by removing it",
            are(&simulation.unfinished)
        )));
    }
    virtual_names(now, request, &simulation)?;
    let mut states = Vec::new();
    for (name, step) in &simulation.steps {
        if staged.iter().any(|(staged, _)| staged == name) {
            continue;
        }
        let before = observe(now, name)?;
        let after = after(now, request, name, step, &before)?;
        check(request, name, &before, &after)?;
        states.push((Resource::Package(name.clone()), State::Package(after)));
    }
    Ok(states)
}

/// What a simulation said, if all of it is there and can be read.
pub(super) fn read(output: &Output) -> Result<Simulation, Halt> {
    if output.stdout.cut {
        return Err(Halt::Failed("apt would change too many packages for one step; split it".into()));
    }
    simulation::parse(&output.stdout.text)
        .map_err(|line| Halt::Failed(format!("what apt-get --simulate printed cannot be understood: {line:?}")))
}

/// The packages that earlier steps of a plan would have changed, with the versions that they would have.
fn staged(now: &dyn View, request: &Request) -> Vec<(String, Option<String>)> {
    let asked = |name: &String| {
        request.install.iter().any(|(asked, _)| asked == name) || request.remove.iter().any(|asked| asked == name)
    };
    let of = |(resource, state)| match (resource, state) {
        (Resource::Package(name), State::Package(state)) if !asked(&name) => Some((name, state.version)),
        _ => None,
    };
    now.staged_states("package").into_iter().filter_map(of).collect()
}

/// A package's state in a view.
pub fn observe(now: &mut dyn View, name: &str) -> Result<PackageState, Halt> {
    let resource = Resource::Package(name.to_owned());
    match now.observe(&resource)? {
        State::Package(state) => Ok(state),
        _ => resource.is_misplaced(),
    }
}

/// A package's name as apt prints it: without an architecture that is the host's own.
pub fn plain_name(now: &mut dyn View, name: &str) -> Result<String, Halt> {
    let Some((plain, architecture)) = name.split_once(':') else { return Ok(name.to_owned()) };
    let output = now.ask(&program::look(["dpkg", "--print-architecture"]))?;
    let own = output.stdout.text.trim() == architecture || matches!(architecture, "native" | "all");
    Ok(if own { plain.to_owned() } else { name.to_owned() })
}

fn after(
    now: &mut dyn View,
    request: &Request,
    name: &str,
    step: &Step,
    before: &PackageState,
) -> Result<PackageState, Halt> {
    let Some(version) = &step.after else {
        let purged = step.purge || request.purge && request.remove.iter().any(|asked| asked == name);
        let residue = !purged && leaves_residue(now, name)?;
        return Ok(PackageState { residue, ..PackageState::default() });
    };
    let asked = request.install.iter().any(|(asked, _)| asked == name);
    let automatic = if before.version.is_some() { before.automatic && !asked } else { !asked };
    Ok(PackageState { version: Some(version.clone()), held: before.held, automatic, ..PackageState::default() })
}

/// Whether removing a package leaves something for a purge: configuration files, or a script that cleans up
/// (dpkg's `removal_bulk`).
fn leaves_residue(now: &mut dyn View, name: &str) -> Result<bool, Halt> {
    // A package that can be there for several architectures has its architecture in the files' names.
    let files = now.list(&dpkg::INFO.into())?;
    let is_its_own = |file: &ByteText| {
        let rest = file.as_path().file_name().and_then(|file| file.to_str()).and_then(|file| file.strip_prefix(name));
        let (between, kind) = rest.and_then(|rest| rest.rsplit_once('.')).unwrap_or(("?", ""));
        matches!(kind, "postrm" | "conffiles") && (between.is_empty() || between.starts_with(':'))
    };
    Ok(files.iter().any(is_its_own))
}

/// A name that several packages provide is refused: which one is meant must not be left to chance.
fn virtual_names(now: &mut dyn View, request: &Request, simulation: &Simulation) -> Result<(), Halt> {
    for (name, _) in &request.install {
        if !simulation.steps.contains_key(name) && observe(now, name)?.version.is_none() {
            let chosen: Vec<&str> = simulation.steps.keys().map(String::as_str).take(NAMES_SHOWN_MAX).collect();
            return Err(Halt::Failed(format!(
                "{name} is no package of its own; name the one that is meant (apt would install {})",
                chosen.join(", ")
            )));
        }
    }
    Ok(())
}

/// What is never done as a by-product.
fn check(request: &Request, name: &str, before: &PackageState, after: &PackageState) -> Result<(), Halt> {
    let (Some(old), new) = (&before.version, &after.version) else { return Ok(()) };
    if before.held && new.as_ref() != Some(old) {
        let what = new.as_ref().map_or("be removed".to_owned(), |new| format!("become {new}"));
        return Err(Halt::Failed(format!(
            "{name} is held at {old} and would have to {what}; release it first (hold: false, or apt-mark unhold {name})"
        )));
    }
    if let Some(new) = new
        && version::compare(new, old) == Ordering::Less
        && !request.downgrade
    {
        return Err(Halt::Failed(format!(
            "{name} {old} would be replaced by the older {new}; say allow_downgrade: true if that is meant"
        )));
    }
    Ok(())
}

/// Why apt cannot do what is asked, and what may help.
fn explain(now: &mut dyn View, request: &Request, output: &Output) -> Halt {
    let said: Vec<&str> = output.stderr.text.lines().filter_map(|line| line.strip_prefix("E: ")).collect();
    let unknown = said.iter().find_map(|line| {
        let name = line.strip_prefix("Unable to locate package ").or_else(|| {
            line.strip_prefix("Package '").and_then(|rest| rest.strip_suffix("' has no installation candidate"))
        })?;
        request.install.iter().map(|(asked, _)| asked).find(|asked| *asked == name)
    });
    if let Some(name) = unknown {
        return unknown_package(now, name);
    }
    let no_version = |line: &&str| line.starts_with("Version '") && line.ends_with("' was not found");
    if said.iter().any(no_version) {
        let missing = request.install.iter().find(|(name, wanted)| {
            wanted
                .as_ref()
                .is_some_and(|wanted| said.contains(&&*format!("Version '{wanted}' for '{name}' was not found")))
        });
        if let Some((name, Some(wanted))) = missing {
            return unknown_version(now, name, wanted);
        }
    }
    Halt::Failed(format!("apt cannot do this: {}", program::last_words(output)))
}

fn unknown_package(now: &mut dyn View, name: &str) -> Halt {
    if now.planning() && now.staged() {
        return Halt::Unknown(format!("apt does not know {name} yet; an earlier step may bring it"));
    }
    if !has_lists(now) {
        return Halt::Failed(format!(
            "apt knows no packages at all on this host, so not {name}; say update_cache: true"
        ));
    }
    let known = similar_names(now, name);
    match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => Halt::Failed(format!("there is no package {name}; the nearest is {near}")),
        None => Halt::Failed(format!(
            "there is no package {name}; if it is new, say update_cache: true; if it comes from elsewhere, add its repository"
        )),
    }
}

fn has_lists(now: &mut dyn View) -> bool {
    let files = now.list(&apt::LISTS.into()).unwrap_or_default();
    files.iter().any(|file| file.to_string().contains("_Packages"))
}

/// Names that begin as this one does. No failure: it is for a hint.
fn similar_names(now: &mut dyn View, name: &str) -> Vec<String> {
    let beginning: String = name.chars().take(name.chars().count().div_ceil(2).max(2)).collect();
    let found = now.ask(&program::look(["apt-cache", "pkgnames", "--", &beginning]));
    let text = found.map(|output| output.stdout.text).unwrap_or_default();
    text.lines().filter(|name| simulation::is_name(name)).map(str::to_owned).collect()
}

fn unknown_version(now: &mut dyn View, name: &str, wanted: &str) -> Halt {
    let mut versions = match offered(now, name) {
        Ok(versions) => versions,
        Err(halt) => return halt,
    };
    if now.planning() && now.staged() {
        return Halt::Unknown(format!("apt does not know {name} {wanted} yet; an earlier step may bring it"));
    }
    if versions.is_empty() {
        return unknown_package(now, name);
    }
    let more = versions.len().saturating_sub(NAMES_SHOWN_MAX);
    versions.truncate(NAMES_SHOWN_MAX);
    let more = if more == 0 { String::new() } else { format!(" and {more} older") };
    Halt::Failed(format!(
        "the repositories have no {name} {wanted}; they have {}{more}; if it is new, say update_cache: true",
        versions.join(", ")
    ))
}

/// The versions of a package that the repositories offer, newest first.
pub(super) fn offered(now: &mut dyn View, name: &str) -> Result<Vec<String>, Halt> {
    let output = now.ask(&program::look(["apt-cache", "madison", "--", name]))?;
    Ok(versions(&output.stdout.text))
}

/// Reads lines as `rbdemo | 1.1 | file:/srv/repo/deb ./ Packages`.
fn versions(madison: &str) -> Vec<String> {
    let version = |line: &str| {
        let mut columns = line.split('|').map(str::trim).skip(1);
        let (version, source) = (columns.next()?, columns.next()?);
        (source.ends_with("Packages") && simulation::is_version(version)).then(|| version.to_owned())
    };
    let mut found: Vec<String> = madison.lines().filter_map(version).collect();
    found.sort_by(|a, b| version::compare(b, a));
    found.dedup();
    found
}

/// The newest version of a package that the repositories offer and that fits a pattern in which `*` stands for
/// anything.
pub fn newest(now: &mut dyn View, name: &str, pattern: &str) -> Result<String, Halt> {
    match offered(now, name)?.into_iter().find(|offered| version::fits(pattern, offered)) {
        Some(found) => Ok(found),
        None => Err(unknown_version(now, name, pattern)),
    }
}

/// Whether `version` fits `pattern`, in which `*` stands for anything.
pub fn fits(pattern: &str, version: &str) -> bool {
    version::fits(pattern, version)
}

/// `a is`, `a and b are`, `a, b and 3 more are`.
fn are(names: &[String]) -> String {
    match names {
        [one] => format!("{one} is"),
        [one, two] => format!("{one} and {two} are"),
        [one, two, rest @ ..] => format!("{one}, {two} and {} more are", rest.len()),
        [] => "nothing is".into(),
    }
}

/// How old apt's lists of packages are, in seconds; none where there are none.
pub fn lists_age_s(now: &mut dyn View, clock_s: i64) -> Result<Option<u64>, Halt> {
    if !has_lists(now) {
        return Ok(None);
    }
    // apt touches this folder whenever it has asked the repositories, whether or not they had news.
    let output = now.ask(&program::look(["stat", "-c", "%Y", apt::LISTS]))?;
    let changed_s: Option<i64> = output.stdout.text.trim().parse().ok();
    Ok(changed_s.map(|changed_s| u64::try_from(clock_s - changed_s).unwrap_or(0)))
}

/// Has apt ask the repositories what they offer. This writes apt's cache and nothing else: it is no state of a
/// resource and is not undone.
pub fn refresh_lists(now: &mut dyn View) -> Result<(), Halt> {
    let output = now.ask(&apt::update())?;
    if output.succeeded() {
        return Ok(());
    }
    Err(Halt::Failed(format!("apt-get update failed: {}", program::last_words(&output))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offered_versions_are_sorted_and_sources_are_left_out() {
        let madison = "
 nginx | 1.22.1-9 | http://deb.debian.org/debian bookworm/main amd64 Packages
 nginx | 1.22.1-9+deb12u7 | http://security.debian.org bookworm-security/main amd64 Packages
 nginx | 1.22.1-9+deb12u7 | http://deb.debian.org/debian bookworm/main amd64 Packages
 nginx | 1.30-1 | http://deb.debian.org/debian sid/main Sources
 nginx | \u{1b}[2J | x Packages
";
        assert_eq!(versions(madison), ["1.22.1-9+deb12u7", "1.22.1-9"]);
    }
}
