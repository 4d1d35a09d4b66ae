//! From argument structs to the JSON schemas agents get: small, flat, without what schemars adds for Rust's sake.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::{Arguments, SNAPSHOT, SessionUse, SnapshotMode, Tool};

/// The argument that names a session, understood by every tool that works in one.
pub const SESSION_ID: &str = "session_id";

/// The argument that says how much text a reply may have, understood by the front end for every tool whose reply may be long.
pub const MAX_BYTES: &str = "max_bytes";

/// The numbers it may be.
pub const MAX_BYTES_RANGE: std::ops::RangeInclusive<u64> = 1024..=1 << 20;

/// Marks an argument for which null is not the same as leaving it out. It does not reach agents.
const NULL_COUNTS: &str = "nullable";

/// The schema of an argument struct.
pub(crate) fn of<A: Arguments>() -> Map<String, Value> {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<A>();
    let mut schema = schema.as_object().cloned().unwrap_or_default();
    // The dialect is the one that MCP assumes.
    schema.remove("$schema");
    // What it does not know a tool refuses by itself, and says so.
    schema.remove("additionalProperties");
    schema.remove("title");
    schema.remove("description");
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(simplify);
    }
    schema.entry("properties").or_insert_with(|| json!({}));
    schema
}

/// The whole input schema of a tool: its own arguments, and those that tools of its kind share.
pub(crate) fn input(tool: &Tool) -> Map<String, Value> {
    let mut schema = tool.arguments_schema();
    if let (true, Some(Value::Object(properties))) = (tool.shows_page, schema.get_mut("properties")) {
        let modes: Vec<_> = SnapshotMode::ALL.iter().map(|(name, _)| *name).collect();
        // What they mean the server's instructions say, once for all tools.
        properties.insert(SNAPSHOT.to_owned(), json!({ "type": "string", "enum": modes }));
    }
    if let (true, Some(Value::Object(properties))) = (tool.long, schema.get_mut("properties")) {
        let (least, most) = (MAX_BYTES_RANGE.start(), MAX_BYTES_RANGE.end());
        let what = "Most bytes of text; a cursor for the rest";
        let bytes = json!({ "type": "integer", "minimum": least, "maximum": most, "description": what });
        properties.insert(MAX_BYTES.to_owned(), bytes);
    }
    let session = match tool.session {
        SessionUse::None => return schema,
        SessionUse::Creates => json!({ "type": "string", "description": "A name of your own opens a session" }),
        SessionUse::Needs => json!({ "type": "string" }),
    };
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.insert(SESSION_ID.to_owned(), session);
    }
    schema
}

/// An optional argument is one that may be left out: nobody needs to read that it may also be null.
fn simplify(property: &mut Value) {
    let Value::Object(property) = property else { return };
    if let Some(Value::Object(items)) = property.get_mut("items") {
        // What the list is of, its own description says; what is not known is refused, as at the top.
        items.remove("description");
        if items.get("additionalProperties") == Some(&json!(false)) {
            items.remove("additionalProperties");
        }
        if let Some(Value::Object(fields)) = items.get_mut("properties") {
            fields.values_mut().for_each(simplify);
        }
    }
    for key in ["default", "format"] {
        property.remove(key);
    }
    // Any object: that is what a schema means that says nothing of it.
    if property.get("additionalProperties") == Some(&Value::Bool(true)) {
        property.remove("additionalProperties");
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
