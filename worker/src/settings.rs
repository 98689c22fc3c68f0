//! Vars, secrets and bindings, as the text pairs that core reads.

use pve_edge_core::api::Pairs;
use worker::{
    Env,
    js_sys::{Array, JSON, Object, Reflect},
    wasm_bindgen::{JsCast, JsValue},
};

/// Stands before the text of a var that is a table or a list. No setting's value may hold a control
/// character, so core names such a var as an error and nothing that is set is taken as unset (rule P1.4).
const NOT_TEXT: char = '\0';

/// All vars and secrets. Bindings are objects with a class of their own and no
/// settings, so they are left out.
pub(crate) fn pairs(env: &Env) -> Pairs {
    let keys = Reflect::own_keys(env).unwrap_or_default();
    keys.iter().filter_map(|key| Some((key.as_string()?, text(&Reflect::get(env, &key).ok()?)?))).collect()
}

/// A number or boolean of `[vars]` is as good as its text.
fn text(value: &JsValue) -> Option<String> {
    if let Some(text) = value.as_string() {
        return Some(text);
    }
    if value.as_f64().is_some() || value.as_bool().is_some() {
        return json(value);
    }
    if value.is_null() || Array::is_array(value) || is_table(value) {
        return Some(format!("{NOT_TEXT}{}", json(value).unwrap_or_default()));
    }
    None
}

fn is_table(value: &JsValue) -> bool {
    value.dyn_ref::<Object>().is_some_and(|object| object.constructor().name() == "Object")
}

fn json(value: &JsValue) -> Option<String> {
    JSON::stringify(value).ok().map(String::from)
}
