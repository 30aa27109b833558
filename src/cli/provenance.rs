//! Where a run comes from: who starts it, and which commit its runbook is.

use std::{
    env,
    path::Path,
    process::{Command, Stdio},
};

use crate::model::{
    event::{Operator, RunbookLabel},
    runbook::Runbook,
};

/// Who runs this program. The name is the system's, not what the environment claims.
pub(crate) fn operator() -> Operator {
    let named = Command::new("id").arg("-un").stdin(Stdio::null()).stderr(Stdio::null()).output().ok();
    let named = named.filter(|output| output.status.success());
    let name = named.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    Operator {
        user: name.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw())),
        sudo_user: env::var("SUDO_USER").ok(),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        from: env::var("SSH_CONNECTION").ok().and_then(|line| line.split(' ').next().map(str::to_owned)),
    }
}

/// A runbook as the record names it.
pub(crate) fn label(runbook: &Runbook) -> RunbookLabel {
    let folder = Path::new(&*runbook.file).parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let commit = git(folder, &["rev-parse", "HEAD"]);
    let changes = commit.as_ref().and_then(|_| git(folder, &["status", "--porcelain", "--untracked-files=normal"]));
    RunbookLabel {
        file: runbook.file.to_string(),
        name: runbook.name.clone(),
        owner: runbook.owner.clone(),
        risk: runbook.risk,
        digest: runbook.digest,
        dirty: changes.is_some_and(|changes| !changes.is_empty()),
        commit,
    }
}

/// What git says, if there is one and the folder is in a repository. The repository's own settings must not start
/// programs.
fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(["-c", "core.fsmonitor=false", "--no-optional-locks"])
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
