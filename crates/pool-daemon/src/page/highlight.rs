//! Frames around elements, for people who look at the page.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Page, state::World, world::call};
use crate::failure::Failure;

impl Page {
    /// Shows a frame around an element, with further CSS. Answers how test code would name it.
    pub async fn highlight(&self, target: &str, style: Option<&str>, deadline: Instant) -> Result<String, Failure> {
        let (world, target) = self.world_of(target, deadline).await?;
        self.unless_dialog(world.value(call("highlight", &[target.into(), json!(style)]), deadline)).await
    }

    /// Takes the frame around an element away. Answers how test code would name it.
    pub async fn hide_highlight(&self, target: &str, deadline: Instant) -> Result<String, Failure> {
        let (world, target) = self.world_of(target, deadline).await?;
        self.unless_dialog(world.value(call("hideHighlight", &[target.into()]), deadline)).await
    }

    /// Takes every frame away.
    pub async fn hide_highlights(&self, deadline: Instant) -> Result<(), Failure> {
        let worlds: Vec<World> = self.state().frames.values().filter_map(|frame| frame.world.clone()).collect();
        for world in worlds {
            let hidden = world.value::<Value>(call("hideHighlight", &[Value::Null]), deadline);
            match self.unless_dialog(hidden).await {
                Err(failure) if failure.modal => return Err(failure),
                // A document that goes away takes its frames along.
                _ => {}
            }
        }
        Ok(())
    }
}
