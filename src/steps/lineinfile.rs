//! `lineinfile`: a line is in a file, or is not.

use regex_lite::Captures;
use serde::{Deserialize, Serialize};

use crate::{
    base::Fault,
    resources::{Halt, View},
    steps::{
        Decision, Desk, Kind,
        editing::{Editing, Missing},
        fields::{AbsolutePath, CommandLine, Mode, Word},
        lines::{Lines, Pattern, Place, compile},
        paths::Attributes,
    },
};

/// Sees to it that one line is in a text file, or is not.
///
/// With `regexp` the last line that matches is replaced by `line`. Where none matches, and without `regexp`, a line that
/// is exactly `line` is enough; where there is none, it is put in where `insertafter` or `insertbefore` says, else at
/// the end. With `state: absent` all lines that match (or are exactly `line`) are removed.
///
/// Line endings stay as they are, and a last line without one stays without, unless something comes after it. For
/// several lines use `blockinfile`, for a whole file `template`. Files of up to 16 MiB are edited.
///
/// Other than in Ansible, where `line` itself does not match `regexp` and is in the file already, the step is at rest,
/// so that a second run changes nothing; an edit that would change the file at each run is refused. Expressions have
/// neither look-around nor backreferences; their `\\d`, `\\w` and `(?i)` know ASCII letters only; a line that is not UTF-8
/// matches none. A link is not edited through
/// unless `follow` says so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "controller", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Lineinfile {
    /// The file's absolute path.
    pub path: AbsolutePath,
    /// The line, without its ending. Needed for `state: present`.
    #[serde(default)]
    pub line: Option<String>,
    /// A regular expression: which line is replaced, or which ones are removed.
    #[serde(default)]
    pub regexp: Option<String>,
    /// Whether the line should be there. Default: present.
    #[serde(default)]
    pub state: Wanted,
    /// Where a new line goes: after the last line that matches this expression, or `EOF`. Default: EOF, also where
    /// nothing matches.
    #[serde(default)]
    pub insertafter: Option<String>,
    /// Where a new line goes: before the last line that matches this expression, or `BOF` for the beginning.
    #[serde(default)]
    pub insertbefore: Option<String>,
    /// Whether the first line that matches is meant instead of the last one. Default: false.
    #[serde(default)]
    pub firstmatch: bool,
    /// Whether `\1` and `\g<name>` in `line` stand for what groups of `regexp` have matched. Where nothing matches, the
    /// file is then left as it is. Default: false.
    #[serde(default)]
    pub backrefs: bool,
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

/// Whether something should be in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "controller", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// It should.
    #[default]
    Present,
    /// It should not.
    Absent,
}

impl Kind for Lineinfile {
    const NAME: &'static str = "lineinfile";
    const FORESEEABLE: bool = true;
    const EXAMPLE: &'static str = "\
- name: root may not log in by password
  lineinfile:
    path: /etc/ssh/sshd_config
    regexp: ^#?\\s*PermitRootLogin
    line: PermitRootLogin prohibit-password
    validate: sshd -t -f %s
  notify: reload ssh

- name: the old resolver is gone
  lineinfile: {path: /etc/hosts, regexp: \\bresolver1\\b, state: absent}
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
        .decide(now, |lines| {
            edit.make(lines);
            Ok(())
        })
    }
}

/// The edit, its expressions compiled.
enum Edit<'a> {
    Remove(Match<'a>),
    Put { line: &'a str, regexp: Option<Pattern>, place: Place, first: bool, backrefs: bool },
}

/// Which lines are meant.
enum Match<'a> {
    Text(&'a str),
    Regexp(Pattern),
}

impl Lineinfile {
    /// The edit, or why it makes no sense.
    fn edit(&self) -> Result<Edit<'_>, String> {
        if self.line.as_ref().is_some_and(|line| line.contains(['\n', '\r'])) {
            return Err("line holds a line break; use blockinfile for several lines".into());
        }
        let regexp = self.regexp.as_deref().map(|text| compile("regexp", text)).transpose()?;
        let place = Place::of(self.insertafter.as_deref(), self.insertbefore.as_deref())?;
        match (self.state, &self.line, regexp) {
            (Wanted::Present, None, _) => Err("state: present needs line".into()),
            (Wanted::Present, _, None) if self.backrefs => Err("backrefs needs regexp".into()),
            (Wanted::Present, Some(line), regexp) => {
                Ok(Edit::Put { line, regexp, place, first: self.firstmatch, backrefs: self.backrefs })
            }
            (Wanted::Absent, _, Some(regexp)) => Ok(Edit::Remove(Match::Regexp(regexp))),
            (Wanted::Absent, Some(line), None) => Ok(Edit::Remove(Match::Text(line))),
            (Wanted::Absent, None, None) => Err("state: absent needs line or regexp".into()),
        }
    }
}

