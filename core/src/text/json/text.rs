//! The parser of JSON texts, which refuses an object that has two members of one name.

use std::{cell::RefCell, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::ValueError;

/// Reason why a text has no value.
#[derive(Debug)]
pub enum ParseError {
    /// The text is not JSON.
    Syntax(serde_json::Error),
    /// An object has two members of one name, and nobody knows which of them its sender meant (RFC 8259, 4).
    DuplicateMember(ValueError),
}

/// Parses a JSON text. A whole number is one however it is written: `3600`, `3600.0`, `3.6e3`.
pub fn parse(text: &[u8]) -> Result<Value, ParseError> {
    let duplicate = RefCell::new(None);
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let read = Unique(&duplicate).deserialize(&mut deserializer);
    let read = read.and_then(|value| deserializer.end().map(|()| value));
    read.map_err(|error| match duplicate.take() {
        Some(error) => ParseError::DuplicateMember(error),
        None => ParseError::Syntax(error),
    })
}

/// Reader of one value, which leaves in its cell the path of a member that is there twice.
#[derive(Clone, Copy)]
struct Unique<'a>(&'a RefCell<Option<ValueError>>);

impl Unique<'_> {
    /// Puts a segment before the path in the cell, if there is one.
    fn prefix_path(self, segment: &str) {
        let error = self.0.take();
        self.0.replace(error.map(|it| it.prefixed(segment)));
    }
}

impl<'de> DeserializeSeed<'de> for Unique<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(exact_integer(number).or_else(|| Number::from_f64(number)).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            match items.next_element_seed(self) {
                Ok(Some(item)) => list.push(item),
                Ok(None) => return Ok(Value::Array(list)),
                Err(error) => {
                    self.prefix_path(&format!("[{}]", list.len()));
                    return Err(error);
                }
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if map.contains_key(&name) {
                self.0.replace(Some(ValueError::of_field(&name, "must be given once")));
                return Err(A::Error::custom("a member is there twice"));
            }
            let value = members.next_value_seed(self).inspect_err(|_| self.prefix_path(&name))?;
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

/// The integer that a floating-point number is, if it is one and small enough to be exact.
fn exact_integer(number: f64) -> Option<Number> {
    const EXACT: f64 = (1_u64 << 53) as f64;
    (number.fract() == 0.0 && number.abs() <= EXACT).then(|| Number::from(number as i64))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Value {
        parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_value_is_what_serde_json_reads() {
        for text in [
            r#"{"a": [1, -2, 1.5, 18446744073709551615, true, null, "\u00e4\n"], "b": {"a": {}}}"#,
            "[]",
            "\"x\"",
            "-9223372036854775808",
        ] {
            assert_eq!(read(text), serde_json::from_str::<Value>(text).unwrap(), "{text}");
        }
    }

    #[test]
    fn a_whole_number_is_one_however_it_is_written() {
        for (text, number) in [
            ("3600.0", json!(3600)),
            ("3.6e3", json!(3600)),
            ("36000E-1", json!(3600)),
            ("-0.0", json!(0)),
            ("-7.0", json!(-7)),
            ("9007199254740992.0", json!(9_007_199_254_740_992_u64)),
            ("0.5", json!(0.5)),
            ("1e300", json!(1e300)),
        ] {
            assert_eq!(read(text), number, "{text}");
        }
    }

    #[test]
    fn a_member_that_is_there_twice_is_named_at_any_depth() {
        for (text, path) in [
            (r#"{"a": 1, "a": 1}"#, "a"),
            (r#"{"metadata": {"x": "1", "y": "2", "x": "3"}}"#, "metadata.x"),
            (r#"{"a": [{}, {"b": {"c": 1, "c": 2}}]}"#, "a[1].b.c"),
            (r#"{"a": 1, "\u0061": 2}"#, "a"),
            (r#"[{"a": 1, "a": 2}]"#, "[0].a"),
        ] {
            let ParseError::DuplicateMember(wrong) = parse(text.as_bytes()).unwrap_err() else {
                panic!("{text}")
            };
            assert_eq!(wrong.into_parts(), (path.to_owned(), "must be given once".to_owned()), "{text}");
        }
        assert!(parse(br#"{"a": {"b": 1}, "b": {"b": 1}}"#).is_ok());
    }

    #[test]
    fn what_is_no_json_is_none() {
        let deep = "[".repeat(100_000);
        for text in ["", "{", "{} x", "{\"a\": 1,}", "nul", "\u{fffd}", "1e999", &deep] {
            assert!(matches!(parse(text.as_bytes()), Err(ParseError::Syntax(_))), "{}", text.len());
        }
    }
}
