//! Filters and tests with regular expressions, and the comparison of versions.

#![expect(clippy::needless_pass_by_value, reason = "the engine hands filters their arguments by value")]

use std::cmp::Ordering;

use minijinja::{
    Environment, Error, State, Value,
    value::{Kwargs, Rest, ValueOrKwargs, from_args},
};
use regex::{Regex, RegexBuilder};

use crate::render::filters::refuse;

/// Bytes that a compiled pattern may take.
const PATTERN_MAX: usize = 1 << 20;

pub(super) fn install(env: &mut Environment<'static>) {
    env.add_filter("regex_replace", regex_replace);
    env.add_filter("regex_search", regex_search);
    env.add_filter("regex_findall", regex_findall);
    env.add_filter("regex_escape", regex::escape);
    env.add_test("match", is_match);
    env.add_test("search", is_search);
    env.add_test("regex", is_search);
    env.add_test("version", is_version);
}

fn compile(state: &State, pattern: &str, options: &Kwargs) -> Result<Regex, Error> {
    let flag = |name: &str| options.get::<Option<bool>>(name).map(Option::unwrap_or_default);
    let mut builder = RegexBuilder::new(pattern);
    builder.case_insensitive(flag("ignorecase")?).multi_line(flag("multiline")?);
    options.assert_all_used()?;
    // Compiling is work that the template asks for.
    state.consume_fuel(100 + pattern.len() as u64)?;
    let compiled = builder.size_limit(PATTERN_MAX).dfa_size_limit(PATTERN_MAX).build();
    compiled.map_err(|error| refuse(format!("this pattern cannot be used: {error}")))
}

/// Every match replaced; `\1` and `\g<name>` stand for what groups matched.
fn regex_replace(state: &State, text: &str, pattern: &str, with: &str, options: Kwargs) -> Result<String, Error> {
    let regex = compile(state, pattern, &options)?;
    let with = replacement(with);
    let references = with.matches("${").count();
    let mut replaced = String::new();
    let mut end = 0;
    for found in regex.captures_iter(text) {
        let whole = found.get_match();
        replaced.push_str(&text[end..whole.start()]);
        // No group matches more than the whole, so that this is paid before it is made.
        let bytes = references.saturating_mul(whole.len()).saturating_add(with.len());
        state.consume_fuel(1 + bytes as u64 / 64)?;
        found.expand(&with, &mut replaced);
        end = whole.end();
    }
    replaced.push_str(&text[end..]);
    Ok(replaced)
}

/// Python's way to name groups in ours.
fn replacement(with: &str) -> String {
    let mut ours = String::new();
    let mut rest = with;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '$' => ours.push_str("$$"),
            '\\' => rest = escape(rest, &mut ours),
            _ => ours.push(c),
        }
    }
    ours
}

/// Writes what stands after a backslash and gives what follows.
fn escape<'a>(rest: &'a str, ours: &mut String) -> &'a str {
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    if digits > 0 {
        let (number, rest) = rest.split_at(digits.min(2));
        ours.push_str(&format!("${{{number}}}"));
        return rest;
    }
    if let Some((name, after)) = rest.strip_prefix("g<").and_then(|rest| rest.split_once('>')) {
        ours.push_str(&format!("${{{name}}}"));
        return after;
    }
    match rest.chars().next() {
        Some('n') => ours.push('\n'),
        Some('t') => ours.push('\t'),
        Some(c) => ours.push(c),
        None => ours.push('\\'),
    }
    rest.get(rest.chars().next().map_or(0, char::len_utf8)..).unwrap_or_default()
}

/// The first match, or `none`; with groups named as `'\\1'`, the list of what they matched.
fn regex_search(state: &State, text: &str, pattern: &str, groups: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let groups = groups.into_values();
    let (groups, options): (&[Value], Kwargs) = from_args(&groups)?;
    let Some(found) = compile(state, pattern, &options)?.captures(text) else { return Ok(Value::from(())) };
    if groups.is_empty() {
        return Ok(Value::from(found.get_match().as_str()));
    }
    let group = |name: &Value| {
        let name = name.to_string();
        let name = name.trim_start_matches('\\').trim_start_matches("g<").trim_end_matches('>');
        let part = name.parse().map_or_else(|_| found.name(name), |number: usize| found.get(number));
        part.map_or(Value::from(()), |part| Value::from(part.as_str()))
    };
    Ok(groups.iter().map(group).collect())
}

/// Every match; where the pattern has one group, what it matched; where it has more, lists of that.
fn regex_findall(state: &State, text: &str, pattern: &str, options: Kwargs) -> Result<Value, Error> {
    let regex = compile(state, pattern, &options)?;
    let text_of = |part: Option<regex::Match<'_>>| part.map_or("", |part| part.as_str()).to_owned();
    let mut all = Vec::new();
    for found in regex.captures_iter(text) {
        state.consume_fuel(1)?;
        all.push(match found.len() {
            1 => Value::from(text_of(found.get(0))),
            2 => Value::from(text_of(found.get(1))),
            _ => found.iter().skip(1).map(|part| Value::from(text_of(part))).collect(),
        });
    }
    Ok(Value::from(all))
}

