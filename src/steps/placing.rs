//! A file is wanted at a path with a content: what `copy` and `template` decide alike.

use crate::{
    model::{
        change::CommandSpec,
        state::{Content, PathState, Resource, State},
    },
    resources::{Halt, View},
    steps::{
        Decision, Validate,
        fields::{AbsolutePath, CommandLine},
        paths::{Attributes, Spot, noun},
    },
};

/// What is wanted.
pub(super) struct Placing<'a> {
    /// The file's path.
    pub(super) dest: &'a AbsolutePath,
    /// What should be in it.
    pub(super) content: Content,
    /// Whose it should be.
    pub(super) attributes: Attributes<'a>,
    /// Whether a file that is there gets the content too.
    pub(super) force: bool,
    /// Whether a link at the path is followed.
    pub(super) follow: bool,
    /// Whether missing directories above it are made.
    pub(super) parents: bool,
    /// What judges the content.
    pub(super) validate: Option<&'a CommandLine>,
}

impl Placing<'_> {
    /// The states that bring the file there.
    pub(super) fn decide(&self, view: &mut dyn View) -> Result<Decision, Halt> {
        let mut spot = Spot::find(view, self.dest, self.follow)?;
        let mut decision = spot.with_parents(view, self.parents)?;
        let (content, meta) = match &spot.state {
            PathState::File { content, meta } => {
                (if self.force { self.content } else { *content }, self.attributes.over(view, meta)?)
            }
            PathState::Absent | PathState::Link { .. } => (self.content, spot.fresh_file(view, &self.attributes)?),
            PathState::Directory { .. } => {
                return Err(Halt::Failed(format!(
                    "{} is a directory; end dest in a slash to put the file into it",
                    spot.path
                )));
            }
            other => return Err(Halt::Failed(format!("{} is {}, and is left alone", spot.path, noun(other)))),
        };
        decision = decision.bring(Resource::Path(spot.path), State::Path(PathState::File { content, meta }));
        decision.validate = self.validate.map(|CommandLine(argv)| Validate {
            command: CommandSpec { argv: argv.clone(), ..Default::default() },
            content,
        });
        Ok(decision)
    }
}
