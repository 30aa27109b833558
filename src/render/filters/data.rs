//! Filters over lists and mappings.

#![expect(clippy::needless_pass_by_value, reason = "the engine hands filters their arguments by value")]

use minijinja::{
    Environment, Error, State, Value,
    value::{Kwargs, Rest, ValueKind, ValueOrKwargs, from_args},
};

use crate::render::filters::refuse;

/// How deep `combine` and `flatten` go.
const DEPTH_MAX: usize = 64;

pub(super) fn install(env: &mut Environment<'static>) {
    env.add_filter("mandatory", mandatory);
    env.add_filter("ternary", ternary);
    env.add_filter("combine", combine);
    env.add_filter("dict2items", dict2items);
    env.add_filter("items2dict", items2dict);
    env.add_filter("flatten", flatten);
    env.add_filter("union", union);
    env.add_filter("intersect", intersect);
    env.add_filter("difference", difference);
    env.add_test("contains", contains);
}

/// The value, which must be there.
fn mandatory(value: Value, message: Option<&str>) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(refuse(message.unwrap_or("a mandatory value is not there")));
    }
    Ok(value)
}

/// One of two values by a truth, or a third for `none`.
fn ternary(value: &Value, yes: Value, no: Value, none: Option<Value>) -> Value {
    match none {
        Some(none) if value.is_none() => none,
        _ if value.is_true() => yes,
        _ => no,
    }
}

/// Mappings laid over each other: the last one wins. With `recursive=true` mappings in them are too.
fn combine(state: &State, base: &Value, others: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let others = others.into_values();
    let (others, options): (&[Value], Kwargs) = from_args(&others)?;
    let recursive = options.get::<Option<bool>>("recursive")?.unwrap_or(false);
    options.assert_all_used()?;
    others.iter().try_fold(base.clone(), |below, above| lay(state, &below, above, recursive, 0))
}

fn lay(state: &State, below: &Value, above: &Value, recursive: bool, depth: usize) -> Result<Value, Error> {
    if below.kind() != ValueKind::Map || above.kind() != ValueKind::Map || depth > DEPTH_MAX {
        return Err(refuse(format!("`combine` takes mappings, not a {} and a {}", below.kind(), above.kind())));
    }
    let mut pairs: Vec<(Value, Value)> = Vec::new();
    for key in below.try_iter()?.checked() {
        let key = key?;
        let item = below.get_item(&key)?;
        let over = above.get_item(&key)?;
        let nested = recursive && item.kind() == ValueKind::Map && over.kind() == ValueKind::Map;
        let item = match () {
            () if nested => lay(state, &item, &over, recursive, depth + 1)?,
            () if over.is_undefined() => item,
            () => over,
        };
        pairs.push((key, item));
    }
    for key in above.try_iter()?.checked() {
        let key = key?;
        if below.get_item(&key)?.is_undefined() {
            pairs.push((key.clone(), above.get_item(&key)?));
        }
    }
    state.consume_fuel(pairs.len() as u64)?;
    Ok(Value::from_pairs(pairs))
}

/// A mapping as a list of `{key, value}`, for loops.
fn dict2items(map: &Value) -> Result<Value, Error> {
    if map.kind() != ValueKind::Map {
        return Err(refuse(format!("`dict2items` takes a mapping, not a {}", map.kind())));
    }
    let pair = |key: Result<Value, Error>| {
        let key = key?;
        let item = map.get_item(&key)?;
        Ok(Value::from_pairs([("key", key), ("value", item)]))
    };
    map.try_iter()?.checked().map(pair).collect::<Result<Vec<Value>, Error>>().map(Value::from)
}

/// The way back.
fn items2dict(list: &Value) -> Result<Value, Error> {
    let pair = |item: Result<Value, Error>| {
        let item = item?;
        let (key, value) = (item.get_attr("key")?, item.get_attr("value")?);
        if key.is_undefined() || value.is_undefined() {
            return Err(refuse("`items2dict` takes a list of mappings with `key` and `value`"));
        }
        Ok((key, value))
    };
    list.try_iter()?.checked().map(pair).collect::<Result<Vec<_>, Error>>().map(Value::from_pairs)
}

/// Lists in lists as one list; with `levels=1` only the outermost.
fn flatten(state: &State, list: &Value, options: Kwargs) -> Result<Value, Error> {
    let levels = options.get::<Option<usize>>("levels")?.unwrap_or(DEPTH_MAX);
    options.assert_all_used()?;
    let mut flat = Vec::new();
    spread(state, list, levels.min(DEPTH_MAX), &mut flat)?;
    Ok(Value::from(flat))
}

