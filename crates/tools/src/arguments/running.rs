//! Several calls in one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::SnapshotMode;

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// The calls, in this order; they work in the batch's session
    #[schemars(length(min = 1, max = 20))]
    pub steps: Vec<Step>,
    /// What a step that fails does to those after it: stop (default) or continue
    #[serde(default)]
    pub on_error: Option<OnError>,
    /// How its reply shows the page. In its schema it is that of every such tool.
    #[serde(default)]
    #[schemars(skip)]
    pub snapshot: Option<SnapshotMode>,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Step {
    /// A tool that works in a page
    pub tool: String,
    /// Its arguments
    #[serde(default)]
    pub arguments: Map<String, Value>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum OnError {
    #[default]
    Stop,
    Continue,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunTasks {
    /// The tasks, at most 10; one that fails does not stop the others
    #[schemars(length(min = 1, max = 10))]
    pub tasks: Vec<Task>,
    /// Run them beside each other, each in a session of its own that ends with it, instead of one after the other in this one
    #[serde(default)]
    pub concurrent: Option<bool>,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Task {
    /// What it is called in the results
    pub name: String,
    /// As those of `browser_batch`
    pub steps: Vec<Step>,
    /// As that of `browser_batch`
    #[serde(default)]
    pub on_error: Option<OnError>,
}
