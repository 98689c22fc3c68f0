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

/// A whole number as Perl prints it: a number or its text, with or without a fraction, which is
/// cut off, or an exponent.
pub fn integer(value: &Value) -> Option<i64> {
    let real = |it: f64| it.is_finite().then_some(it as i64);
    match value {
        Value::Number(it) => it.as_i64().or_else(|| real(it.as_f64()?)),
        Value::String(it) => {
            let text = it.trim();
            text.parse().ok().or_else(|| real(serde_json::from_str(text).ok()?))
        }
        _ => None,
    }
}

/// `serde(with)`-style reader of an optional number; 0 when it is negative.
pub fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    match Option::<Value>::deserialize(deserializer)? {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(it)) if it.is_empty() => Ok(None),
        Some(value) => {
            let number = integer(&value).ok_or_else(|| D::Error::custom("not a number"))?;
            Ok(Some(u64::try_from(number).unwrap_or(0)))
        }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_number_in_each_of_perls_spellings() {
        for (value, number) in [
            (json!(403), Some(403)),
            (json!("403"), Some(403)),
            (json!(403.0), Some(403)),
            (json!("-1.9"), Some(-1)),
            (json!(" 7\n"), Some(7)),
            (json!("1.5e+15"), Some(1_500_000_000_000_000)),
            (json!(1e15), Some(1_000_000_000_000_000)),
            (json!("inf"), None),
            (json!("4x"), None),
            (json!(""), None),
            (json!(null), None),
            (json!([1]), None),
        ] {
            assert_eq!(integer(&value), number, "{value}");
        }
    }

    #[test]
    fn an_optional_number_is_absent_null_or_empty() {
        let read = |value: Value| number(value).map_err(|error: serde_json::Error| error.to_string());
        for value in [json!(null), json!("")] {
            assert_eq!(read(value), Ok(None));
        }
        assert_eq!(read(json!("8589934592")), Ok(Some(8_589_934_592)));
        assert_eq!(read(json!("-3")), Ok(Some(0)));
        assert_eq!(read(json!("much")), Err("not a number".into()));
    }
}
