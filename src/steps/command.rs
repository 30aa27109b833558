//! `command`: runs a program.

use serde::{Deserialize, Serialize};

use crate::{
    base::Fault,
    model::change::CommandSpec,
    resources::{Halt, View},
    steps::{
        Decision, Desk, Kind,
        fields::{AbsolutePath, CommandLine, OneOrMore},
        guards::Guards,
        yes,
    },
};

/// Runs a program with arguments. No shell reads them: no pipes, no redirections, no variables, no globs. Use `shell`
/// for those, and a kind of its own where there is one (`file`, `package`, `service`, …).
///
/// Rollbook cannot see what a program changes. So say when it has nothing to do (`creates`, `removes`, `unless`,
/// `only_if`), or it runs each time; and say how it is undone (the step's own `undo:`), or the plan calls it
/// irreversible. With `creates`, `removes` or `unless` the step fails if the guard does not hold after the program has
/// run.
///
/// Other than in Ansible, `$NAME` in an argument is not replaced, and a guard's path is no glob. The program gets a
/// clean environment: `PATH`, `HOME` and few others, `LC_ALL=C.UTF-8`, and the step's `environment:`; its umask is 022.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "controller", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The program and its arguments: a text that is split at blanks, quotes heeded, or a list.
    pub cmd: CommandLine,
    /// The directory to start it in, its guards and its `undo` too. Default: the home directory of the user that the
    /// steps run as.
    #[serde(default)]
    pub chdir: Option<AbsolutePath>,
    /// A path that the program makes: where it exists, there is nothing to do.
    #[serde(default)]
    pub creates: Option<AbsolutePath>,
    /// A path that the program removes: where it does not exist, there is nothing to do.
    #[serde(default)]
    pub removes: Option<AbsolutePath>,
    /// A command that only looks: where it succeeds, there is nothing to do.
    #[serde(default)]
    pub unless: Option<CommandLine>,
    /// A command that only looks: where it fails, there is nothing to do.
    #[serde(default)]
    pub only_if: Option<CommandLine>,
    /// Whether the program changes anything. With `false` it only looks: it runs in a plan too (while no earlier step of the
    /// plan would change anything), is no change, needs no undo, and the step fails where it fails. Default: true.
    #[serde(default = "yes")]
    pub changes: bool,
    /// What the program reads. A sensitive value belongs here or in `environment:`, never among the arguments, which
    /// every user of the host can see.
    #[serde(default)]
    pub stdin: Option<String>,
    /// Exit codes that mean success, one or a list. Default: 0.
    #[serde(default)]
    pub ok_codes: OneOrMore<u8>,
}

impl Kind for Command {
    const NAME: &'static str = "command";
    const EXAMPLE: &'static str = "\
- name: the release is unpacked
  command:
    cmd: [tar, -xzf, /srv/app/releases/1.2.3.tar.gz, -C, /srv/app/releases]
    creates: /srv/app/releases/1.2.3
  undo: rm -r /srv/app/releases/1.2.3

- name: the schema is migrated
  command:
    cmd: /srv/app/bin/migrate --to 1.2.3
    unless: /srv/app/bin/migrate --is 1.2.3
  undo: /srv/app/bin/migrate --down
";
    const SHORT: Option<&'static str> = Some("cmd");
    const RUNS: bool = true;

    fn prepare(&mut self, desk: &mut dyn Desk) -> Result<(), Fault> {
        let commands = [Some(&self.cmd), self.unless.as_ref(), self.only_if.as_ref()];
        commands.into_iter().flatten().try_for_each(|command| command.check(desk))
    }

    fn want(&self, now: &mut dyn View) -> Result<Decision, Halt> {
        let command = CommandSpec {
            argv: self.cmd.0.clone(),
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
