//! `template`: puts a file there that is rendered for each host.

use serde::{Deserialize, Serialize};

use crate::{
    base::Fault,
    resources::{Halt, View},
    steps::{
        Decision, Desk, Kind,
        fields::{CommandLine, Destination, LocalFile, Mode, Word},
        paths::Attributes,
        placing::Placing,
        yes,
    },
};

/// Renders a local template for each host and puts the result there.
///
/// Templates are Jinja2, with the step's variables, `params`, `host`, `groups`, `facts` and `steps`. A name that is not
/// defined is a mistake that points at its line. The file's last newline is kept.
///
/// The file is written beside its place and moved there in one step. Its mode, owner, group and extended attributes
/// stay as they are where the step does not name them; a new file gets mode 0644 and belongs to the user that the steps
/// run as.
///
/// Other than in Ansible, an existing directory at `dest` is a mistake, unless `dest` ends in a slash. There is no
/// `backup`: every replaced file is kept for the way back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "controller", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// The local template, looked for beside the runbook and in `templates/` there.
    pub src: LocalFile,
    /// Where to: the file's absolute path. Ending in a slash: the directory to put it into, under the name of `src`
    /// without its `.j2`.
    pub dest: Destination,
    /// Permission bits. Default: as they are; 0644 for a new file.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// The owner, by name or number. Default: as it is; the user that the steps run as for a new file.
    #[serde(default)]
    pub owner: Option<Word>,
    /// The group, by name or number. Default: as it is; for a new file that user's group, or the directory's where the
    /// directory has the set-group-id bit.
    #[serde(default)]
    pub group: Option<Word>,
    /// `false` keeps the content of a file that is already there. Default: true.
    #[serde(default = "yes")]
    pub force: bool,
    /// Whether a symbolic link at `dest` is followed, so that what it points to is written. Default: false, and a file
    /// takes the link's place.
    #[serde(default)]
    pub follow: bool,
    /// Whether missing directories above `dest` are made, with mode 0755. Default: false, and a missing one is a
    /// failure.
    #[serde(default)]
    pub parents: bool,
    /// A command that judges the new content before it is put in place; `%s` stands for a private copy of it. Without
    /// `%s` the command runs after the file is in place, which is undone if it fails.
    #[serde(default)]
    pub validate: Option<CommandLine>,
}

impl Kind for Template {
    const NAME: &'static str = "template";
    const FORESEEABLE: bool = true;
    const EXAMPLE: &'static str = "\
- name: the site is configured
  template:
    src: site.conf.j2
    dest: /etc/nginx/conf.d/site.conf
    mode: \"0644\"
    validate: nginx -t
  notify: reload nginx
";

    fn prepare(&mut self, desk: &mut dyn Desk) -> Result<(), Fault> {
        self.validate.as_ref().map_or(Ok(()), |command| command.check(desk))?;
        let name = self.src.name.strip_suffix(".j2").unwrap_or(&self.src.name);
        self.dest.settle(name).map_err(Fault::input)?;
        self.src.content = Some(desk.template(&self.src.name)?);
        Ok(())
    }

    fn want(&self, now: &mut dyn View) -> Result<Decision, Halt> {
        Placing {
            dest: &self.dest.path,
            content: self.src.taken(),
            attributes: Attributes { mode: self.mode, owner: self.owner.as_ref(), group: self.group.as_ref() },
            force: self.force,
            follow: self.follow,
            parents: self.parents,
            validate: self.validate.as_ref(),
        }
        .decide(now)
    }
}
