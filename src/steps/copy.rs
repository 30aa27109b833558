//! `copy`: puts a file there.

use serde::{Deserialize, Serialize};

use crate::{
    base::Fault,
    resources::{Halt, View},
    steps::{
        Decision, Desk, Kind,
        fields::{CommandLine, Destination, Inline, LocalFile, Mode, Word},
        paths::Attributes,
        placing::Placing,
        yes,
    },
};

/// Puts a file onto the host, from a local file or from a text in the runbook.
///
/// The file is written beside its place and moved there in one step, so that nobody ever sees half of it. Its mode,
/// owner, group and extended attributes stay as they are where the step does not name them; a new file gets mode 0644
/// and belongs to the user that the steps run as.
///
/// Use `template` where values are to be filled in: `copy` takes a local file byte for byte. Whole directories are not
/// copied.
///
/// Other than in Ansible, an existing directory at `dest` is a mistake, unless `dest` ends in a slash: what a step does
/// depends on what the runbook says, not on what the host happens to have. There is no `backup`: every replaced file
/// is kept for the way back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "controller", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// The local file, looked for beside the runbook and in `files/` there. Either this or `content`.
    #[serde(default)]
    pub src: Option<LocalFile>,
    /// The text to put into the file as it is; end it in a newline. Either this or `src`.
    #[serde(default)]
    pub content: Option<Inline>,
    /// Where to: the file's absolute path. Ending in a slash: the directory to put it into, under the name of `src`.
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

impl Kind for Copy {
    const NAME: &'static str = "copy";
    const FORESEEABLE: bool = true;
    const EXAMPLE: &'static str = "\
- name: the message of the day is ours
  copy: {src: motd, dest: /etc/motd, mode: \"0644\"}

- name: deploy may restart the app, and nothing else
  copy:
    dest: /etc/sudoers.d/deploy
    content: |
      deploy ALL=(root) NOPASSWD: /usr/bin/systemctl restart app.service
    mode: \"0440\"
    validate: visudo -cf %s
";

    fn prepare(&mut self, desk: &mut dyn Desk) -> Result<(), Fault> {
        self.validate.as_ref().map_or(Ok(()), |command| command.check(desk))?;
        match (&mut self.src, &mut self.content) {
            (Some(src), None) => {
                self.dest.settle(&src.name).map_err(Fault::input)?;
                src.content = Some(desk.file(&src.name)?);
            }
            (None, Some(_)) if self.dest.into => {
                return Err(Fault::input("dest ends in a slash, but content has no file name")
                    .hint("write the file's whole path"));
            }
            (None, Some(content)) => {
                if let Some(bytes) = content.bytes() {
                    *content = Inline::Taken(desk.put(bytes));
                }
            }
            _ => return Err(Fault::input("copy needs either src or content")),
        }
        Ok(())
    }

    fn want(&self, now: &mut dyn View) -> Result<Decision, Halt> {
        let taken = self.src.as_ref().map(LocalFile::taken).or(self.content.as_ref().map(Inline::taken));
        let content = taken.ok_or_else(|| Halt::Failed("neither src nor content was sent".into()))?;
        Placing {
            dest: &self.dest.path,
            content,
            attributes: Attributes { mode: self.mode, owner: self.owner.as_ref(), group: self.group.as_ref() },
            force: self.force,
            follow: self.follow,
            parents: self.parents,
            validate: self.validate.as_ref(),
        }
        .decide(now)
    }
}
