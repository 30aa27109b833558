//! A text file is wanted with an edit made: what `lineinfile` and `blockinfile` decide alike.

use crate::{
    model::state::{PathState, Resource, State},
    resources::{Halt, View},
    steps::{
        Decision,
        fields::{AbsolutePath, CommandLine},
        lines::Lines,
        paths::{Attributes, Spot, noun},
        placing::judge,
    },
};

/// What is wanted beside the edit itself.
pub(super) struct Editing<'a> {
    /// The file's path.
    pub(super) path: &'a AbsolutePath,
    /// Whose it should be.
    pub(super) attributes: Attributes<'a>,
    /// What to do where there is no file.
    pub(super) missing: Missing,
    /// Whether a link at the path is followed.
    pub(super) follow: bool,
    /// What judges the new content.
    pub(super) validate: Option<&'a CommandLine>,
}

/// What to do where there is no file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// That is a failure.
    Fail,
    /// Begin with an empty one.
    Create,
    /// There is nothing to edit, and that is fine.
    Rest,
}

impl Editing<'_> {
    /// The states that bring the file there. The edit is made twice: one that never comes to rest is a failure in the
    /// plan already.
    pub(super) fn decide(
        &self,
        view: &mut dyn View,
        edit: impl Fn(&mut Lines) -> Result<(), String>,
    ) -> Result<Decision, Halt> {
        let mut spot = Spot::find(view, self.path, self.follow)?;
        let (old, meta, content) = match &spot.state {
            PathState::File { content, meta } => {
                (view.bytes(&spot.path, content)?, self.attributes.over(view, meta)?, Some(*content))
            }
            PathState::Absent if self.missing == Missing::Rest => return Ok(Decision::nothing()),
            PathState::Absent if self.missing == Missing::Create => {
                (Vec::new(), spot.fresh_file(view, &self.attributes)?, None)
            }
            PathState::Absent => {
                return Err(Halt::Failed(format!(
                    "{} does not exist; say create: true if it should be made",
                    spot.path
                )));
            }
            PathState::Link { target, .. } => {
                let hint = "say follow: true to edit what it points to";
                return Err(Halt::Failed(format!("{} is a link to {target}; {hint}", spot.path)));
            }
            other => return Err(Halt::Failed(format!("{} is {}, no file with lines", spot.path, noun(other)))),
        };
        let mut decision = spot.with_parents(view, false)?;
        let new = edited(&old, &edit).map_err(|message| Halt::Failed(format!("{}: {message}", spot.path)))?;
        let content = match content {
            Some(content) if new == old => content,
            _ => view.put(new),
        };
        decision.validate = judge(self.validate, &spot.state, content);
        Ok(decision.bring(Resource::Path(spot.path), State::Path(PathState::File { content, meta })))
    }
}

/// The file after the edit.
fn edited(old: &[u8], edit: impl Fn(&mut Lines) -> Result<(), String>) -> Result<Vec<u8>, String> {
    let mut lines = Lines::of(old);
    edit(&mut lines)?;
    let new = lines.join();
    let mut again = Lines::of(&new);
    edit(&mut again)?;
    if again.join() != new {
        return Err("the edit would change the file at each run; its result must not be edited again".into());
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use crate::steps::{fake::Fake, lineinfile::Lineinfile};

    #[test]
    fn missing_files_and_links_are_told() {
        let mut fake = Fake::with(&["/f", "/l -> f", "/d/"]);
        let mut told = |fields: &str| fake.told::<Lineinfile>(fields);
        assert_eq!(told(r#"{"path": "/n", "line": "a", "create": true}"#).unwrap(), ["/n: file 0644 1:2"]);
        assert!(told(r#"{"path": "/n", "line": "a"}"#).unwrap_err().contains("create: true"));
        assert!(told(r#"{"path": "/n", "line": "a", "state": "absent"}"#).unwrap().is_empty());
        assert!(told(r#"{"path": "/l", "line": "a"}"#).unwrap_err().contains("follow: true"));
        assert_eq!(told(r#"{"path": "/l", "line": "a", "follow": true}"#).unwrap(), ["/f: file 0600 7:8"]);
        assert!(told(r#"{"path": "/d", "line": "a"}"#).unwrap_err().contains("a directory"));
    }

    #[test]
    fn an_edit_that_never_rests_is_refused() {
        let mut fake = Fake::with(&["/f"]);
        let step = r#"{"path": "/f", "regexp": "^(.*)$", "line": "\\1x", "backrefs": true}"#;
        assert!(fake.told::<Lineinfile>(step).unwrap_err().contains("at each run"));
    }
}
