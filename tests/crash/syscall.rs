//! Kills at system calls: strace ends the agent as it enters one that changes something.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// Calls that change what stands on a host. A question mark: not every machine has it.
const CALLS: &str = "?mkdir,mkdirat,?rename,?renameat,renameat2,?link,linkat,?symlink,symlinkat,?unlink,unlinkat,?rmdir,\
                     ftruncate,fchmod,fchmodat,?fchmodat2,fchown,fchownat,setxattr,lsetxattr,fsetxattr,removexattr,\
                     lremovexattr,fremovexattr,utimensat,fsync,fdatasync,pwrite64";

/// Whether strace is here and may trace.
pub(crate) fn can_trace() -> bool {
    let plain = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    plain.is_ok_and(|status| status.success())
}

/// What has strace write down the calls of a program.
pub(crate) fn noting(log: &Path) -> Command {
    let mut command = Command::new("strace");
    command.args(["-qq", "-s", "0", "-e", &format!("trace={CALLS}"), "-o"]).arg(log);
    command
}

/// What has strace kill a program at its `nth` call of a name, and write those calls down.
pub(crate) fn killing(call: &str, nth: u32, log: &Path) -> Command {
    let mut command = Command::new("strace");
    let plan = format!("inject={call}:signal=SIGKILL:when={nth}");
    command.args(["-qq", "-s", "0", "-e", &format!("trace={call}"), "-e", &plan, "-o"]).arg(log);
    command
}

/// How often each call is in a log.
pub(crate) fn counts(log: &Path) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for line in fs::read_to_string(log).unwrap().lines() {
        if let Some((name, _)) = line.split_once('(')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }
    counts
}
