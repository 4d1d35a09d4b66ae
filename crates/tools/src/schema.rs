//! From argument structs to the JSON schemas agents get: small, flat, without what schemars adds for Rust's sake.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::{Arguments, SessionUse, Tool};

/// The argument that names a session, understood by every tool that works in one.
pub const SESSION_ID: &str = "session_id";

/// Marks an argument for which null is not the same as leaving it out. It does not reach agents.
const NULL_COUNTS: &str = "nullable";

/// The schema of an argument struct.
pub(crate) fn of<A: Arguments>() -> Map<String, Value> {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<A>();
    let mut schema = schema.as_object().cloned().unwrap_or_default();
    schema.remove("title");
    schema.remove("description");
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(simplify);
    }
    schema.entry("properties").or_insert_with(|| json!({}));
    schema
}

/// The whole input schema of a tool.
pub(crate) fn input(tool: &Tool) -> Map<String, Value> {
    let mut schema = tool.arguments_schema();
    let text = match tool.session {
        SessionUse::None => return schema,
        SessionUse::Creates => "The session to use; a name of your own opens one. Without it: your default session",
        SessionUse::Needs => "The session to use. Without it: your default session",
    };
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.insert(SESSION_ID.to_owned(), json!({ "type": "string", "description": text }));
    }
    schema
}

/// An optional argument is one that may be left out: nobody needs to read that it may also be null.
fn simplify(property: &mut Value) {
    let Value::Object(property) = property else { return };
    if let Some(Value::Object(fields)) = property.get_mut("items").and_then(|items| items.get_mut("properties")) {
        fields.values_mut().for_each(simplify);
    }
    for key in ["default", "format"] {
        property.remove(key);
    }
    if property.remove(NULL_COUNTS).is_some() {
        return;
    }
    if let Some(Value::Array(types)) = property.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            property.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(words)) = property.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
    if let Some(Value::Array(mut choices)) = property.remove("anyOf") {
        choices.retain(|choice| choice != &json!({ "type": "null" }));
        if let [Value::Object(only)] = choices.as_slice() {
            property.extend(only.clone());
        } else {
            property.insert("anyOf".to_owned(), Value::Array(choices));
        }
    }
}
