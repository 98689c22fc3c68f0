//! What Perl writes as JSON: numbers as strings, booleans as 0 and 1.

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;

/// Perl's idea of truth.
pub fn truthy(value: &Value) -> bool {
    match value {
        Value::Bool(it) => *it,
        Value::Number(it) => it.as_f64() != Some(0.0),
        Value::String(it) => !(it.is_empty() || it == "0"),
        _ => false,
    }
}

/// A whole number, or its text.
pub fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// `serde(with)`-style reader of an optional number.
pub fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    match Option::<Value>::deserialize(deserializer)? {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(it)) => Ok(it.as_u64().or_else(|| it.as_f64().map(|it| it.max(0.0) as u64))),
        Some(Value::String(it)) if it.is_empty() => Ok(None),
        Some(Value::String(it)) => whole(&it).map(Some).ok_or_else(|| D::Error::custom("not a number")),
        Some(_) => Err(D::Error::custom("not a number")),
    }
}

/// A number as text, rounded down; 0 when it is negative. Rust's own parser of
/// fractions would be 5 % of a Worker's bundle.
fn whole(text: &str) -> Option<u64> {
    let digits = text.split('.').next()?;
    match digits.strip_prefix('-') {
        Some(digits) => digits.parse::<u64>().ok().map(|_| 0),
        None => digits.parse().ok(),
    }
}

/// `serde(with)`-style reader of a boolean.
pub fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Value::deserialize(deserializer).map(|it| truthy(&it))
}

/// `serde(with)`-style reader of an optional boolean.
pub fn boolean<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    Ok(Option::<Value>::deserialize(deserializer)?.filter(|it| !it.is_null()).map(|it| truthy(&it)))
}