/// Whether the pattern matches at the beginning.
fn is_match(state: &State, text: &str, pattern: &str, options: Kwargs) -> Result<bool, Error> {
    Ok(compile(state, pattern, &options)?.find(text).is_some_and(|found| found.start() == 0))
}

/// Whether the pattern matches anywhere.
fn is_search(state: &State, text: &str, pattern: &str, options: Kwargs) -> Result<bool, Error> {
    Ok(compile(state, pattern, &options)?.is_match(text))
}

/// `'1.10' is version('1.9', '>=')`: numbers in versions are compared as numbers.
fn is_version(version: &Value, other: &Value, operator: Option<&str>) -> Result<bool, Error> {
    let order = compare(&version.to_string(), &other.to_string());
    match operator.unwrap_or("==") {
        "==" | "=" | "eq" => Ok(order == Ordering::Equal),
        "!=" | "<>" | "ne" => Ok(order != Ordering::Equal),
        "<" | "lt" => Ok(order == Ordering::Less),
        "<=" | "le" => Ok(order != Ordering::Greater),
        ">" | "gt" => Ok(order == Ordering::Greater),
        ">=" | "ge" => Ok(order != Ordering::Less),
        other => Err(refuse(format!("`version` compares by ==, !=, <, <=, > or >=, not {other:.10?}"))),
    }
}

fn compare(one: &str, other: &str) -> Ordering {
    let (mut ones, mut others) = (parts(one), parts(other));
    // A missing part counts as zero: 1.2 is 1.2.0.
    let length = ones.len().max(others.len());
    ones.resize(length, Part::Number(0));
    others.resize(length, Part::Number(0));
    ones.cmp(&others)
}

/// A letter part stands before a number: 1.0.rc1 is before 1.0.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Word(String),
    Number(u64),
}

fn parts(version: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    for piece in version.split(|c: char| !c.is_alphanumeric()).filter(|piece| !piece.is_empty()) {
        let mut rest = piece;
        while !rest.is_empty() {
            let digit = rest.starts_with(|c: char| c.is_ascii_digit());
            let end = rest.find(|c: char| c.is_ascii_digit() != digit).unwrap_or(rest.len());
            let (part, after) = rest.split_at(end);
            parts.push(if digit {
                Part::Number(part.parse().unwrap_or(u64::MAX))
            } else {
                Part::Word(part.to_owned())
            });
            rest = after;
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> String {
        let mut env = Environment::new();
        env.set_fuel(Some(100_000));
        install(&mut env);
        env.render_str(source, ()).unwrap_or_else(|error| format!("error: {error}"))
    }

    #[test]
    fn patterns() {
        assert_eq!(render(r"{{ 'a1b22' | regex_replace('([a-z])(\\d+)', '\\2\\g<1>$') }}"), "1a$22b$");
        assert_eq!(
            render(r"{{ 'v1.2' | regex_search('\\d\\.\\d') }} {{ 'x' | regex_search('y') is none }}"),
            "1.2 True"
        );
        assert_eq!(render(r"{{ 'k=v' | regex_search('(\\w)=(\\w)', '\\2', '\\1') }}"), "['v', 'k']");
        assert_eq!(render(r"{{ 'a1 b2' | regex_findall('[a-z](\\d)') }}"), "['1', '2']");
        assert_eq!(render("{{ 'a.b' | regex_escape }} {{ 'Abc' is match('ab', ignorecase=true) }}"), r"a\.b True");
        assert_eq!(
            render(
                "{{ 'ABC' | regex_search('b(c)', '\\\\1', ignorecase=true) }}{{ 'abc' is match('b') }} {{ 'abc' is search('b') }}"
            ),
            "['C']False True"
        );
    }

    #[test]
    fn bombs_are_refused() {
        assert!(render(r"{{ 'a' | regex_search('(\\w{100}){100}{100}') }}").contains("cannot be used"));
        let doubling = r"{% set ns = namespace(t='a') %}{% for i in range(40) %}{% set ns.t = ns.t | regex_replace('a', 'aa') %}{% endfor %}";
        assert!(render(doubling).contains("fuel"));
        assert!(render("{{ 'a' is search('(') }}").contains("cannot be used"));
    }

    #[test]
    fn versions() {
        assert_eq!(render("{{ '1.10' is version('1.9', '>') }} {{ '1.2' is version('1.2.0') }}"), "True True");
        assert_eq!(render("{{ '1.0rc1' is version('1.0', '<') }} {{ 12 is version('9', '>=') }}"), "True True");
        assert!(render("{{ '1' is version('2', '~') }}").contains("compares by"));
    }
}
