//! Assertions about the page, and locators for tests.

use browserfleet_common::error_code::ErrorCode;
use browserfleet_tools::{
    GenerateLocator, ValueType, VerifyElementVisible, VerifyListVisible, VerifyTextVisible, VerifyValue,
};
use serde_json::json;

use super::{
    Call, Registry, Reply, ToolResult,
    reply::{locator_code, quoted},
    untrusted::{fenced, line},
};
use crate::failure::Failure;

/// What a reply says when it is so.
const DONE: &str = "Done";
/// Most characters of a text that are shown: a fence around it stays whole in a failure.
const SHOWN: usize = 200;

pub(super) fn register(registry: &mut Registry) {
    registry.add(element_visible);
    registry.add(text_visible);
    registry.add(list_visible);
    registry.add(value);
    registry.add(generate_locator);
}

async fn element_visible(call: Call, arguments: VerifyElementVisible) -> ToolResult {
    let VerifyElementVisible { role, accessible_name: name } = arguments;
    let found = call.page.find_element(&role, &name, call.within(call.times.action)).await?;
    visible(found, || format!("Element with role \"{role}\" and accessible name \"{name}\" not found"))
}

async fn text_visible(call: Call, VerifyTextVisible { text }: VerifyTextVisible) -> ToolResult {
    visible(call.page.find_text(&text, call.within(call.times.action)).await?, || "Text not found".to_owned())
}

fn visible(found: Option<String>, not_found: impl FnOnce() -> String) -> ToolResult {
    let locator = found.ok_or_else(|| failed(not_found()))?;
    Ok(verified(&format!("await expect(page.{locator}).toBeVisible();")))
}

async fn list_visible(call: Call, VerifyListVisible { target, items, element: _ }: VerifyListVisible) -> ToolResult {
    let listed = call.page.list_items(&target, &items, call.within(call.times.action)).await?;
    if let Some(item) = listed.missing {
        return Err(failed(format!("Item \"{item}\" not found")));
    }
    // What was asked for: whole texts of the page have no place in code.
    let lines: Vec<_> = items.iter().map(|item| format!("    - listitem: {}", json!(line(&cut(item))))).collect();
    let snapshot = format!("`\n  - list:\n{}\n  `", lines.join("\n").replace('`', "\\`"));
    Ok(verified(&format!("await expect(page.locator('body')).toMatchAriaSnapshot({snapshot});")))
}

async fn value(call: Call, VerifyValue { r#type, target, value, element: _ }: VerifyValue) -> ToolResult {
    let field = call.page.field_value(&target, call.within(call.times.action)).await?;
    let checkable = matches!(r#type, ValueType::Checkbox | ValueType::Radio);
    // Whatever is not true is false, as for the peer.
    let wanted = if checkable { (value == "true").to_string() } else { value.clone() };
    if field.value != wanted {
        let got = fenced(&cut(&field.value), &call.page.document().url);
        return Err(failed(format!("Expected value \"{}\", but got\n{got}", cut(&value))));
    }
    let locator = locator_code(&target, &field.locator);
    let assertion = match (checkable, wanted.as_str()) {
        (true, "true") => "toBeChecked()".to_owned(),
        (true, _) => "not.toBeChecked()".to_owned(),
        (false, value) => format!("toHaveValue({})", quoted(value)),
    };
    Ok(verified(&format!("await expect(page.{locator}).{assertion};")))
}

async fn generate_locator(call: Call, GenerateLocator { target, element: _ }: GenerateLocator) -> ToolResult {
    let locator = call.page.locator(&target, call.within(call.times.action)).await?;
    Ok(Reply::new().result(locator.clone()).structured(json!({ "locator": locator })))
}

/// It is so; what is not so is a failure.
fn verified(code: &str) -> Reply {
    Reply::new().result(DONE).code(code).structured(json!({ "verified": true }))
}

fn cut(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

fn failed(message: String) -> Failure {
    Failure::new(ErrorCode::VerificationFailed, message)
}
