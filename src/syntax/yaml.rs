//! Text to nodes: YAML read strictly, with places and limits.

use std::{collections::HashMap, fs, io::Read, path::Path, sync::Arc};

use serde_yaml::granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use crate::{
    base::{Fault, Faults, Place},
    model::node::{Entry, Node, Value},
};

/// Bytes of one file.
pub const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Mappings and lists within each other.
pub const DEPTH_MAX: usize = 64;

/// Values that the aliases of one file may stand for, all together: an alias bomb ends here.
pub const ALIASED_VALUES_MAX: usize = 100_000;

/// Reads a file.
pub fn read(path: &Path) -> Result<Node, Faults> {
    parse(&path.to_string_lossy(), &text_of(path)?)
}

/// The text of a file: UTF-8, a byte order mark passed over.
pub fn text_of(path: &Path) -> Result<String, Fault> {
    let name = path.to_string_lossy();
    let unreadable = |error: &std::io::Error| Fault::input(format!("cannot read {name}")).because(error);
    let file = fs::File::open(path).map_err(|error| unreadable(&error))?;
    if file.metadata().map_err(|error| unreadable(&error))?.is_dir() {
        return Err(Fault::input(format!("{name} is a directory, and a file is needed")));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Fault::input(format!("{name} is larger than {} MiB", FILE_BYTES_MAX >> 20)));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        let place = Place { line: u32::try_from(line + 1).unwrap_or(u32::MAX), column: 1, ..Place::file(&name) };
        Fault::input("this line is not UTF-8 text").at(&place)
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Parses a text; `file` is what places name.
pub fn parse(file: &str, text: &str) -> Result<Node, Faults> {
    let mut reader = Reader {
        events: Parser::new_from_str(text),
        file: file.into(),
        anchors: HashMap::new(),
        aliased: 0,
        faults: Faults::default(),
    };
    let node = reader.document()?;
    reader.faults.or(node)
}

struct Reader<'text> {
    events: Parser<'text, StrInput<'text>>,
    file: Arc<str>,
    anchors: HashMap<usize, (Node, usize)>,
    aliased: usize,
    faults: Faults,
}

