//! `shell`: runs a script.

use serde::{Deserialize, Serialize};

use crate::{
    base::Fault,
    model::change::CommandSpec,
    resources::{Halt, View},
    steps::{
        Decision, Desk, Kind,
        fields::{AbsolutePath, CommandLine, HANDED_OVER, OneOrMore, refuse_secret},
        guards::Guards,
        yes,
    },
};

/// Runs a script by a shell, for what needs pipes, redirections or globs. Use `command` where none of these is needed.
///
/// Never build a script of values that you do not trust: `{{ value }}` becomes part of the script's text. Hand values
/// over in the step's `environment:` and write `"$VALUE"` in the script.
///
/// Rollbook cannot see what a script changes. So say when it has nothing to do (`creates`, `removes`, `unless`,
/// `only_if`), or it runs each time; and say how it is undone (the step's own `undo:`), or the plan calls it
/// irreversible. With `creates`, `removes` or `unless` the step fails if the guard does not hold after the script has
/// run.
///
/// The script's environment is clean: `PATH`, `HOME` and few others, `LC_ALL=C.UTF-8`, and the step's `environment:`; its
/// umask is 022. A shell goes on after a command that fails; begin the script with `set -eu` if it should not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "controller", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Shell {
    /// The script's text, handed to the shell as one argument.
    pub cmd: String,
    /// The shell, started with `-c`. Default: /bin/sh.
    #[serde(default)]
    pub executable: Option<AbsolutePath>,
    /// The directory to start it in, its guards and its `undo` too. Default: the home directory of the user that the
    /// steps run as.
    #[serde(default)]
    pub chdir: Option<AbsolutePath>,
    /// A path that the script makes: where it exists, there is nothing to do.
    #[serde(default)]
    pub creates: Option<AbsolutePath>,
    /// A path that the script removes: where it does not exist, there is nothing to do.
    #[serde(default)]
    pub removes: Option<AbsolutePath>,
    /// A command that only looks (no shell reads it): where it succeeds, there is nothing to do.
    #[serde(default)]
    pub unless: Option<CommandLine>,
    /// A command that only looks (no shell reads it): where it fails, there is nothing to do.
    #[serde(default)]
    pub only_if: Option<CommandLine>,
    /// Whether the script changes anything. With `false` it only looks: it runs in a plan too (while no earlier step of the
    /// plan would change anything), is no change, needs no undo, and the step fails where it fails. Default: true.
    #[serde(default = "yes")]
    pub changes: bool,
    /// What the script reads. A sensitive value belongs here or in `environment:`, never in the script, which every
    /// user of the host can see.
    #[serde(default)]
    pub stdin: Option<String>,
    /// Exit codes that mean success, one or a list. Default: 0.
    #[serde(default)]
    pub ok_codes: OneOrMore<u8>,
}

impl Kind for Shell {
    const NAME: &'static str = "shell";
    const EXAMPLE: &'static str = "\
- name: a dump is taken before the migration
  shell:
    cmd: |
      set -eu
      pg_dump app | gzip > /var/backups/app-1.2.3.sql.gz
    creates: /var/backups/app-1.2.3.sql.gz
  undo: rm -f /var/backups/app-1.2.3.sql.gz

- name: there is room for the release
  shell: {cmd: \"test $(df --output=avail /srv | tail -n 1) -gt 1000000\", changes: false}
";
    const SHORT: Option<&'static str> = Some("cmd");
    const RUNS: bool = true;

    fn prepare(&mut self, desk: &mut dyn Desk) -> Result<(), Fault> {
        if self.cmd.trim().is_empty() {
            return Err(Fault::input("an empty script"));
        }
        if self.cmd.contains('\0') {
            return Err(Fault::input("a script cannot hold a NUL"));
        }
        refuse_secret(desk, &self.cmd, "the script", HANDED_OVER)?;
        [&self.unless, &self.only_if].into_iter().flatten().try_for_each(|command| command.check(desk))
    }

    fn want(&self, now: &mut dyn View) -> Result<Decision, Halt> {
        let shell = self.executable.as_ref().map_or("/bin/sh", AbsolutePath::as_str);
        let command = CommandSpec {
            argv: vec![shell.to_owned(), "-c".to_owned(), self.cmd.clone()],
            chdir: self.chdir.as_ref().map(|path| path.as_str().to_owned()),
            stdin: self.stdin.clone(),
            ok_codes: self.ok_codes.0.iter().copied().map(i32::from).collect(),
            ..Default::default()
        };
        let guards = Guards {
            creates: self.creates.as_ref(),
            removes: self.removes.as_ref(),
            unless: self.unless.as_ref(),
            only_if: self.only_if.as_ref(),
            chdir: self.chdir.as_ref(),
            changes: self.changes,
        };
        guards.decide(now, command)
    }
}
