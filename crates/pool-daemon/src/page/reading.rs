//! What a page says, as Markdown or as values out of it.

use browserfleet_common::error_code::ErrorCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Page, state::World, world::call};
use crate::failure::Failure;

/// Most characters of a page's Markdown.
const MAX_MARKDOWN: usize = 500_000;

/// A page as a reader has it. All of it is the page's word.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Readable {
    /// Of the document that was read: a frame's, if the target is in one.
    pub url: String,
    pub facts: Facts,
    pub markdown: String,
    /// Whether there was more than is read of a page.
    pub truncated: bool,
    pub links: Vec<PageLink>,
    /// How many links are not in the list.
    pub more_links: usize,
}

/// What the author says about a page; `None` where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Facts {
    pub title: Option<String>,
    pub byline: Option<String>,
    pub description: Option<String>,
    pub canonical_url: Option<String>,
    pub language: Option<String>,
    /// As it is written there.
    pub published: Option<String>,
    pub site: Option<String>,
}

/// Where a page leads.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct PageLink {
    pub text: String,
    pub url: String,
}

/// Values out of a page.
#[derive(Clone, Debug, Deserialize)]
pub struct Extracted {
    pub url: String,
    pub data: Value,
    /// Whether there was more than a result may have.
    pub truncated: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Bad { bad: BadSelector },
    Good(Extracted),
}

#[derive(Deserialize)]
struct BadSelector {
    path: String,
    selector: String,
}

impl Page {
    /// Its main content, or all of one element.
    pub async fn read(&self, target: Option<&str>, deadline: Instant) -> Result<Readable, Failure> {
        let (world, target) = self.world_for(target, deadline).await?;
        self.unless_dialog(world.value(call("read", &[target, MAX_MARKDOWN.into()]), deadline)).await
    }

    /// The values of fields (`inject/extract.js` has their form), in the page or in one element.
    pub async fn extract(&self, fields: Value, target: Option<&str>, deadline: Instant) -> Result<Extracted, Failure> {
        let (world, target) = self.world_for(target, deadline).await?;
        match self.unless_dialog(world.value(call("extract", &[target, fields]), deadline)).await? {
            Answer::Good(extracted) => Ok(extracted),
            Answer::Bad { bad: BadSelector { path, selector } } => {
                let message = format!("schema.{path}: \"{selector}\" is not a valid CSS selector");
                Err(Failure::new(ErrorCode::InvalidArgument, message))
            }
        }
    }

    /// The world of a target, or of the page, and the target as it knows it.
    async fn world_for(&self, target: Option<&str>, deadline: Instant) -> Result<(World, Value), Failure> {
        let Some(target) = target else { return Ok((self.main_world(deadline).await?, Value::Null)) };
        let (world, target) = self.world_of(target, deadline).await?;
        Ok((world, json!(target)))
    }
}
