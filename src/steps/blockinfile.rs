//! `blockinfile`: lines between two markers are in a file, or are not.

use serde::{Deserialize, Serialize};

use crate::{
    base::Fault,
    resources::{Halt, View},
    steps::{
        Decision, Desk, Kind,
        editing::{Editing, Missing},
        fields::{AbsolutePath, CommandLine, Mode, Word},
        lineinfile::Wanted,
        lines::{Lines, Place},
        paths::Attributes,
    },
};

/// Sees to it that a block of lines, between two marker lines, is in a text file, or is not.
///
/// The markers say which lines are the step's own: everything between them is replaced. Two blocks in one file need
/// markers of their own. A new block goes where `insertafter` or `insertbefore` says, else at the end; one that is there
/// stays where it is. Line endings stay as they are. Files of up to 16 MiB are edited.
///
/// Other than in Ansible, the default marker says ROLLBOOK (give `marker` to take over Ansible's blocks); a marker
/// without its other half, or a second pair, is a failure and never guessed at; an empty block is a mistake, for which
/// there is `state: absent`. A link is not edited through unless `follow` says so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "controller", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Blockinfile {
    /// The file's absolute path.
    pub path: AbsolutePath,
    /// The lines, without markers. Needed for `state: present`.
    #[serde(default)]
    pub block: Option<String>,
    /// The marker lines: `{mark}` becomes BEGIN and END. Write it as a comment of the file's own syntax. Default:
    /// `# {mark} ROLLBOOK MANAGED BLOCK`.
    #[serde(default = "marker")]
    pub marker: String,
    /// Whether the block should be there. Default: present.
    #[serde(default)]
    pub state: Wanted,
    /// Where a new block goes: after the last line that matches this regular expression, or `EOF`. Default: EOF, also
    /// where nothing matches.
    #[serde(default)]
    pub insertafter: Option<String>,
    /// Where a new block goes: before the last line that matches this regular expression, or `BOF` for the beginning.
    #[serde(default)]
    pub insertbefore: Option<String>,
    /// Whether a missing file is made. Default: false.
    #[serde(default)]
    pub create: bool,
    /// Permission bits. Default: as they are; 0644 for a new file.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// The owner, by name or number. Default: as it is.
    #[serde(default)]
    pub owner: Option<Word>,
    /// The group, by name or number. Default: as it is.
    #[serde(default)]
    pub group: Option<Word>,
    /// Whether a symbolic link at `path` is followed. Default: false, and a link there is a failure.
    #[serde(default)]
    pub follow: bool,
    /// A command that judges the new content before it is put in place; `%s` stands for a private copy of it. Without
    /// `%s` the command runs after the file is in place, which is undone if it fails.
    #[serde(default)]
    pub validate: Option<CommandLine>,
}

fn marker() -> String {
    "# {mark} ROLLBOOK MANAGED BLOCK".into()
}

impl Kind for Blockinfile {
    const NAME: &'static str = "blockinfile";
    const FORESEEABLE: bool = true;
    const EXAMPLE: &'static str = "\
- name: the cluster's hosts are known by name
  blockinfile:
    path: /etc/hosts
    marker: \"# {mark} cluster\"
    block: |
      10.0.0.11 db1
      10.0.0.12 db2
";

    fn prepare(&mut self, desk: &mut dyn Desk) -> Result<(), Fault> {
        self.validate.as_ref().map_or(Ok(()), |command| command.check(desk))?;
        self.edit().map(drop).map_err(Fault::input)
    }

    fn want(&self, now: &mut dyn View) -> Result<Decision, Halt> {
        let edit = self.edit().map_err(Halt::Failed)?;
        let missing = match self.state {
            Wanted::Absent => Missing::Rest,
            Wanted::Present if self.create => Missing::Create,
            Wanted::Present => Missing::Fail,
        };
        Editing {
            path: &self.path,
            attributes: Attributes { mode: self.mode, owner: self.owner.as_ref(), group: self.group.as_ref() },
            missing,
            follow: self.follow,
            validate: self.validate.as_ref(),
        }
        .decide(now, |lines| edit.make(lines))
    }
}

/// The edit: the marker lines, and what is to be between them, if anything.
struct Edit<'a> {
    begin: String,
    end: String,
    block: Option<Vec<&'a str>>,
    place: Place,
}

