//! Fields that are not typed into: drop-downs, checkboxes, radio buttons, switches.

use browserfleet_common::error_code::ErrorCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Button, Page, Press};
use crate::failure::Failure;

/// What can be checked.
#[derive(Debug, Deserialize)]
struct Checkable {
    /// `true`, `false` or `"mixed"`.
    checked: Value,
    radio: bool,
    /// How test code would name the element.
    locator: String,
}

#[derive(Debug, Deserialize)]
struct Selected {
    locator: String,
}

impl Page {
    /// Selects options of a drop-down by value or text, and only those. Answers how test code would name it.
    pub async fn select(&self, target: &str, values: &[String], deadline: Instant) -> Result<String, Failure> {
        loop {
            match self.select_once(target, values, deadline).await {
                Err(failure) if failure.is_stale_document() && Instant::now() < deadline => {}
                selected => return Ok(selected?.locator),
            }
        }
    }

    async fn select_once(&self, target: &str, values: &[String], deadline: Instant) -> Result<Selected, Failure> {
        let (world, target) = self.world_of(target, deadline).await?;
        self.unless_dialog(world.wait("selectOptions", &target, json!({ "values": values }), deadline)).await
    }

    /// Checks or unchecks with a click, unless it is so already. Answers how test code would name the element.
    pub async fn set_checked(&self, target: &str, checked: bool, deadline: Instant) -> Result<String, Failure> {
        let before = self.checkable(target, deadline).await?;
        if before.checked == checked {
            return Ok(before.locator);
        }
        if before.radio && !checked {
            let message = "a radio button cannot be unchecked; check another one of its group";
            return Err(Failure::new(ErrorCode::ElementNotActionable, message));
        }
        self.click(target, Press { button: Button::Left, modifiers: 0, clicks: 1 }, deadline).await?;
        // A click that leads elsewhere takes the field along; then there is nothing to compare.
        let after = self.checkable(target, deadline).await.map(|after| after.checked == checked);
        if matches!(after, Ok(false)) {
            let message = "the click did not change its state. The page may forbid it: look at a new snapshot";
            return Err(Failure::new(ErrorCode::ElementNotActionable, message));
        }
        Ok(before.locator)
    }

    async fn checkable(&self, target: &str, deadline: Instant) -> Result<Checkable, Failure> {
        let (world, target) = self.world_of(target, deadline).await?;
        self.unless_dialog(world.wait("checkable", &target, json!({}), deadline)).await
    }

    /// Waits until some element with this text is shown in the main frame, or none is. `false` when the deadline came
    /// first. Documents that replace each other meanwhile are all looked at.
    pub async fn wait_for_text(&self, text: &str, shown: bool, deadline: Instant) -> Result<bool, Failure> {
        loop {
            let looked = async {
                let world = self.main_world(deadline).await?;
                world.wait::<bool>("waitForText", text, json!({ "shown": shown }), deadline).await
            };
            match self.unless_dialog(looked).await {
                Err(failure) if failure.is_stale_document() && Instant::now() < deadline => {}
                Err(failure) if failure.code == ErrorCode::PageHung && !failure.modal => return Ok(false),
                answer => return answer,
            }
        }
    }
}
