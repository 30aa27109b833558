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
        decision.validate = judge(self.validate, &spot.state, content);
        Ok(decision.bring(Resource::Path(spot.path), State::Path(PathState::File { content, meta })))
    }
}

/// What judges a content, where it is a new one.
pub(super) fn judge(command: Option<&CommandLine>, old: &PathState, content: Content) -> Option<Validate> {
    let is_new = !matches!(old, PathState::File { content: old, .. } if *old == content);
    let CommandLine(argv) = command.filter(|_| is_new)?;
    Some(Validate { command: CommandSpec { argv: argv.clone(), ..Default::default() }, content })
}

#[cfg(test)]
mod tests {
    use crate::steps::{copy::Copy, fake::Fake};

    #[test]
    fn a_file_takes_its_place() {
        let mut fake = Fake::with(&["/etc/", "/etc/motd", "/etc/l -> motd", "/d/"]);
        let mut told = |fields: &str| fake.told::<Copy>(fields);
        assert_eq!(told(r#"{"content": "x", "dest": "/etc/motd"}"#).unwrap(), ["/etc/motd: file 0600 7:8"]);
        assert_eq!(told(r#"{"src": "a/new", "dest": "/etc/"}"#).unwrap(), ["/etc/new: file 0644 1:2"]);
        assert_eq!(told(r#"{"content": "x", "dest": "/etc/l"}"#).unwrap(), ["/etc/l: file 0644 1:2"]);
        let followed = told(r#"{"content": "x", "dest": "/etc/l", "follow": true}"#);
        assert_eq!(followed.unwrap(), ["/etc/motd: file 0600 7:8"]);
        let made = told(r#"{"content": "x", "dest": "/n/m/f", "parents": true, "mode": "0400"}"#);
        assert_eq!(made.unwrap(), ["/n: directory 0755 1:2", "/n/m: directory 0755 1:2", "/n/m/f: file 0400 1:2"]);
        assert!(told(r#"{"content": "x", "dest": "/n/f"}"#).unwrap_err().contains("/n does not exist"));
        assert!(told(r#"{"content": "x", "dest": "/d"}"#).unwrap_err().contains("is a directory"));
        assert!(told(r#"{"content": "x", "dest": "/d/"}"#).unwrap_err().contains("no file name"));
        assert!(told(r#"{"content": "x", "src": "y", "dest": "/d/"}"#).unwrap_err().contains("either"));
        assert!(told(r#"{"content": "", "dest": "/e", "validate": "x hunter2"}"#).unwrap_err().contains("sensitive"));
    }

    #[test]
    fn only_a_new_content_is_judged() {
        let mut fake = Fake::with(&["/f"]);
        let mut judged = |fields: &str| fake.ask_step::<Copy>(fields).unwrap().validate.is_some();
        assert!(judged(r#"{"content": "x", "dest": "/f", "validate": "check %s"}"#));
        assert!(judged(r#"{"content": "", "dest": "/new", "validate": "check %s"}"#));
        assert!(!judged(r#"{"content": "/f", "dest": "/f", "mode": "0400", "validate": "check %s"}"#));
        assert!(!judged(r#"{"content": "x", "dest": "/f", "force": false, "validate": "check %s"}"#));
    }

    #[test]
    fn force_false_keeps_a_content() {
        let mut fake = Fake::with(&["/f"]);
        let old = fake.paths[&"/f".into()].clone();
        let kept = fake.ask_step::<Copy>(r#"{"content": "x", "dest": "/f", "force": false}"#).unwrap();
        assert_eq!(kept.states[0].1, crate::model::State::Path(old));
    }
}
