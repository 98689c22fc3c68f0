//! The reader of JSON values into types of ours. Its errors name the field and the fix in a caller's words, where
//! `serde_json::from_value` names no field, takes a list for a struct, and speaks of `u64` and variants.

mod text;

use std::fmt::Display;

use serde::{
    Deserializer,
    de::{DeserializeOwned, DeserializeSeed, Error, Expected, IntoDeserializer, Unexpected, Visitor},
    forward_to_deserialize_any,
};
use serde_json::{Map, Value};

pub use self::text::{ParseError, parse};

/// Reads a value as a `T`.
pub fn read<T: DeserializeOwned>(value: Value) -> Result<T, ValueError> {
    T::deserialize(Json(value, None))
}

/// Reads an object as a `T`, and returns beside it the members that a `T` does not know.
pub fn read_with_rest<T: DeserializeOwned>(value: Value) -> Result<(T, Map<String, Value>), ValueError> {
    let mut rest = Map::new();
    let read = T::deserialize(Json(value, Some(&mut rest)))?;
    Ok((read, rest))
}

/// Error of a value that is not the `T` it should be: the path of its field, and the fix.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", .0.path, .0.fix)]
pub struct ValueError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    path: String,
    fix: String,
}

impl ValueError {
    /// Path of the field, such as `env.HOME` or `argv[1]`, empty for the whole value; and the fix.
    pub fn into_parts(self) -> (String, String) {
        (self.0.path, self.0.fix)
    }

    /// Puts a segment before the path.
    fn prefixed(mut self, segment: &str) -> Self {
        let dot = if self.0.path.is_empty() || self.0.path.starts_with('[') { "" } else { "." };
        self.0.path = format!("{segment}{dot}{}", self.0.path);
        self
    }

    /// An error from the phrase `what` of one of our own types. The phrases of serde's types name Rust's types, so those
    /// have words of their own below.
    fn expected(what: &dyn Expected) -> Self {
        Self::custom(format_args!("must be {what}"))
    }

    fn of_field(field: &str, fix: impl Display) -> Self {
        Self::custom(fix).prefixed(field)
    }
}

impl Error for ValueError {
    fn custom<T: Display>(fix: T) -> Self {
        Self(Box::new(Inner { path: String::new(), fix: fix.to_string() }))
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::expected(expected)
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::expected(expected)
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format_args!("must be one of {}", expected.join(", ")))
    }

    /// The name of the field is in the path already.
    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format_args!("is not known here; known are {}", expected.join(", ")))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::of_field(field, "is needed")
    }
}

/// Deserializer of a value; unknown members of the outermost object go into the map, if there is one.
struct Json<'a>(Value, Option<&'a mut Map<String, Value>>);

impl Json<'_> {
    fn members(self) -> Result<Members, ValueError> {
        match self.0 {
            Value::Object(members) => Ok(Members::of(members)),
            _ => Err(ValueError::custom("must be an object")),
        }
    }

    /// The members that are among `fields`, without the rest if a map takes that.
    fn known(mut self, fields: &[&str]) -> Result<Members, ValueError> {
        if let (Value::Object(members), Some(rest)) = (&mut self.0, self.1.take()) {
            let all = std::mem::take(members).into_iter();
            let (known, unknown) = all.partition(|(name, _)| fields.contains(&name.as_str()));
            (*members, *rest) = (known, unknown);
        }
        self.members()
    }

    fn items(self) -> Result<Items, ValueError> {
        match self.0 {
            Value::Array(items) => Ok(Items(items.into_iter().enumerate())),
            _ => Err(ValueError::custom("must be a list")),
        }
    }

    fn text(self) -> Result<String, ValueError> {
        match self.0 {
            Value::String(text) => Ok(text),
            _ => Err(ValueError::custom("must be a string")),
        }
    }

    fn number<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match (self.0.as_u64(), self.0.as_i64(), self.0.as_f64()) {
            (Some(number), ..) => visitor.visit_u64(number),
            (_, Some(number), _) => visitor.visit_i64(number),
            (_, _, Some(number)) => visitor.visit_f64(number),
            _ => Err(ValueError::expected(&visitor)),
        }
    }

    /// Hands a whole number from 0 to `most` to the visitor.
    fn whole<'de, V: Visitor<'de>>(self, visitor: V, most: u64) -> Result<V::Value, ValueError> {
        match self.0.as_u64() {
            Some(number) if number <= most => visitor.visit_u64(number),
            _ => Err(self.not_whole(most)),
        }
    }

    fn not_whole(self, most: u64) -> ValueError {
        match self.0.as_f64() {
            Some(number) if number.fract() != 0.0 => ValueError::custom("must be a whole number"),
            Some(number) if number < 0.0 => ValueError::custom("must not be negative"),
            Some(_) => ValueError::custom(format_args!("must be at most {most}")),
            None => ValueError::custom("must be a whole number"),
        }
    }
}

impl<'de> Deserializer<'de> for Json<'_> {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(_) => self.number(visitor),
            Value::String(text) => visitor.visit_string(text),
            Value::Array(items) => visitor.visit_seq(Items(items.into_iter().enumerate())),
            Value::Object(members) => visitor.visit_map(Members::of(members)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.0 {
            Value::Bool(value) => visitor.visit_bool(value),
            _ => Err(ValueError::custom("must be true or false")),
        }
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.whole(visitor, u32::MAX.into())
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.whole(visitor, u64::MAX)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.0.as_i64() {
            Some(number) => visitor.visit_i64(number),
            None => Err(ValueError::custom("must be a whole number")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_string(self.text()?)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_seq(self.items()?)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_map(self.members()?)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        visitor.visit_map(self.known(fields)?)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        visitor.visit_enum(self.text()?.into_deserializer())
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u128 f32 f64 char str bytes byte_buf unit unit_struct newtype_struct
        tuple tuple_struct identifier
    }
}

/// Members of an object, one after the other.
struct Members {
    rest: serde_json::map::IntoIter,
    name: String,
    value: Value,
}

impl Members {
    fn of(members: Map<String, Value>) -> Self {
        Self { rest: members.into_iter(), name: String::new(), value: Value::Null }
    }
}

impl<'de> serde::de::MapAccess<'de> for Members {
    type Error = ValueError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ValueError> {
        let Some(member) = self.rest.next() else { return Ok(None) };
        (self.name, self.value) = member;
        let read: Result<_, ValueError> = seed.deserialize(self.name.as_str().into_deserializer());
        read.map(Some).map_err(|error| error.prefixed(&self.name))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ValueError> {
        seed.deserialize(Json(self.value.take(), None)).map_err(|error| error.prefixed(&self.name))
    }
}

/// Items of a list with their positions.
struct Items(std::iter::Enumerate<std::vec::IntoIter<Value>>);

impl<'de> serde::de::SeqAccess<'de> for Items {
    type Error = ValueError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ValueError> {
        let Some((at, item)) = self.0.next() else { return Ok(None) };
        seed.deserialize(Json(item, None)).map(Some).map_err(|error| error.prefixed(&format!("[{at}]")))
    }
}
