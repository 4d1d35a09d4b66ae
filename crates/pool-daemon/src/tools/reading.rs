//! Reading a page, and getting data out of it.

use std::fmt::Write as _;

use browserfleet_tools::{Extract, Read};
use serde_json::{Map, Value, json};

use super::{Call, Registry, Reply, ToolResult, untrusted::fenced};
use crate::{
    failure::Failure,
    page::{Facts, Readable},
};

/// Most levels of a schema, fields of all its levels, and characters of a selector, an attribute or a name.
const MAX_LEVELS: usize = 5;
const MAX_FIELDS: usize = 100;
const MAX_WORDS: usize = 1000;

pub(super) fn register(registry: &mut Registry) {
    registry.add(read);
    registry.add(extract);
}

async fn read(call: Call, Read { target, filename: _ }: Read) -> ToolResult {
    if !call.page.arrived(call.within(call.times.action)).await {
        return Ok(Reply::new().still_loading(&call.page.document()));
    }
    let Readable { url, facts, markdown, truncated, links, more_links } =
        call.page.read(target.as_deref(), call.within(call.times.action)).await?;
    let mut text = fenced(&format!("{}{markdown}", front_matter(&facts)), &url);
    if truncated {
        text.push_str("\nThe page is larger than what is read of it; ask for a part of it with target.");
    }
    let structured = json!({ "metadata": facts, "links": links, "more_links": more_links, "truncated": truncated });
    Ok(Reply::new().result(text).structured(structured))
}

/// What the author says about the page, before its text.
fn front_matter(facts: &Facts) -> String {
    let said = [
        ("title", &facts.title),
        ("byline", &facts.byline),
        ("published", &facts.published),
        ("site", &facts.site),
        ("description", &facts.description),
        ("canonical_url", &facts.canonical_url),
        ("language", &facts.language),
    ];
    let mut text = String::new();
    for (name, value) in said {
        if let Some(value) = value {
            // Writing to a String cannot fail.
            let _infallible = writeln!(text, "{name}: {value}");
        }
    }
    if text.is_empty() { text } else { format!("{text}\n") }
}

async fn extract(call: Call, Extract { schema, target, filename: _ }: Extract) -> ToolResult {
    let fields = Checked::default().fields(&schema, "schema", 1)?;
    if !call.page.arrived(call.within(call.times.action)).await {
        return Ok(Reply::new().still_loading(&call.page.document()));
    }
    let extracted = call.page.extract(fields, target.as_deref(), call.within(call.times.action)).await?;
    let written = serde_json::to_string_pretty(&extracted.data).unwrap_or_default();
    let mut text = fenced(&written, &extracted.url);
    if extracted.truncated {
        text.push_str("\nThere is more than a result may have; ask for a part of it with target.");
    }
    Ok(Reply::new().result(text).structured(json!({ "data": extracted.data, "truncated": extracted.truncated })))
}

/// A schema on its way from the agent's form to the one that the page's script takes.
#[derive(Debug, Default)]
struct Checked {
    /// Fields so far.
    fields: usize,
}

impl Checked {
    fn fields(&mut self, schema: &Map<String, Value>, path: &str, level: usize) -> Result<Value, Failure> {
        if schema.is_empty() {
            return Err(Failure::invalid(format!("{path} has no fields: say what to get, by name")));
        }
        if level > MAX_LEVELS {
            return Err(Failure::invalid(format!("{path}: a schema may have {MAX_LEVELS} levels")));
        }
        let mut fields = Map::new();
        for (name, field) in schema {
            let path = format!("{path}.{name}");
            self.fields += 1;
            if self.fields > MAX_FIELDS {
                return Err(Failure::invalid(format!("{path}: a schema may have {MAX_FIELDS} fields")));
            }
            // In a script it would be no name of a field.
            if name == "__proto__" {
                return Err(Failure::invalid(format!("{path}: a field cannot have this name")));
            }
            fields.insert(words(name, &path)?, self.field(field, &path, level)?);
        }
        Ok(Value::Object(fields))
    }

