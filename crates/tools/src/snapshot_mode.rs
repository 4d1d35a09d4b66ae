//! How much of the page a reply shows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{BadArguments, Tool};

/// The argument that says how much of the page a reply shows, understood by every tool whose reply may.
pub const SNAPSHOT: &str = "snapshot";

/// How much of the page a reply shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum SnapshotMode {
    /// Where the page is, nothing of what it shows.
    None,
    /// What has changed since the page was last shown in full, or by this mode.
    Diff,
    /// What can be acted on, under the landmarks and headings that place it.
    Interactive,
    /// All of it.
    #[default]
    Full,
}

impl SnapshotMode {
    /// Every one there is, by the names that people write.
    pub const ALL: &[(&str, Self)] =
        &[("none", Self::None), ("diff", Self::Diff), ("interactive", Self::Interactive), ("full", Self::Full)];

    /// Takes the argument out of those of a tool, if that is one whose reply may show the page.
    ///
    /// # Errors
    /// When it is none of ours.
    pub fn take(tool: &Tool, arguments: &mut Value) -> Result<Option<Self>, BadArguments> {
        let given = if tool.shows_page { arguments.as_object_mut().and_then(|map| map.remove(SNAPSHOT)) } else { None };
        given.filter(|given| !given.is_null()).map(serde_json::from_value).transpose().map_err(|error| BadArguments {
            tool: tool.name,
            what: error.to_string(),
            path: SNAPSHOT.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::find;

    #[test]
    fn the_argument_is_taken_where_the_tool_shows_pages() {
        let mut arguments = json!({ "target": "e1", "snapshot": "diff" });
        let click = find("browser_click").unwrap();
        assert_eq!(SnapshotMode::take(click, &mut arguments), Ok(Some(SnapshotMode::Diff)));
        assert_eq!(arguments, json!({ "target": "e1" }));
        assert_eq!(SnapshotMode::take(click, &mut arguments), Ok(None));
        let wrong = SnapshotMode::take(click, &mut json!({ "snapshot": "half" })).unwrap_err().to_string();
        assert!(wrong.contains("interactive") && wrong.contains("at snapshot"), "{wrong}");
        let mut foreign = json!({ "snapshot": "diff" });
        assert_eq!(SnapshotMode::take(find("browser_tabs").unwrap(), &mut foreign), Ok(Some(SnapshotMode::Diff)));
        let mut foreign = json!({ "snapshot": "diff" });
        assert_eq!(SnapshotMode::take(find("browser_resize").unwrap(), &mut foreign), Ok(None));
        assert_eq!(foreign, json!({ "snapshot": "diff" }), "the tool itself refuses what it does not know");
    }

    #[test]
    fn names_are_those_of_the_wire() {
        for (name, mode) in SnapshotMode::ALL {
            assert_eq!(serde_json::to_value(mode).unwrap(), *name);
        }
    }
}
