//! Looking whether a page shows what a test expects.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Page, state::World, world::call};
use crate::failure::Failure;

/// Frames of a page, beside its main one, that are looked at.
const MAX_FRAMES: usize = 16;

/// What a field has.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct FieldValue {
    /// Its text; `true` or `false` if it can be checked.
    pub value: String,
    /// How test code would name it.
    pub locator: String,
}

/// What a list has of the items that were asked for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Listed {
    /// The first that it does not have.
    pub missing: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Named {
    locator: String,
}

impl Page {
    /// How test code would name the first visible element of a role and a name, in any frame.
    pub async fn find_element(&self, role: &str, name: &str, deadline: Instant) -> Result<Option<String>, Failure> {
        self.in_some_frame("verifyElement", &[json!(role), json!(name)], deadline).await
    }

    /// How test code would name the innermost visible element with a text, in any frame.
    pub async fn find_text(&self, text: &str, deadline: Instant) -> Result<Option<String>, Failure> {
        self.in_some_frame("verifyText", &[json!(text)], deadline).await
    }

    /// Which of these items a list has.
    pub async fn list_items(&self, target: &str, items: &[String], deadline: Instant) -> Result<Listed, Failure> {
        self.of_target("verifyList", target, &[json!(items)], deadline).await
    }

    /// What a field has.
    pub async fn field_value(&self, target: &str, deadline: Instant) -> Result<FieldValue, Failure> {
        self.of_target("verifyValue", target, &[], deadline).await
    }

    /// How test code would name an element.
    pub async fn locator(&self, target: &str, deadline: Instant) -> Result<String, Failure> {
        let (world, target) = self.world_of(target, deadline).await?;
        let expression = format!("__browserfleet.locator({})", call("locate", &[target.into()]));
        self.unless_dialog(world.value(expression, deadline)).await
    }

    /// A target that names an element in another document of the same page, too; none if the element is in a frame.
    pub async fn lasting_locator(&self, target: &str, deadline: Instant) -> Result<Option<String>, Failure> {
        let (world, element) = self.world_of(target, deadline).await?;
        if world.context != self.main_world(deadline).await?.context {
            return Ok(None);
        }
        let expression = format!("__browserfleet.locator({})", call("locate", &[element.into()]));
        self.unless_dialog(world.value(expression, deadline)).await.map(Some)
    }

    async fn of_target<T: DeserializeOwned>(
        &self,
        function: &str,
        target: &str,
        arguments: &[Value],
        deadline: Instant,
    ) -> Result<T, Failure> {
        let (world, target) = self.world_of(target, deadline).await?;
        let arguments = [&[Value::from(target)], arguments].concat();
        self.unless_dialog(world.value(call(function, &arguments), deadline)).await
    }

    /// What a function of ours answers in the first frame where it does not answer null, the main one first.
    async fn in_some_frame(
        &self,
        function: &str,
        arguments: &[Value],
        deadline: Instant,
    ) -> Result<Option<String>, Failure> {
        let expression = call(function, arguments);
        let main = self.main_world(deadline).await?;
        let found: Option<Named> = self.unless_dialog(main.value(expression.clone(), deadline)).await?;
        if let Some(Named { locator }) = found {
            return Ok(Some(locator));
        }
        let frames: Vec<World> = {
            let state = self.state();
            let others = state.frames.iter().filter(|(id, _)| **id != state.main_frame);
            others.filter_map(|(_, frame)| frame.world.clone()).take(MAX_FRAMES).collect()
        };
        for world in frames {
            // A frame that is just going elsewhere shows nothing.
            if let Ok(Some(Named { locator })) =
                self.unless_dialog(world.value::<Option<Named>>(expression.clone(), deadline)).await
            {
                return Ok(Some(locator));
            }
        }
        Ok(None)
    }
}
