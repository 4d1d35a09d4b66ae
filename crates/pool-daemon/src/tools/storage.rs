//! Local and session storage of the page's site.

use std::collections::BTreeMap;

use browserfleet_tools::{
    LocalStorageClear, LocalStorageDelete, LocalStorageGet, LocalStorageList, LocalStorageSet, SessionStorageClear,
    SessionStorageDelete, SessionStorageGet, SessionStorageList, SessionStorageSet,
};
use serde_json::json;

use super::{
    Call, Registry, Reply, ToolResult,
    reply::quoted,
    untrusted::{fenced, line},
};
use crate::page::{Change, Place};

pub(super) fn register(registry: &mut Registry) {
    registry.add(|call, LocalStorageList {}| list(call, Place::Local));
    registry.add(|call, LocalStorageGet { key }| get(call, Place::Local, key));
    registry.add(|call, LocalStorageSet { key, value }| set(call, Place::Local, key, value));
    registry.add(|call, LocalStorageDelete { key }| delete(call, Place::Local, key));
    registry.add(|call, LocalStorageClear {}| clear(call, Place::Local));
    registry.add(|call, SessionStorageList {}| list(call, Place::Session));
    registry.add(|call, SessionStorageGet { key }| get(call, Place::Session, key));
    registry.add(|call, SessionStorageSet { key, value }| set(call, Place::Session, key, value));
    registry.add(|call, SessionStorageDelete { key }| delete(call, Place::Session, key));
    registry.add(|call, SessionStorageClear {}| clear(call, Place::Session));
}

async fn list(call: Call, place: Place) -> ToolResult {
    let items = call.page.storage_items(place, call.within(call.times.action)).await?;
    let lines: Vec<_> = items.iter().map(|(key, value)| line(&format!("{key}={value}"))).collect();
    let text = match lines.as_slice() {
        [] => format!("No {} items found", place.name()),
        lines => fenced(&lines.join("\n"), &call.page.document().url),
    };
    let items: BTreeMap<_, _> = items.into_iter().collect();
    Ok(Reply::new()
        .result(text)
        .code(format!("await page.{}.items();", place.name()))
        .structured(json!({ "items": items })))
}

async fn get(call: Call, place: Place, key: String) -> ToolResult {
    let name = place.name();
    let value = call.page.storage_item(place, &key, call.within(call.times.action)).await?;
    let text = match &value {
        Some(value) => fenced(&format!("{key}={value}"), &call.page.document().url),
        None => format!("{name} key {} not found", quoted(&key)),
    };
    Ok(Reply::new()
        .result(text)
        .code(format!("await page.{name}.getItem({});", quoted(&key)))
        .structured(json!({ "value": value })))
}

async fn set(call: Call, place: Place, key: String, value: String) -> ToolResult {
    let change = Change::Set { key: &key, value: &value };
    call.page.change_storage(place, change, call.within(call.times.action)).await?;
    let arguments = format!("{}, {}", quoted(&key), quoted(&value));
    Ok(Reply::new().code(format!("await page.{}.setItem({arguments});", place.name())))
}

async fn delete(call: Call, place: Place, key: String) -> ToolResult {
    call.page.change_storage(place, Change::Remove { key: &key }, call.within(call.times.action)).await?;
    Ok(Reply::new().code(format!("await page.{}.removeItem({});", place.name(), quoted(&key))))
}

async fn clear(call: Call, place: Place) -> ToolResult {
    call.page.change_storage(place, Change::Clear, call.within(call.times.action)).await?;
    Ok(Reply::new().code(format!("await page.{}.clear();", place.name())))
}