impl<'text> Reader<'text> {
    fn document(&mut self) -> Result<Node, Fault> {
        let mut found = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
                Event::StreamEnd => break,
                _ if found.is_some() => {
                    return Err(Fault::input("a second document begins here, and one file holds one")
                        .at(&self.place(&span))
                        .hint("remove the line `---`, or put the second document into a file of its own"));
                }
                event => found = Some(self.node(event, span, 0)?),
            }
        }
        found.ok_or_else(|| Fault::input("the file is empty").at(&Place::file(&self.file)))
    }

    fn next(&mut self) -> Result<(Event<'text>, Span), Fault> {
        loop {
            match self.events.next_event() {
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok(found)) => return Ok(found),
                Some(Err(error)) => return Err(self.not_yaml(&error)),
                None => return Ok((Event::StreamEnd, Span::default())),
            }
        }
    }

    fn not_yaml(&self, error: &ScanError) -> Fault {
        let place = self.point(error.marker());
        Fault::input(format!("this is not YAML: {error}")).at(&place)
    }

    fn node(&mut self, event: Event<'text>, span: Span, depth: usize) -> Result<Node, Fault> {
        let place = self.place(&span);
        if depth > DEPTH_MAX {
            return Err(Fault::input(format!("more than {DEPTH_MAX} levels of lists and mappings")).at(&place));
        }
        let before = self.aliased;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), &place)?;
                (scalar(&text, style), anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), &place)?;
                (Value::List(self.list(depth)?), anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), &place)?;
                (Value::Map(self.map(depth)?), anchor)
            }
            Event::Alias(anchor) => return self.alias(anchor, &place),
            _ => return Err(Fault::internal("the YAML parser's events are out of order").at(&place)),
        };
        let node = Node { value, place };
        if anchor != 0 {
            let size = count(&node);
            debug_assert!(self.aliased >= before);
            self.anchors.insert(anchor, (node.clone(), size));
        }
        Ok(node)
    }

    fn refuse_tag(&self, tag: Option<&Tag>, place: &Place) -> Result<(), Fault> {
        let Some(tag) = tag.map(Tag::original) else { return Ok(()) };
        let fault = Fault::input(format!("the tag {tag} is not understood here")).at(place);
        Err(if tag.contains("vault") {
            fault.hint("Ansible vault values are not supported yet: give the value with --set, or as a sensitive param")
        } else {
            fault.hint("remove it: values are read by what the runbook format expects")
        })
    }

    fn alias(&mut self, anchor: usize, place: &Place) -> Result<Node, Fault> {
        let Some((node, size)) = self.anchors.get(&anchor) else {
            return Err(Fault::input("an alias within what it names").at(place));
        };
        self.aliased += size;
        if self.aliased > ALIASED_VALUES_MAX {
            return Err(Fault::input(format!(
                "the aliases of this file stand for more than {ALIASED_VALUES_MAX} values"
            ))
            .at(place));
        }
        Ok(node.clone())
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Fault> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, Fault> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen: HashMap<String, Place> = HashMap::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(entries);
            }
            let (key, key_place) = self.key(event, span, depth)?;
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            if let Some(first) = seen.get(&key) {
                let fault = Fault::input(format!("the key {key} stands here a second time"))
                    .at(&key_place)
                    .hint(format!("the first is at line {}; only one of them can hold", first.line));
                self.faults.push(fault);
                continue;
            }
            seen.insert(key.clone(), key_place.clone());
            entries.push(Entry { key, key_place, value });
        }
    }

    fn key(&mut self, event: Event<'text>, span: Span, depth: usize) -> Result<(String, Place), Fault> {
        let node = self.node(event, span, depth + 1)?;
        let text = match &node.value {
            Value::Text { text, .. } => text.clone(),
            Value::Int(number) => number.to_string(),
            Value::Bool(truth) => truth.to_string(),
            _ => return Err(Fault::input(format!("a key must be a text, and this is {}", node.what())).at(&node.place)),
        };
        if text == "<<" {
            return Err(Fault::input("merge keys (<<) are not supported").at(&node.place));
        }
        Ok((text, node.place))
    }

    fn place(&self, span: &Span) -> Place {
        let same_line = span.start.line() == span.end.line();
        let width = if same_line { span.end.col().saturating_sub(span.start.col()).max(1) } else { 1 };
        Place { width: narrow(width), ..self.point(&span.start) }
    }

    fn point(&self, marker: &Marker) -> Place {
        Place {
            file: Arc::clone(&self.file),
            line: narrow(marker.line().max(1)),
            column: narrow(marker.col() + 1),
            width: 1,
        }
    }
}

fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn count(node: &Node) -> usize {
    1 + match &node.value {
        Value::List(items) => items.iter().map(count).sum(),
        Value::Map(entries) => entries.iter().map(|entry| count(&entry.value)).sum(),
        _ => 0,
    }
}

/// A scalar, read as the docs of [`Value`] say.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    let plain = matches!(style, ScalarStyle::Plain);
    match text {
        "" | "~" | "null" if plain => Value::Null,
        "true" if plain => Value::Bool(true),
        "false" if plain => Value::Bool(false),
        _ if plain => number(text).unwrap_or_else(|| Value::Text { text: text.to_owned(), plain }),
        _ => Value::Text { text: text.to_owned(), plain },
    }
}

/// A decimal number without leading zeros, plus sign or underscores.
fn number(text: &str) -> Option<Value> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let decimal = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !decimal(whole) || !decimal(fraction) || (whole.len() > 1 && whole.starts_with('0')) {
        return None;
    }
    if digits.contains('.') { text.parse().ok().map(Value::Float) } else { text.parse().ok().map(Value::Int) }
}
