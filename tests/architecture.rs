//! The house's own rules, held against its sources: who may import whom, who may name what, who may write.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]

use std::{collections::BTreeMap, fs, path::Path};

use regex::Regex;
use rollbook::steps::KINDS;

/// A source file: its path below `src/`, and its text without comments. What stands in its unit tests is left out of
/// `code`, since tests may write where the program may not.
struct Source {
    path: String,
    code: String,
    with_tests: String,
    lines: usize,
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    let mut todo = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let root = todo[0].clone();
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(Source::read(&root, &path));
            }
        }
    }
    assert!(found.len() > 50, "only {} sources found", found.len());
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

impl Source {
    fn read(root: &Path, path: &Path) -> Source {
        let text = fs::read_to_string(path).unwrap();
        let bare = |line: &str| line.split("//").next().unwrap_or("").to_owned();
        let with_tests = text.lines().map(bare).collect::<Vec<_>>().join("\n");
        let tests = "\n#[cfg(test)]\nmod tests {";
        let path = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        // Files that are nothing but tests: their modules are declared so.
        let is_test = ["/tests.rs", "/fake.rs"].iter().any(|name| path.ends_with(name));
        let code = if is_test { "" } else { with_tests.split(tests).next().unwrap_or("") }.to_owned();
        Source { path, code, with_tests, lines: text.lines().count() }
    }

    /// The layer that it is in: the first folder, or the file's own name.
    fn layer(&self) -> &str {
        self.path.split('/').next().unwrap().trim_end_matches(".rs")
    }

    fn matches<'a>(&'a self, regex: &'a Regex) -> impl Iterator<Item = &'a str> {
        regex.find_iter(&self.code).map(|found| found.as_str())
    }
}

/// The layers and their numbers, as `lib.rs` lists them.
fn layers() -> BTreeMap<String, u32> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let line = Regex::new(r"(?m)^pub mod (\w+); // (\d)$").unwrap();
    let found = line.captures_iter(&text).map(|found| (found[1].to_owned(), found[2].parse().unwrap()));
    let layers: BTreeMap<_, _> = found.collect();
    assert_eq!(layers.len(), text.matches("pub mod ").count(), "every layer in lib.rs has its number");
    layers
}

/// The first names of everything that is imported by `crate::…`, groups included.
fn imports(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => names.extend(first_names(group)),
            None => names.push(word(rest)),
        }
    }
    names
}

fn word(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The first name of each item of an import group, up to its closing brace.
fn first_names(group: &str) -> Vec<String> {
    let (mut depth, mut names, mut at_item) = (0, Vec::new(), true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_item = true,
            c if at_item && !c.is_whitespace() => {
                names.push(word(&group[at..]));
                at_item = false;
            }
            _ => {}
        }
    }
    names
}

#[test]
fn files_of_tests_are_declared_so() {
    let declared = Regex::new(r"(?m)(^#\[cfg\(test\)\]\n)?^mod (tests|fake);").unwrap();
    for source in sources() {
        for found in declared.captures_iter(&source.with_tests) {
            assert!(found.get(1).is_some(), "{}: `mod {};` needs #[cfg(test)]", source.path, &found[2]);
        }
    }
}

#[test]
fn the_import_reader_reads_groups() {
    let code =
        "use crate::base::Fault;\nuse crate::{\n    model::{change::Act, state},\n    target,\n};\ncrate::wire::x()";
    assert_eq!(imports(code), ["base", "model", "target", "wire"]);
}