    fn field(&mut self, field: &Value, path: &str, level: usize) -> Result<Value, Failure> {
        let given = match field {
            Value::String(selector) => {
                return Ok(one(&json!(words(selector, path)?), &Value::Null, false, &Value::Null));
            }
            Value::Object(given) => given,
            _ => return Err(Failure::invalid(format!("{path} is neither a selector nor an object with one"))),
        };
        let (mut selector, mut attribute, mut all, mut fields) = (Value::Null, Value::Null, false, Value::Null);
        for (name, value) in given {
            let at = format!("{path}.{name}");
            match (name.as_str(), value) {
                ("selector", Value::String(text)) => selector = words(text, &at)?.into(),
                ("attribute", Value::String(text)) => attribute = words(text, &at)?.into(),
                ("all", Value::Bool(given)) => all = *given,
                ("fields", Value::Object(inner)) => fields = self.fields(inner, &at, level + 1)?,
                ("selector" | "attribute", _) => return Err(Failure::invalid(format!("{at} is not a text"))),
                ("all", _) => return Err(Failure::invalid(format!("{at} is neither true nor false"))),
                ("fields", _) => return Err(Failure::invalid(format!("{at} is not an object"))),
                _ => {
                    let message = format!("{at}: a field has selector, attribute, all and fields, and nothing else");
                    return Err(Failure::invalid(message));
                }
            }
        }
        if !attribute.is_null() && !fields.is_null() {
            return Err(Failure::invalid(format!("{path} has an attribute and fields; give one of them")));
        }
        if selector.is_null() && (all || attribute.is_null()) {
            return Err(Failure::invalid(format!("{path} has no selector")));
        }
        Ok(one(&selector, &attribute, all, &fields))
    }
}

fn one(selector: &Value, attribute: &Value, all: bool, fields: &Value) -> Value {
    json!({ "selector": selector, "attribute": attribute, "all": all, "fields": fields })
}

fn words(text: &str, path: &str) -> Result<String, Failure> {
    if text.trim().is_empty() || text.chars().count() > MAX_WORDS {
        return Err(Failure::invalid(format!("{path} has to have from 1 to {MAX_WORDS} characters")));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(schema: &Value) -> Result<Value, String> {
        Checked::default().fields(schema.as_object().unwrap(), "schema", 1).map_err(|failure| failure.message)
    }

    #[test]
    fn a_selector_is_short_for_a_field_with_nothing_else() {
        assert_eq!(checked(&json!({ "a": "h1" })), checked(&json!({ "a": { "selector": "h1" } })));
        let own =
            checked(&json!({ "a": { "selector": "tr", "all": true, "fields": { "id": { "attribute": "id" } } } }))
                .unwrap();
        assert_eq!(own["a"]["fields"]["id"]["selector"], Value::Null, "the row's own attribute");
    }

    #[test]
    fn a_bad_schema_is_told_where_it_is_bad() {
        let mut deep = json!("a");
        for _ in 0..MAX_LEVELS {
            deep = json!({ "selector": "a", "fields": { "x": deep } });
        }
        let many: Map<String, Value> = (0..=MAX_FIELDS).map(|n| (n.to_string(), json!("a"))).collect();
        for (schema, told) in [
            (json!({}), "schema has no fields"),
            (json!({ "a": 5 }), "schema.a is neither"),
            (json!({ "a": "" }), "schema.a has to have from 1"),
            (json!({ "a": { "all": true } }), "schema.a has no selector"),
            (json!({ "a": { "selector": 5 } }), "schema.a.selector is not a text"),
            (json!({ "a": { "selector": "a", "all": "yes" } }), "schema.a.all is neither"),
            (json!({ "a": { "selector": "a", "limit": 5 } }), "schema.a.limit: a field has"),
            (json!({ "a": { "selector": "a", "attribute": "b", "fields": { "c": "d" } } }), "give one of them"),
            (json!({ "a": { "selector": "a", "fields": { "__proto__": "d" } } }), "schema.a.fields.__proto__"),
            (json!({ "a": deep }), "may have 5 levels"),
            (Value::Object(many), "may have 100 fields"),
        ] {
            let message = checked(&schema).unwrap_err();
            assert!(message.contains(told), "{message}");
        }
    }
}
