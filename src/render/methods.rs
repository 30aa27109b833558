//! Python's methods of texts, lists and mappings, paid for before they are made.

use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

/// Bytes that one unit of fuel pays for.
const BYTES_PER_FUEL: usize = 64;

/// Bytes that an item of a list takes.
const ITEM_BYTES: usize = 32;

/// Digits that a width or precision of `format` may have.
const WIDTH_DIGITS_MAX: usize = 4;

/// Calls a method that the engine doesn't know itself.
pub(super) fn call(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return pycompat::unknown_method_callback(state, value, method, args);
    };
    match (method, args) {
        // The filters of these names look at the size of what they will give first.
        ("replace", args) => {
            let all: Vec<Value> = std::iter::once(value).chain(args).cloned().collect();
            state.apply_filter("replace", &all)
        }
        ("join", [items]) => state.apply_filter("join", &[items.clone(), value.clone()]),
        ("format", args) => {
            let bytes = formatted_size(text, args)?;
            state.consume_fuel(1 + (bytes / BYTES_PER_FUEL) as u64)?;
            pycompat::unknown_method_callback(state, value, method, args)
        }
        _ => {
            let parts = if matches!(method, "split" | "splitlines") { parts(text, args) } else { 0 };
            // Changing case can make a text three times as long.
            let bytes = text.len().saturating_mul(3).saturating_add(parts.saturating_mul(ITEM_BYTES));
            state.consume_fuel(1 + (bytes / BYTES_PER_FUEL) as u64)?;
            pycompat::unknown_method_callback(state, value, method, args)
        }
    }
}

/// At most how many bytes `text.format(args)` gives. Widths of over four digits are refused.
fn formatted_size(text: &str, args: &[Value]) -> Result<usize, Error> {
    let longest = text.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap_or_default();
    if longest > WIDTH_DIGITS_MAX {
        let message = format!("`format` takes widths of up to {WIDTH_DIGITS_MAX} digits");
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    let given: usize = args.iter().map(|arg| arg.to_string().len()).sum();
    let each = given.saturating_add(10_usize.pow(longest as u32));
    Ok(text.matches('{').count().saturating_mul(each).saturating_add(text.len()))
}

/// At most how many parts splitting gives.
fn parts(text: &str, args: &[Value]) -> usize {
    match args.first().and_then(Value::as_str).filter(|separator| !separator.is_empty()) {
        Some(separator) => text.matches(separator).count() + 1,
        None => text.chars().filter(|c| c.is_whitespace()).count() + 1,
    }
}