fn spread(state: &State, list: &Value, levels: usize, flat: &mut Vec<Value>) -> Result<(), Error> {
    for item in list.try_iter()?.checked() {
        let item = item?;
        state.consume_fuel(1)?;
        if levels > 0 && matches!(item.kind(), ValueKind::Seq | ValueKind::Iterable) {
            spread(state, &item, levels - 1, flat)?;
        } else {
            flat.push(item);
        }
    }
    Ok(())
}

fn items(state: &State, list: &Value) -> Result<Vec<Value>, Error> {
    list.try_iter()?.checked().inspect(|_| ()).map(|item| state.consume_fuel(1).and(item)).collect()
}

/// Every item once, in order.
fn distinct(state: &State, all: impl IntoIterator<Item = Value>) -> Result<Value, Error> {
    let mut kept: Vec<Value> = Vec::new();
    for item in all {
        state.consume_fuel(1 + kept.len() as u64 / 8)?;
        if !kept.contains(&item) {
            kept.push(item);
        }
    }
    Ok(Value::from(kept))
}

fn union(state: &State, one: &Value, other: &Value) -> Result<Value, Error> {
    let (one, other) = (items(state, one)?, items(state, other)?);
    distinct(state, one.into_iter().chain(other))
}

fn intersect(state: &State, one: &Value, other: &Value) -> Result<Value, Error> {
    let (one, other) = (items(state, one)?, items(state, other)?);
    state.consume_fuel(one.len().saturating_mul(other.len()) as u64 / 8)?;
    distinct(state, one.into_iter().filter(|item| other.contains(item)))
}

fn difference(state: &State, one: &Value, other: &Value) -> Result<Value, Error> {
    let (one, other) = (items(state, one)?, items(state, other)?);
    state.consume_fuel(one.len().saturating_mul(other.len()) as u64 / 8)?;
    distinct(state, one.into_iter().filter(|item| !other.contains(item)))
}

/// `list is contains(item)`, for `selectattr`.
fn contains(state: &State, list: &Value, item: &Value) -> Result<bool, Error> {
    match (list.as_str(), item.as_str()) {
        (Some(text), Some(part)) => Ok(text.contains(part)),
        _ => Ok(items(state, list)?.contains(item)),
    }
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
    fn mappings() {
        assert_eq!(render("{{ {'a': 1, 'b': 2} | combine({'b': 3}, {'c': 4}) }}"), "{'a': 1, 'b': 3, 'c': 4}");
        assert_eq!(
            render("{{ {'a': {'x': 1}} | combine({'a': {'y': 2}}, recursive=true) }}"),
            "{'a': {'x': 1, 'y': 2}}"
        );
        assert_eq!(render("{{ {'a': {'x': 1}} | combine({'a': {'y': 2}}) }}"), "{'a': {'y': 2}}");
        assert!(render("{{ [1] | combine({}) }}").contains("takes mappings"));
        assert_eq!(render("{{ {'a': 1} | dict2items }}"), "[{'key': 'a', 'value': 1}]");
        assert_eq!(render("{{ {'a': 1} | dict2items | items2dict }}"), "{'a': 1}");
    }

    #[test]
    fn lists() {
        assert_eq!(
            render("{{ [1, [2, [3]]] | flatten }} {{ [1, [2, [3]]] | flatten(levels=1) }}"),
            "[1, 2, 3] [1, 2, [3]]"
        );
        assert_eq!(render("{{ [1, 2, 2] | union([3, 1]) }} {{ [1, 2] | intersect([2]) }}"), "[1, 2, 3] [2]");
        assert_eq!(render("{{ [1, 2, 1] | difference([2]) }} {{ [1, 2] is contains(2) }}"), "[1] True");
        assert!(render("{{ range(90000) | list | union([1]) }}").contains("fuel"));
    }

    #[test]
    fn choices() {
        assert_eq!(
            render("{{ true | ternary('a', 'b') }} {{ 0 | ternary('a', 'b') }} {{ none | ternary(1, 2, 3) }}"),
            "a b 3"
        );
        assert!(render("{{ missing | mandatory('give x') }}").contains("give x"));
        assert_eq!(render("{{ 1 | mandatory }}"), "1");
    }
}
