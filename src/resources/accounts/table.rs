//! A file of lines whose first field is a name: read and changed line by line, every other byte kept.

/// The lines of such a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::resources) struct Table {
    lines: Vec<Vec<u8>>,
    /// Whether the last line has no end. It stays so: whoever reads this file can, and has to, live with it.
    is_open: bool,
}

impl Table {
    /// Takes a file apart.
    pub(in crate::resources) fn read(bytes: &[u8]) -> Self {
        let is_open = bytes.last().is_some_and(|last| *last != b'\n');
        let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let lines =
            if bytes.is_empty() { Vec::new() } else { body.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect() };
        Table { lines, is_open }
    }

    /// Puts it together again.
    pub(in crate::resources) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.lines.join(&b'\n');
        if !self.lines.is_empty() && !self.is_open {
            bytes.push(b'\n');
        }
        bytes
    }

    /// The line about `name`.
    pub(in crate::resources) fn line(&self, name: &str) -> Option<&[u8]> {
        self.position(name).map(|at| self.lines[at].as_slice())
    }

    /// The name that the line before the one about `name` is about.
    pub(in crate::resources) fn before(&self, name: &str) -> Option<String> {
        let at = self.position(name)?.checked_sub(1)?;
        Some(String::from_utf8_lossy(name_of(&self.lines[at])).into_owned())
    }

    /// All lines, in order.
    pub(in crate::resources) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.iter().map(Vec::as_slice)
    }

    /// Gives a name this line. A new one goes behind the line about `after`, if there is such a line; to the beginning
    /// where it was the first; else to the end, but before lines that refer to NIS.
    pub(in crate::resources) fn put(&mut self, name: &str, line: Vec<u8>, after: Option<&Option<String>>) {
        if let Some(at) = self.position(name) {
            self.lines[at] = line;
            return;
        }
        let end = self.lines.iter().position(|line| line.first() == Some(&b'+')).unwrap_or(self.lines.len());
        let at = match after {
            Some(None) => 0,
            Some(Some(after)) => self.position(after).map_or(end, |at| at + 1),
            None => end,
        };
        self.lines.insert(at, line);
    }

    /// Replaces the lines for which there is another.
    pub(in crate::resources) fn edit(&mut self, edit: impl Fn(&[u8]) -> Option<Vec<u8>>) {
        for line in &mut self.lines {
            if let Some(new) = edit(line) {
                *line = new;
            }
        }
    }

    /// Removes the line about `name`.
    pub(in crate::resources) fn remove(&mut self, name: &str) {
        if let Some(at) = self.position(name) {
            self.lines.remove(at);
        }
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.lines.iter().position(|line| name_of(line) == name.as_bytes())
    }
}

/// The first field of a line.
pub(in crate::resources) fn name_of(line: &[u8]) -> &[u8] {
    line.split(|byte| *byte == b':').next().unwrap_or_default()
}

/// A line's fields. Bytes that are no UTF-8 are replaced: fields that are not changed are never written back from this.
pub(in crate::resources) fn fields(line: &[u8]) -> Vec<String> {
    line.split(|byte| *byte == b':').map(|field| String::from_utf8_lossy(field).into_owned()).collect()
}

/// A line with some of its fields changed; all other bytes stay. Missing fields are added.
pub(in crate::resources) fn with_fields(line: &[u8], new: &[(usize, &str)]) -> Vec<u8> {
    let mut fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
    for (at, value) in new {
        while fields.len() <= *at {
            fields.push(b"");
        }
        if String::from_utf8_lossy(fields[*at]) != *value {
            fields[*at] = value.as_bytes();
        }
    }
    fields.join(&b':')
}

/// The names of a field that is a list.
pub(in crate::resources) fn list(field: &str) -> impl Iterator<Item = &str> {
    field.split(',').filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives() {
        for text in [&b""[..], b"\n", b"a:1\n", b"a:1\n\nb", b"a\n+::::\n", b"\xff:\xfe\n"] {
            assert_eq!(Table::read(text).bytes(), text, "{text:?}");
        }
    }

    #[test]
    fn lines_go_where_they_were() {
        let text = b"root:0\n# note\nada:1\nbob:2\n+::\n";
        for name in ["root", "ada", "bob"] {
            let mut table = Table::read(text);
            let (line, after) = (table.line(name).unwrap().to_vec(), table.before(name));
            table.remove(name);
            assert!(table.line(name).is_none());
            table.put(name, line, Some(&after));
            assert_eq!(table.bytes(), text, "{name}");
        }
        let mut table = Table::read(text);
        table.put("eve", b"eve:3".to_vec(), None);
        assert_eq!(table.bytes(), b"root:0\n# note\nada:1\nbob:2\neve:3\n+::\n");
        let mut open = Table::read(b"root:0");
        open.put("ada", b"ada:1".to_vec(), Some(&Some("gone".into())));
        assert_eq!(open.bytes(), b"root:0\nada:1");
        open.remove("ada");
        assert_eq!(open.bytes(), b"root:0");
    }

    #[test]
    fn a_field_changes_alone() {
        assert_eq!(with_fields(b"a:\xff:c", &[(2, "d")]), b"a:\xff:d");
        assert_eq!(with_fields(b"a:\xff:c", &[(1, "\u{fffd}")]), b"a:\xff:c");
        assert_eq!(with_fields(b"a", &[(3, "x")]), b"a:::x");
    }
}
