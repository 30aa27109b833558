//! What the documentation shows is real: its examples are read by the program's own readers, its links lead somewhere.
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use rollbook::{steps, syntax};

fn pages() -> BTreeMap<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [root.to_owned(), root.join("docs"), root.join("docs/decisions")];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    let pages = files.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    pages.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The blocks of a page that are marked with a language, each with the number of its first line.
fn blocks<'p>(page: &'p str, language: &str) -> Vec<(usize, Vec<&'p str>)> {
    let mut found = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        if let Some(word) = line.strip_prefix("```") {
            let block: Vec<&str> = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
            if word == language {
                found.push((at + 2, block));
            }
        }
    }
    found
}

/// A whole runbook of an example that is one, or one of its top keys.
fn as_runbook(block: &[&str]) -> Option<String> {
    let text = block.join("\n") + "\n";
    let first = block.iter().find(|line| !line.starts_with('#'))?;
    let with = |missing: &[&str]| Some(format!("{}{text}", missing.concat()));
    let (name, hosts, steps) = ("runbook: Of a page\n", "hosts: all\n", "steps: [{debug: {msg: x}}]\n");
    match first.split(':').next()? {
        "runbook" => with(&[]),
        "params" | "strategy" | "vars" => with(&[name, hosts, steps]),
        "steps" => with(&[name, hosts]),
        first if first.starts_with("- ") => {
            let steps = text.lines().map(|line| format!("  {line}\n")).collect::<String>();
            Some(format!("{name}{hosts}steps:\n{steps}"))
        }
        _ => None,
    }
}

#[test]
fn examples_of_runbooks_are_runbooks() {
    let mut read = 0;
    for (path, page) in pages() {
        for (line, block) in blocks(&page, "yaml") {
            let Some(text) = as_runbook(&block) else { continue };
            let place = format!("{}:{line}", path.display());
            let (_, faults) = syntax::runbook::parse(&place, &text, &steps::words());
            assert!(faults.0.is_empty(), "{place}: {faults}");
            read += 1;
        }
    }
    assert!(read >= 3, "only {read} examples were found");
}

#[test]
fn links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut followed = 0;
    for (path, page) in pages() {
        let links = page.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let file = path.parent().unwrap().join(link.split('#').next().unwrap());
            assert!(file.exists(), "{}: there is no {link}", path.display());
            followed += 1;
        }
        let words = page.split(|letter: char| letter.is_whitespace() || "`()|,;:".contains(letter));
        for word in words
            .map(|word| word.trim_end_matches('.'))
            .filter(|word| word.starts_with("docs/") && word.ends_with(".md"))
        {
            assert!(root.join(word).exists(), "{}: there is no {word}", path.display());
            followed += 1;
        }
    }
    assert!(followed >= 10, "only {followed} links were found");
}

#[test]
fn every_exit_code_has_its_line() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/exit-codes.md")).unwrap();
    let codes: Vec<u8> =
        page.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok()).collect();
    assert_eq!(codes, (0..=10).collect::<Vec<u8>>());
}
