//! Where a run comes from: who starts it, and which commit its runbook is.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
    sync::LazyLock,
};

use crate::model::{
    event::{Operator, RunbookLabel},
    runbook::Runbook,
};

/// Who runs this program. The name is the system's, not what the environment claims.
pub(crate) fn operator() -> Operator {
    static OPERATOR: LazyLock<Operator> = LazyLock::new(ask_operator);
    OPERATOR.clone()
}

fn ask_operator() -> Operator {
    let uid = rustix::process::geteuid().as_raw();
    let name = fs::read_to_string("/etc/passwd").ok().and_then(|users| name_in(&users, uid)).or_else(ask_id);
    Operator {
        user: name.unwrap_or_else(|| format!("uid {uid}")),
        sudo_user: env::var("SUDO_USER").ok(),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        from: env::var("SSH_CONNECTION").ok().and_then(|line| line.split(' ').next().map(str::to_owned)),
    }
}

/// The first name of a number in the system's own list of users.
fn name_in(users: &str, uid: u32) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// Users that are not in that list (LDAP and the like) are known to the system's programs alone: this one is static.
fn ask_id() -> Option<String> {
    let named = Command::new("id").arg("-un").stdin(Stdio::null()).stderr(Stdio::null()).output().ok();
    let named = named.filter(|output| output.status.success());
    named.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A runbook as the record names it.
pub(crate) fn label(runbook: &Runbook, checkout: &Checkout) -> RunbookLabel {
    let State { commit, dirty, untold } = checkout.found();
    RunbookLabel {
        file: runbook.file.to_string(),
        name: runbook.name.clone(),
        owner: runbook.owner.clone(),
        risk: runbook.risk,
        digest: runbook.digest,
        commit,
        dirty,
        untold,
    }
}

/// The git checkout that a runbook is in. Git is asked in the background: it may have many files to look at.
pub(crate) struct Checkout(LazyLock<State, Box<dyn FnOnce() -> State + Send>>);

/// What git tells of a checkout.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    commit: Option<String>,
    /// Whether there were uncommitted changes.
    dirty: bool,
    /// Why it tells nothing, if it does not: the checkout may be someone else's, as with sudo.
    untold: Option<String>,
}

impl Checkout {
    /// Begins to ask.
    pub(crate) fn of(runbook: &Path) -> Self {
        let folder = runbook.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).to_owned();
        if !may_be_checkout(&folder) {
            return Checkout(LazyLock::new(Box::new(State::default)));
        }
        let asking = std::thread::spawn(move || ask_git(&folder));
        Checkout(LazyLock::new(Box::new(move || asking.join().unwrap_or_default())))
    }

    /// What git told. Nothing where there is no repository.
    fn found(&self) -> State {
        self.0.clone()
    }
}

/// Whether git could find a repository there.
fn may_be_checkout(folder: &Path) -> bool {
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    env::var_os("GIT_DIR").is_some() || whole.ancestors().any(|above| above.join(".git").exists())
}

/// The repository's own settings must not start programs.
fn ask_git(folder: &Path) -> State {
    let asked = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(["-c", "core.fsmonitor=false", "--no-optional-locks"])
        .args(["status", "--porcelain=v2", "--branch", "--untracked-files=normal"])
        .stdin(Stdio::null())
        .output();
    let untold =
        |why: &str| State { untold: Some(why.lines().next().unwrap_or_default().to_owned()), ..State::default() };
    let output = match asked {
        Ok(output) if output.status.success() => output,
        Ok(output) => return untold(&String::from_utf8_lossy(&output.stderr)),
        Err(error) => return untold(&format!("git cannot be started: {error}")),
    };
    let told = String::from_utf8_lossy(&output.stdout);
    let commit = told.lines().find_map(|line| line.strip_prefix("# branch.oid ")).filter(|oid| *oid != "(initial)");
    let dirty = told.lines().any(|line| !line.starts_with('#'));
    State { commit: commit.map(str::to_owned), dirty, untold: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_name_is_the_systems() {
        let users = "root:x:0:0:root:/root:/bin/sh\n:x:7:\n# no line\nann:x:1000:1000::/home/ann:\nbob:x:1000:1::/:\n";
        assert_eq!(name_in(users, 0).as_deref(), Some("root"));
        assert_eq!(name_in(users, 1000).as_deref(), Some("ann"));
        assert_eq!((name_in(users, 7), name_in(users, 100)), (None, None));
        assert_eq!(Some(operator().user), ask_id());
    }

    #[test]
    fn commits_and_changes_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let runbook = folder.path().join("runbook.yml");
        let found = || Checkout::of(&runbook).found();
        let git = |words: &[&str]| {
            let mut command = Command::new("git");
            command.arg("-C").arg(folder.path()).args(["-c", "user.name=a", "-c", "user.email=a@example.org"]);
            assert!(command.args(words).output().unwrap().status.success(), "{words:?}");
        };
        std::fs::write(&runbook, "a").unwrap();
        assert_eq!(found(), State::default());
        std::fs::write(folder.path().join(".git"), "someone else's").unwrap();
        assert!(found().untold.is_some_and(|why| why.contains("git")));
        std::fs::remove_file(folder.path().join(".git")).unwrap();
        git(&["init", "--quiet"]);
        assert_eq!(found(), State { dirty: true, ..State::default() });
        git(&["add", "."]);
        git(&["commit", "--quiet", "-m", "one"]);
        let State { commit, dirty, untold } = found();
        assert!(commit.is_some_and(|commit| commit.len() == 40) && !dirty && untold.is_none());
        std::fs::write(&runbook, "b").unwrap();
        assert!(found().dirty);
    }
}
