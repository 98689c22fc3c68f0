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

/// All vars and secrets, and bindings: core looks at its settings' names alone, and a binding of such a name, one of the
/// Secrets Store, say, is wrong.
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
    // A binding is not asked for its JSON: it would send `toJSON` to what it leads to, as a call.
    let shown = if is_plain(value) { json(value) } else { None };
    Some(format!("{NOT_TEXT}{}", shown.unwrap_or_default()))
}

fn is_plain(value: &JsValue) -> bool {
    let is_table = |object: &Object| object.constructor().name() == "Object";
    value.is_null() || Array::is_array(value) || value.dyn_ref::<Object>().is_some_and(is_table)
}

fn json(value: &JsValue) -> Option<String> {
    JSON::stringify(value).ok().map(String::from)
}
