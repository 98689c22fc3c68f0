//! JSON values as types of ours, and where one is wrong, in a caller's words.
//!
//! `serde_json::from_value` names no field, takes a list for a struct, and
//! speaks of `u64` and variants.

mod text;

use std::fmt::Display;

use serde::{
    Deserializer,
    de::{DeserializeOwned, DeserializeSeed, Error, Expected, IntoDeserializer, Unexpected, Visitor},
    forward_to_deserialize_any,
};
use serde_json::{Map, Value};

pub use self::text::{Unread, parse};

/// The value as a `T`.
pub fn read<T: DeserializeOwned>(value: Value) -> Result<T, Wrong> {
    T::deserialize(Json(value, None))
}

/// The value as a `T`, and those of its members that a `T` does not know.
/// `#[serde(flatten)]` would read both by way of a third kind of value.
pub fn read_with_rest<T: DeserializeOwned>(value: Value) -> Result<(T, Map<String, Value>), Wrong> {
    let mut rest = Map::new();
    let read = T::deserialize(Json(value, Some(&mut rest)))?;
    Ok((read, rest))
}

/// What is wrong with a value.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", .0.path, .0.fix)]
pub struct Wrong(Box<Inner>);

#[derive(Debug)]
struct Inner {
    path: String,
    fix: String,
}

impl Wrong {
    /// Where, such as `env.HOME` or `argv[1]`, or nothing; and what would be right.
    pub fn into_parts(self) -> (String, String) {
        (self.0.path, self.0.fix)
    }

    fn under(mut self, segment: &str) -> Self {
        let dot = if self.0.path.is_empty() || self.0.path.starts_with('[') { "" } else { "." };
        self.0.path = format!("{segment}{dot}{}", self.0.path);
        self
    }

    /// `what` is a phrase of a type of ours: serde's own name Rust's types, so each of those has words here.
    fn expected(what: &dyn Expected) -> Self {
        Self::custom(format_args!("must be {what}"))
    }

    fn at(field: &str, fix: impl Display) -> Self {
        Self::custom(fix).under(field)
    }
}

impl Error for Wrong {
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

    /// The name is in the path.
    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format_args!("is not known here; known are {}", expected.join(", ")))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::at(field, "is needed")
    }
}

struct Json<'a>(Value, Option<&'a mut Map<String, Value>>);

impl Json<'_> {
    /// Not in the callers, which are there once for each type.
    #[inline(never)]
    fn members(self) -> Result<Members, Wrong> {
        match self.0 {
            Value::Object(members) => Ok(Members::of(members)),
            _ => Err(Wrong::custom("must be an object")),
        }
    }

    #[inline(never)]
    fn known(mut self, fields: &[&str]) -> Result<Members, Wrong> {
        if let (Value::Object(members), Some(rest)) = (&mut self.0, self.1.take()) {
            let all = std::mem::take(members).into_iter();
            let (known, unknown) = all.partition(|(name, _)| fields.contains(&name.as_str()));
            (*members, *rest) = (known, unknown);
        }
        self.members()
    }

    #[inline(never)]
    fn items(self) -> Result<Items, Wrong> {
        match self.0 {
            Value::Array(items) => Ok(Items(items.into_iter().enumerate())),
            _ => Err(Wrong::custom("must be a list")),
        }
    }

    #[inline(never)]
    fn text(self) -> Result<String, Wrong> {
        match self.0 {
            Value::String(text) => Ok(text),
            _ => Err(Wrong::custom("must be a string")),
        }
    }

    fn number<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match (self.0.as_u64(), self.0.as_i64(), self.0.as_f64()) {
            (Some(number), ..) => visitor.visit_u64(number),
            (_, Some(number), _) => visitor.visit_i64(number),
            (_, _, Some(number)) => visitor.visit_f64(number),
            _ => Err(Wrong::expected(&visitor)),
        }
    }

    /// A whole number from 0 to `most`, if the visitor takes it.
    fn whole<'de, V: Visitor<'de>>(self, visitor: V, most: u64) -> Result<V::Value, Wrong> {
        match self.0.as_u64() {
            Some(number) if number <= most => visitor.visit_u64(number),
            _ => Err(self.not_whole(most)),
        }
    }

    #[inline(never)]
    fn not_whole(self, most: u64) -> Wrong {
        match self.0.as_f64() {
            Some(number) if number.fract() != 0.0 => Wrong::custom("must be a whole number"),
            Some(number) if number < 0.0 => Wrong::custom("must not be negative"),
            Some(_) => Wrong::custom(format_args!("must be at most {most}")),
            None => Wrong::custom("must be a whole number"),
        }
    }
}

impl<'de> Deserializer<'de> for Json<'_> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(_) => self.number(visitor),
            Value::String(text) => visitor.visit_string(text),
            Value::Array(items) => visitor.visit_seq(Items(items.into_iter().enumerate())),
            Value::Object(members) => visitor.visit_map(Members::of(members)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.0 {
            Value::Bool(value) => visitor.visit_bool(value),
            _ => Err(Wrong::custom("must be true or false")),
        }
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.whole(visitor, u32::MAX.into())
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.whole(visitor, u64::MAX)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.0.as_i64() {
            Some(number) => visitor.visit_i64(number),
            None => Err(Wrong::custom("must be a whole number")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_string(self.text()?)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_seq(self.items()?)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_map(self.members()?)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_map(self.known(fields)?)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_enum(self.text()?.into_deserializer())
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u128 f32 f64 char str bytes byte_buf unit unit_struct newtype_struct
        tuple tuple_struct identifier
    }
}

struct Members {
    left: serde_json::map::IntoIter,
    name: String,
    value: Value,
}

impl Members {
    fn of(members: Map<String, Value>) -> Self {
        Self { left: members.into_iter(), name: String::new(), value: Value::Null }
    }

    #[inline(never)]
    fn advance(&mut self) -> bool {
        let Some(member) = self.left.next() else { return false };
        (self.name, self.value) = member;
        true
    }
}

impl<'de> serde::de::MapAccess<'de> for Members {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Wrong> {
        if !self.advance() {
            return Ok(None);
        }
        let read: Result<_, Wrong> = seed.deserialize(self.name.as_str().into_deserializer());
        read.map(Some).map_err(|error| error.under(&self.name))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Wrong> {
        seed.deserialize(Json(self.value.take(), None)).map_err(|error| error.under(&self.name))
    }
}

struct Items(std::iter::Enumerate<std::vec::IntoIter<Value>>);

impl<'de> serde::de::SeqAccess<'de> for Items {
    type Error = Wrong;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Wrong> {
        let Some((at, item)) = self.0.next() else { return Ok(None) };
        seed.deserialize(Json(item, None)).map(Some).map_err(|error| error.under(&format!("[{at}]")))
    }
}