impl Blockinfile {
    /// The edit, or why it makes no sense.
    fn edit(&self) -> Result<Edit<'_>, String> {
        if self.marker.contains(['\n', '\r']) || self.marker.matches("{mark}").count() != 1 {
            return Err("marker must be one line with {mark} in it".into());
        }
        let [begin, end] = ["BEGIN", "END"].map(|mark| self.marker.replace("{mark}", mark));
        let place = Place::of(self.insertafter.as_deref(), self.insertbefore.as_deref())?;
        let block = match (self.state, self.block.as_deref()) {
            (Wanted::Absent, _) => None,
            (Wanted::Present, None | Some("")) => {
                return Err("state: present needs a block; say state: absent to remove it".into());
            }
            (Wanted::Present, Some(block)) => Some(block.lines().collect::<Vec<_>>()),
        };
        if block.iter().flatten().any(|line| *line == begin || *line == end) {
            return Err("block holds a marker line".into());
        }
        Ok(Edit { begin, end, block, place })
    }
}

impl Edit<'_> {
    fn make(&self, lines: &mut Lines) -> Result<(), String> {
        let found = self.find(lines)?;
        let texts: Vec<&[u8]> = match &self.block {
            Some(block) => {
                let whole = [self.begin.as_str()].into_iter().chain(block.iter().copied()).chain([self.end.as_str()]);
                whole.map(str::as_bytes).collect()
            }
            None => Vec::new(),
        };
        match found {
            Some((begin, end)) if lines.texts().skip(begin).take(end - begin + 1).eq(texts.iter().copied()) => {}
            Some((begin, end)) => {
                lines.0.drain(begin..=end);
                lines.insert(begin, texts);
            }
            None if texts.is_empty() => {}
            None => lines.insert(self.place.find(lines, false), texts),
        }
        Ok(())
    }

    /// The numbers of the marker lines, counted from 0.
    fn find(&self, lines: &Lines) -> Result<Option<(usize, usize)>, String> {
        let all = |marker: &str| -> Vec<usize> {
            lines.texts().enumerate().filter(|(_, text)| *text == marker.as_bytes()).map(|(at, _)| at).collect()
        };
        match (&all(&self.begin)[..], &all(&self.end)[..]) {
            ([], []) => Ok(None),
            (&[begin], &[end]) if begin < end => Ok(Some((begin, end))),
            ([first, second, ..], _) | (_, [first, second, ..]) => Err(format!(
                "lines {} and {} are the same marker; give each block a marker of its own",
                first + 1,
                second + 1
            )),
            (&[begin], _) => Err(format!("line {} begins the block, and no line after it ends it", begin + 1)),
            (_, &[end]) => Err(format!("line {} ends the block, and no line before it begins it", end + 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(fields: &str, file: &str) -> Result<String, String> {
        let fields = format!("{{\"path\": \"/x\", \"marker\": \"# {{mark}}\", {fields}}}");
        let step: Blockinfile = serde_json::from_str(&fields).unwrap();
        let mut lines = Lines::of(file.as_bytes());
        step.edit()?.make(&mut lines)?;
        Ok(String::from_utf8(lines.join()).unwrap())
    }

    #[test]
    fn a_block_is_put_in_replaced_and_removed() {
        assert_eq!(edit(r#""block": "1\n2\n""#, "a").unwrap(), "a\n# BEGIN\n1\n2\n# END\n");
        assert_eq!(
            edit(r#""block": "1", "insertbefore": "^b""#, "a\r\nb\r\n").unwrap(),
            "a\r\n# BEGIN\r\n1\r\n# END\r\nb\r\n"
        );
        assert_eq!(edit(r#""block": "1""#, "a\n# BEGIN\n7\n8\n# END\nb").unwrap(), "a\n# BEGIN\n1\n# END\nb");
        assert_eq!(edit(r#""block": "1""#, "# BEGIN\n1\n# END").unwrap(), "# BEGIN\n1\n# END");
        assert_eq!(edit(r#""state": "absent""#, "a\n# BEGIN\n7\n# END\nb").unwrap(), "a\nb");
        assert_eq!(edit(r#""state": "absent""#, "a\n").unwrap(), "a\n");
    }

    #[test]
    fn odd_markers_are_never_guessed_at() {
        let told = |file: &str| edit(r#""block": "1""#, file).unwrap_err();
        assert!(told("a\n# BEGIN\n1\n").contains("line 2 begins the block"));
        assert!(told("# END\n1\n").contains("line 1 ends the block"));
        assert!(told("# END\n# BEGIN\n").contains("begins"));
        assert!(told("# BEGIN\n# END\n# BEGIN\n# END\n").contains("lines 1 and 3"));
        assert!(edit(r#""block": "x\n# END\n""#, "").unwrap_err().contains("marker line"));
        assert!(edit(r#""block": """#, "").unwrap_err().contains("state: absent"));
    }
}
