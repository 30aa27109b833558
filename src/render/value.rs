//! Data to the template engine's values and back.

use minijinja::{Error, ErrorKind, Value, value::ValueKind};
use serde_json::{Map, Number, Value as Data};

use crate::model::node::{Node, Value as Shape};

/// Values that one result may consist of. Template results become arguments of steps: more is a slip.
const PARTS_MAX: usize = 1_000_000;

/// How deep a result may be nested.
const DEPTH_MAX: usize = 64;

/// Data as templates see it: integers stay integers, mappings keep their order.
pub(super) fn from_data(data: &Data) -> Value {
    match data {
        Data::Null => Value::from(()),
        Data::Bool(truth) => Value::from(*truth),
        Data::Number(number) => from_number(number),
        Data::String(text) => Value::from(&**text),
        Data::Array(items) => items.iter().map(from_data).collect(),
        Data::Object(map) => Value::from_pairs(map.iter().map(|(key, item)| (&**key, from_data(item)))),
    }
}

fn from_number(number: &Number) -> Value {
    match (number.as_i64(), number.as_u64()) {
        (Some(whole), _) => Value::from(whole),
        (None, Some(whole)) => Value::from(whole),
        (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
    }
}

/// A template's value as data. Undefined values, functions, and numbers that data cannot hold are errors.
pub(super) fn to_data(value: &Value) -> Result<Data, Error> {
    convert(value, &mut 0, 0)
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

fn convert(value: &Value, parts: &mut usize, depth: usize) -> Result<Data, Error> {
    *parts += 1;
    if *parts > PARTS_MAX || depth > DEPTH_MAX {
        return Err(wrong(format!("the result has more than {PARTS_MAX} parts, or is nested over {DEPTH_MAX} deep")));
    }
    match value.kind() {
        ValueKind::None => Ok(Data::Null),
        ValueKind::Bool => Ok(Data::Bool(value.is_true())),
        ValueKind::Number => to_number(value),
        ValueKind::String => Ok(Data::String(value.as_str().unwrap_or_default().to_owned())),
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter()?.checked();
            items.map(|item| convert(&item?, parts, depth + 1)).collect::<Result<_, _>>().map(Data::Array)
        }
        ValueKind::Map => to_map(value, parts, depth),
        ValueKind::Undefined => Err(Error::from(ErrorKind::UndefinedError)),
        ValueKind::Bytes | ValueKind::Plain => Err(wrong(format!("the result is no data: {value:.40}"))),
        _ => Err(value.get_attr("").err().unwrap_or_else(|| wrong("the result is no data"))),
    }
}

fn to_map(value: &Value, parts: &mut usize, depth: usize) -> Result<Data, Error> {
    let mut map = Map::new();
    for key in value.try_iter()?.checked() {
        let key = key?;
        let item = value.get_item(&key)?;
        map.insert(key.to_string(), convert(&item, parts, depth + 1)?);
    }
    Ok(Data::Object(map))
}

fn to_number(value: &Value) -> Result<Data, Error> {
    if let Ok(whole) = i64::try_from(value.clone())
        && value.is_integer()
    {
        return Ok(Data::from(whole));
    }
    if let Ok(whole) = u64::try_from(value.clone())
        && value.is_integer()
    {
        return Ok(Data::from(whole));
    }
    let fraction = f64::try_from(value.clone())?;
    let number = Number::from_f64(fraction).filter(|_| !value.is_integer());
    number.map(Data::Number).ok_or_else(|| wrong(format!("the result {value} is no number that can be kept")))
}

/// About how many bytes a rendered node holds.
pub(super) fn size(node: &Node) -> usize {
    size_of::<Node>()
        + match &node.value {
            Shape::Text { text, .. } => text.len(),
            Shape::List(items) => items.iter().map(size).sum(),
            Shape::Map(entries) => entries.iter().map(|entry| entry.key.len() + size(&entry.value)).sum(),
            Shape::Null | Shape::Bool(_) | Shape::Int(_) | Shape::Float(_) => 0,
        }
}
