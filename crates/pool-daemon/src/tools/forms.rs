//! Filling forms.

use browserfleet_tools::{Check, FieldType, FillForm, FormField, SelectOption, Uncheck};

use super::{
    Call, Registry, Reply, ToolResult, observe,
    reply::{locator_code, quoted},
};
use crate::failure::Failure;

pub(super) fn register(registry: &mut Registry) {
    registry.add(select_option);
    registry.add(check);
    registry.add(uncheck);
    registry.add(fill_form);
}

async fn select_option(call: Call, arguments: SelectOption) -> ToolResult {
    let SelectOption { target, values, element: _ } = arguments;
    let mark = call.page.mark().await;
    let found = call.page.select(&target, &values, call.within(call.times.action)).await?;
    let quoted: Vec<_> = values.iter().map(|value| quoted(value)).collect();
    let chosen = if let [only] = quoted.as_slice() { only.clone() } else { format!("[{}]", quoted.join(", ")) };
    let reply = Reply::new().code(format!("await page.{}.selectOption({chosen});", locator_code(&target, &found)));
    call.page.settle(mark, call.deadline).await?;
    observe::page(&call, reply).await
}

async fn check(call: Call, arguments: Check) -> ToolResult {
    set_checked(call, arguments.target, true).await
}

async fn uncheck(call: Call, arguments: Uncheck) -> ToolResult {
    set_checked(call, arguments.target, false).await
}

async fn set_checked(call: Call, target: String, checked: bool) -> ToolResult {
    let mark = call.page.mark().await;
    let found = call.page.set_checked(&target, checked, call.within(call.times.action)).await?;
    let reply = Reply::new().code(format!("await page.{}.{}();", locator_code(&target, &found), verb(checked)));
    call.page.settle(mark, call.deadline).await?;
    observe::page(&call, reply).await
}

fn verb(checked: bool) -> &'static str {
    if checked { "check" } else { "uncheck" }
}

async fn fill_form(call: Call, FillForm { fields }: FillForm) -> ToolResult {
    let mark = call.page.mark().await;
    let mut lines = Vec::with_capacity(fields.len());
    for field in &fields {
        match fill(&call, field).await {
            Ok(line) => lines.push(line),
            Err(failure) => return Err(of_field(field, lines.len(), &failure)),
        }
    }
    call.page.settle(mark, call.deadline).await?;
    let reply = if lines.is_empty() { Reply::new() } else { Reply::new().code(lines.join("\n")) };
    observe::page_if_asked(&call, reply).await
}

/// Fills one field. Answers what the same would be in test code.
async fn fill(call: &Call, field: &FormField) -> Result<String, Failure> {
    let FormField { target, value, r#type, .. } = field;
    let deadline = call.within(call.times.action);
    let (found, done) = match r#type {
        FieldType::Textbox | FieldType::Slider => {
            let (text, bound) = call.secrets.fill(value)?;
            (call.page.type_text(target, &text, false, &bound, deadline).await?, format!("fill({})", quoted(value)))
        }
        FieldType::Checkbox | FieldType::Radio => {
            let checked = truth(value)?;
            (call.page.set_checked(target, checked, deadline).await?, format!("{}()", verb(checked)))
        }
        FieldType::Combobox => {
            let chosen = call.page.select(target, std::slice::from_ref(value), deadline).await?;
            (chosen, format!("selectOption({})", quoted(value)))
        }
    };
    Ok(format!("await page.{}.{done};", locator_code(target, &found)))
}

fn truth(value: &str) -> Result<bool, Failure> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(Failure::invalid(format!(
            "the value of a checkbox or radio button is true or false, not {}",
            quoted(other)
        ))),
    }
}

/// Which field it was, and how much of the form is filled.
fn of_field(field: &FormField, filled: usize, failure: &Failure) -> Failure {
    let name = if field.name.is_empty() { &field.target } else { &field.name };
    let message = match filled {
        0 => format!("{}: {}", quoted(name), failure.message),
        1 => format!("{}: {} (the field before it is filled)", quoted(name), failure.message),
        filled => format!("{}: {} (the {filled} fields before it are filled)", quoted(name), failure.message),
    };
    Failure { message, ..*failure }
}
