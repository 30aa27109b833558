//! What `apt-get --simulate` says that it would do.

use std::collections::BTreeMap;

/// One package that apt would change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// The version that is installed.
    pub(super) before: Option<String>,
    /// The version that would be; none where it would be removed.
    pub(super) after: Option<String>,
    /// Its configuration would be removed too.
    pub(super) purge: bool,
}

/// Everything that apt would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Simulation {
    /// Packages that would change, by name (foreign ones as `name:architecture`).
    pub(super) steps: BTreeMap<String, Step>,
    /// Packages that an earlier operation left unfinished, and that apt would configure on the way.
    pub(super) unfinished: Vec<String>,
}

/// Reads the lines that apt-get prints with `-s -qq`: `Inst NAME [OLD] (NEW ORIGIN [ARCH]) …`, `Conf NAME (…)`,
/// `Remv NAME [OLD] …`, `Purg NAME [OLD] …`. The error is the line that could not be read.
pub(super) fn parse(text: &str) -> Result<Simulation, String> {
    let mut found = Simulation::default();
    for line in text.lines() {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let unreadable = || format!("{line:.200}");
        match verb {
            "Inst" => {
                let new = rest.find('(').and_then(|at| rest[at + 1..].split([' ', ')']).next());
                let new = new.filter(|version| is_version(version)).ok_or_else(unreadable)?;
                let step = found.steps.entry(name.to_owned()).or_default();
                step.before = step.before.take().or_else(|| old_version(rest));
                step.after = Some(new.to_owned());
            }
            "Remv" | "Purg" => {
                let step = found.steps.entry(name.to_owned()).or_default();
                step.before = step.before.take().or_else(|| old_version(rest));
                step.after = None;
                step.purge |= verb == "Purg";
            }
            "Conf" if !found.steps.contains_key(name) => found.unfinished.push(name.to_owned()),
            "Conf" => {}
            // Notes, as "NOTE: This is only a simulation!" for a user who is not root.
            _ => continue,
        }
        if !is_name(name) {
            return Err(unreadable());
        }
    }
    Ok(found)
}

fn old_version(rest: &str) -> Option<String> {
    let old = rest.strip_prefix('[')?.split(']').next()?;
    is_version(old).then(|| old.to_owned())
}

/// Whether a text can be a package's name as apt prints and takes it, an architecture behind a colon allowed
/// (Debian Policy 5.6.7; upper case and `_` are seen in the wild).
pub fn is_name(text: &str) -> bool {
    let sign = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'_' | b':');
    (1..=200).contains(&text.len()) && text.as_bytes()[0].is_ascii_alphanumeric() && text.bytes().all(sign)
}

/// Whether a text can be a version (Debian Policy 5.6.12).
pub fn is_version(text: &str) -> bool {
    let sign = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-' | b':' | b'~' | b'_');
    (1..=200).contains(&text.len()) && text.bytes().all(sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(before: Option<&str>, after: Option<&str>, purge: bool) -> Step {
        Step { before: before.map(str::to_owned), after: after.map(str::to_owned), purge }
    }

    #[test]
    fn what_apt_says_is_read() {
        let text = "\
NOTE: This is only a simulation!
Inst nginx-common (1.22.1-9+deb12u7 localhost [all])
Inst libnginx-mod-http-echo (1:0.63-4 Debian:12.9/stable, Debian-Security:12/stable-security [amd64]) []
Inst rbdemo [1.1] (1.0 localhost [all])
Inst libc6:i386 [2.36-9] (2.36-9+deb12u14 Debian:12 [i386]) [libc6:amd64 ]
Remv exim4-base [4.96-15] [mailutils:amd64 ]
Purg rbdep [1.0]
Purg residue
Conf nginx-common (1.22.1-9+deb12u7 localhost [all])
Conf rbbroken (1.0 localhost [all])
";
        let found = parse(text).unwrap();
        let expected = [
            ("exim4-base", step(Some("4.96-15"), None, false)),
            ("libc6:i386", step(Some("2.36-9"), Some("2.36-9+deb12u14"), false)),
            ("libnginx-mod-http-echo", step(None, Some("1:0.63-4"), false)),
            ("nginx-common", step(None, Some("1.22.1-9+deb12u7"), false)),
            ("rbdemo", step(Some("1.1"), Some("1.0"), false)),
            ("rbdep", step(Some("1.0"), None, true)),
            ("residue", step(None, None, true)),
        ];
        assert_eq!(found.steps.into_iter().collect::<Vec<_>>(), expected.map(|(name, step)| (name.to_owned(), step)));
        assert_eq!(found.unfinished, ["rbbroken"]);
    }

    #[test]
    fn a_package_that_goes_and_comes_is_one_step() {
        let found = parse("Remv a [1]\nInst a [1] (2 x [all])\nConf a (2 x [all])\n").unwrap();
        assert_eq!(found.steps["a"], step(Some("1"), Some("2"), false));
    }

    #[test]
    fn what_is_no_name_or_version_is_refused() {
        for wrong in
            ["Inst a", "Inst a (", "Inst a (\u{1b}[31m x [all])", "Inst -o (1 x [all])", "Remv ../x [1]", "Inst  (1 x)"]
        {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