#[test]
fn a_module_imports_only_from_layers_below() {
    let layers = layers();
    let mut wrong = Vec::new();
    for source in sources() {
        let (own, path) = (source.layer(), &source.path);
        let Some(level) = layers.get(own) else {
            assert!(["lib", "bin"].contains(&own), "{path} belongs to no layer of lib.rs");
            continue;
        };
        for name in imports(&source.with_tests).into_iter().filter(|name| name != own) {
            match layers.get(&name) {
                Some(other) if other < level => {}
                Some(_) => wrong.push(format!("{path} imports from {name}, which is not below {own}")),
                None => wrong.push(format!("{path} imports crate::{name}, which is no layer")),
            }
        }
        let out = "super::".repeat(path.matches('/').count() + 1);
        if source.with_tests.contains(&out) {
            wrong.push(format!("{path} leaves its layer by {out}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_large_crate_is_named_in_one_layer_only() {
    let mut wrong = Vec::new();
    for (name, layer) in
        [("serde_yaml", "syntax"), ("minijinja", "render"), ("rusqlite", "record"), ("ssh2", "transport")]
    {
        let named = Regex::new(&format!(r"\b{name}::|\buse {name}\b")).unwrap();
        for source in sources() {
            if source.layer() != layer && named.is_match(&source.with_tests) {
                wrong.push(format!("{} names {name}, which belongs to {layer}/", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Where the controller may write to its own machine, each with the reason.
const CONTROLLER_WRITES: &[(&str, &str)] = &[
    ("base/", "atomic writes for whoever below may"),
    ("record/", "the record store"),
    ("transport/", "the agent's program on its way to a target, and sockets"),
    ("cli/", "files that the operator names"),
];

#[test]
fn only_tools_and_journal_can_write_to_a_target() {
    let writes = Regex::new(
        r"(?x) \bfs::(write|rename|remove_\w+|create_dir\w*|copy|hard_link|soft_link|set_permissions)\b
        | \bFile::create\w*\b | \bOpenOptions\b | \bos::unix::fs::(symlink|chown|lchown|fchown)\b
        | \b(renameat|unlinkat|unlink|mkdirat|mkdir|linkat|symlinkat|symlink|mknodat|fchmod|chmodat|chmod|fchown|chownat|chown
            |l?f?setxattr|l?f?removexattr|utimensat|futimens|ftruncate|fallocate|ioctl_ficlone|copy_file_range|mount)(_with)?\(
        | \b(tempfile|TempDir|NamedTempFile)\b | \.set_permissions\( | \.set_len\(",
    )
    .unwrap();
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.layer() != "target") {
        if CONTROLLER_WRITES.iter().chain(AGENT_WRITES).any(|(place, _)| source.path.starts_with(place)) {
            continue;
        }
        wrong.extend(source.matches(&writes).map(|call| format!("{} calls {call}", source.path)));
    }
    assert!(wrong.is_empty(), "only target/ and the controller's own places may write:\n{}", wrong.join("\n"));
}

/// Where the agent may write beside `target/`, each with the reason.
const AGENT_WRITES: &[(&str, &str)] = &[
    ("agent/program.rs", "the mark that its own program was checked"),
    ("agent/validate.rs", "the private copy that a validation judges"),
];

/// Where a program may be started, each with the reason.
const STARTS: &[(&str, &str)] = &[
    ("target/", "steps and resources, by Probe and Tools"),
    ("transport/", "the system's ssh, sudo, and the agent on this machine"),
    ("cli/", "git, for the commit of a runbook"),
];

#[test]
fn programs_are_started_in_few_places_and_never_by_a_glued_line() {
    let starts = Regex::new(r"\bCommand::new\(").unwrap();
    let glued = Regex::new(r#""-c"[^;]{0,80}format!"#).unwrap();
    let mut wrong = Vec::new();
    for source in sources() {
        if !STARTS.iter().any(|(place, _)| source.path.starts_with(place)) {
            wrong.extend(source.matches(&starts).map(|call| format!("{} has {call}", source.path)));
        }
        wrong.extend(source.matches(&glued).map(|_| format!("{} hands a glued line to a shell", source.path)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn tools_have_no_public_constructor() {
    let tools = sources().into_iter().find(|source| source.path == "target/tools.rs").unwrap();
    let makes = Regex::new(r"pub (const )?fn \w+[^{;]*-> *(Self|Tools)\b").unwrap();
    assert_eq!(tools.matches(&makes).collect::<Vec<_>>(), [""; 0], "the journal alone mints tools");
}

#[test]
fn files_are_short() {
    let long = sources().into_iter().filter(|source| source.lines > 500);
    let long: Vec<String> = long.map(|source| format!("{}: {} lines", source.path, source.lines)).collect();
    assert!(long.is_empty(), "cut these by their nouns:\n{}", long.join("\n"));
}

#[test]
fn kinds_are_sorted_and_each_has_its_file() {
    let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
    assert!(names.is_sorted_by(|a, b| a < b), "sort the list of kinds, without doubles: {names:?}");
    let steps = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/steps");
    for name in names {
        let is_there = steps.join(format!("{name}.rs")).exists() || steps.join(name).join("mod.rs").exists();
        assert!(is_there, "the kind {name} belongs into src/steps/{name}.rs");
    }
}

#[test]
fn the_manual_lists_every_kind_with_its_first_sentence() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/steps.md")).unwrap();
    let rows = KINDS.iter().map(|kind| {
        let schema = (kind.schema)();
        let told = schema.as_value()["description"].as_str().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        let end = told.find(". ").unwrap_or(told.len() - 1);
        format!("| `{}` | {} |\n", kind.name, &told[..end])
    });
    let rows: String = rows.collect();
    let table = format!("| kind | what it does |\n| --- | --- |\n{rows}\n");
    assert!(text.contains(&table), "docs/steps.md should hold this table:\n{table}");
}
