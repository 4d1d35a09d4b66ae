//! The items of the main document's local and session storage, one by one. Read and changed in our own world, where a page
//! cannot lie about them.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::Page;
use crate::failure::Failure;

const SCRIPT: &str = include_str!("inject/storage-items.js");

/// Which storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Of an origin, in all tabs.
    Local,
    /// Of an origin, in this tab.
    Session,
}

impl Place {
    /// What pages call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "localStorage",
            Self::Session => "sessionStorage",
        }
    }
}

/// What is done to a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    Set { key: &'a str, value: &'a str },
    Remove { key: &'a str },
    Clear,
}

impl Page {
    /// Every item of a storage.
    pub async fn storage_items(&self, place: Place, deadline: Instant) -> Result<Vec<(String, String)>, Failure> {
        self.storage(place, "list", [Value::Null, Value::Null], deadline).await
    }

    /// One item of a storage.
    pub async fn storage_item(&self, place: Place, key: &str, deadline: Instant) -> Result<Option<String>, Failure> {
        let found = self.storage(place, "get", [json!(key), Value::Null], deadline).await?;
        Ok(found.into_iter().next().map(|(_, value)| value))
    }

    /// Changes a storage.
    pub async fn change_storage(&self, place: Place, change: Change<'_>, deadline: Instant) -> Result<(), Failure> {
        let (action, arguments) = match change {
            Change::Set { key, value } => ("set", [json!(key), json!(value)]),
            Change::Remove { key } => ("remove", [json!(key), Value::Null]),
            Change::Clear => ("clear", [Value::Null, Value::Null]),
        };
        self.storage(place, action, arguments, deadline).await.map(drop)
    }

    async fn storage(
        &self,
        place: Place,
        action: &str,
        [key, value]: [Value; 2],
        deadline: Instant,
    ) -> Result<Vec<(String, String)>, Failure> {
        let script = format!("({SCRIPT})({}, {}, {key}, {value})", json!(place.name()), json!(action));
        self.unless_dialog(async { self.main_world(deadline).await?.value(script, deadline).await }).await
    }
}