impl Edit<'_> {
    fn make(&self, lines: &mut Lines) {
        match self {
            Edit::Remove(meant) => {
                let keep: Vec<bool> = lines.texts().map(|text| !meant.fits(text)).collect();
                let mut keep = keep.into_iter();
                lines.0.retain(|_| keep.next().expect("one answer a line"));
            }
            Edit::Put { line, regexp: Some(regexp), place, first, backrefs } => {
                let rests = !backrefs && !regexp.is_match(line.as_bytes()) && holds(lines, line);
                match find(lines, regexp, *first) {
                    _ if rests => {}
                    Some(at) => {
                        let old = lines.texts().nth(at).expect("found above");
                        let captures = regexp.captures(old).expect("matches");
                        let new = if *backrefs { expand(line, &captures) } else { line.as_bytes().to_vec() };
                        lines.replace(at, &new);
                    }
                    None if *backrefs || holds(lines, line) => {}
                    None => lines.insert(place.find(lines, *first), [line.as_bytes()]),
                }
            }
            Edit::Put { line, regexp: None, place, first, .. } => {
                if !holds(lines, line) {
                    lines.insert(place.find(lines, *first), [line.as_bytes()]);
                }
            }
        }
    }
}

impl Match<'_> {
    fn fits(&self, text: &[u8]) -> bool {
        match self {
            Match::Text(line) => text == line.as_bytes(),
            Match::Regexp(regexp) => regexp.is_match(text),
        }
    }
}

fn holds(lines: &Lines, line: &str) -> bool {
    lines.texts().any(|text| text == line.as_bytes())
}

fn find(lines: &Lines, regexp: &Pattern, first: bool) -> Option<usize> {
    match first {
        true => lines.texts().position(|text| regexp.is_match(text)),
        false => lines.texts().rposition(|text| regexp.is_match(text)),
    }
}

/// `line` with `\1` and `\g<name>` replaced by what the groups matched; `\\` is a backslash. A group that took no part
/// is empty; any other backslash stands for itself.
fn expand(line: &str, captures: &Captures<'_>) -> Vec<u8> {
    let group = |number: usize| captures.get(number).map_or("", |group| group.as_str()).as_bytes();
    let (mut out, mut rest) = (Vec::new(), line);
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let digits = rest.bytes().take(2).take_while(u8::is_ascii_digit).count();
        if digits > 0 {
            out.extend_from_slice(group(rest[..digits].parse().expect("two digits at most")));
            rest = &rest[digits..];
        } else if let Some((name, after)) = rest.strip_prefix("g<").and_then(|rest| rest.split_once('>')) {
            let named = captures.name(name).map_or("", |group| group.as_str()).as_bytes();
            out.extend_from_slice(name.parse().map_or(named, group));
            rest = after;
        } else {
            out.push(b'\\');
            rest = rest.strip_prefix('\\').unwrap_or(rest);
        }
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(step: serde_json::Value, file: &str) -> Result<String, String> {
        let mut fields = step;
        fields["path"] = "/x".into();
        let step: Lineinfile = serde_json::from_value(fields).unwrap();
        let mut lines = Lines::of(file.as_bytes());
        step.edit()?.make(&mut lines);
        Ok(String::from_utf8(lines.join()).unwrap())
    }

    #[test]
    fn a_match_is_replaced_and_else_the_line_is_put_in() {
        let step = || serde_json::json!({"regexp": "^#?Port", "line": "Port 22"});
        assert_eq!(edit(step(), "a\n#Port 1\nPort 2\nb\n").unwrap(), "a\n#Port 1\nPort 22\nb\n");
        assert_eq!(edit(step(), "a").unwrap(), "a\nPort 22\n");
        assert_eq!(edit(step(), "").unwrap(), "Port 22\n");
        assert_eq!(edit(step(), "x\nPort 22").unwrap(), "x\nPort 22");
        let first = serde_json::json!({"regexp": "^#?Port", "line": "Port 22", "firstmatch": true});
        assert_eq!(edit(first, "#Port 1\nPort 2\n").unwrap(), "Port 22\nPort 2\n");
    }

    #[test]
    fn a_line_that_does_not_match_its_own_expression_comes_to_rest() {
        let step = || serde_json::json!({"regexp": "^old", "line": "new"});
        assert_eq!(edit(step(), "old 1\nold 2\n").unwrap(), "old 1\nnew\n");
        assert_eq!(edit(step(), "old 1\nnew\n").unwrap(), "old 1\nnew\n");
    }

    #[test]
    fn groups_are_filled_in() {
        let step = serde_json::json!({
            "regexp": r"^(\w+) = (?P<value>.*)( x)?$", "line": r"\1: \g<value>\3 \g<1> \\ \n", "backrefs": true});
        assert_eq!(edit(step.clone(), "a = b\n").unwrap(), "a: b a \\ \\n\n");
        assert_eq!(edit(step, "nothing\n").unwrap(), "nothing\n");
    }

    #[test]
    fn all_matches_are_removed() {
        assert_eq!(edit(serde_json::json!({"state": "absent", "regexp": "a"}), "a\nb\r\nxa").unwrap(), "b\r\n");
        assert_eq!(edit(serde_json::json!({"state": "absent", "line": "a"}), "a\nab\na").unwrap(), "ab\n");
    }

    #[test]
    fn mistakes_are_told() {
        let told = |step| edit(step, "").unwrap_err();
        assert!(told(serde_json::json!({})).contains("needs line"));
        assert!(told(serde_json::json!({"line": "a\nb"})).contains("blockinfile"));
        assert!(told(serde_json::json!({"line": "a", "regexp": "("})).contains("no regular expression"));
        assert!(told(serde_json::json!({"line": "a", "backrefs": true})).contains("needs regexp"));
        assert!(told(serde_json::json!({"state": "absent"})).contains("needs line or regexp"));
    }
}
