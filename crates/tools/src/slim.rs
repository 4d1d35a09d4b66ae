//! The slim profile: the tools that are enough to browse, with the arguments that are enough to use them, in few words.
//!
//! It is a choice of what is shown, not other tools: whoever knows more of their arguments may use them.

use serde_json::{Map, Value, json};

use crate::{SESSION_ID, SessionUse, Tool};

/// One tool of the profile.
struct Slim {
    tool: &'static str,
    description: &'static str,
    /// Of its arguments those that are shown, beside the session.
    arguments: &'static [&'static str],
}

const SLIM: &[Slim] = &[
    Slim { tool: "browser_navigate", description: "Open a URL", arguments: &["url"] },
    Slim { tool: "browser_navigate_back", description: "Go back", arguments: &[] },
    Slim {
        tool: "browser_snapshot",
        description: "Show the page; refs such as e5 are targets",
        arguments: &["snapshot"],
    },
    Slim { tool: "browser_find", description: "Search the page", arguments: &["text"] },
    Slim { tool: "browser_click", description: "Click", arguments: &["target"] },
    Slim { tool: "browser_type", description: "Type, submit presses Enter", arguments: &["target", "text", "submit"] },
    Slim { tool: "browser_select_option", description: "Select options", arguments: &["target", "values"] },
    Slim { tool: "browser_evaluate", description: "Run JS in the page", arguments: &["function"] },
    Slim { tool: "browser_take_screenshot", description: "Take a picture", arguments: &[] },
    Slim { tool: "browser_read_cursor", description: "Read on after a cut", arguments: &["cursor"] },
];

/// A tool as the profile shows it.
#[derive(Clone, Debug)]
pub struct Slimmed {
    pub description: &'static str,
    pub schema: Map<String, Value>,
}

impl Tool {
    /// The tool as the slim profile shows it, if it is one of it.
    pub fn slim(&self) -> Option<Slimmed> {
        let slim = SLIM.iter().find(|slim| slim.tool == self.name)?;
        Some(Slimmed { description: slim.description, schema: schema(self, slim.arguments) })
    }

    /// Whether the slim profile has the tool.
    pub fn is_slim(&self) -> bool {
        SLIM.iter().any(|slim| slim.tool == self.name)
    }
}

fn schema(tool: &Tool, arguments: &[&str]) -> Map<String, Value> {
    let whole = tool.input_schema();
    let mut properties: Map<String, Value> =
        arguments.iter().filter_map(|name| Some(((*name).to_owned(), bare(whole["properties"].get(*name)?)))).collect();
    if tool.session != SessionUse::None {
        properties.insert(SESSION_ID.to_owned(), json!({ "type": "string" }));
    }
    let mut schema =
        Map::from_iter([("type".to_owned(), json!("object")), ("properties".to_owned(), properties.into())]);
    if let Some(required) = whole.get("required") {
        schema.insert("required".to_owned(), required.clone());
    }
    schema
}

/// A property without its words.
fn bare(property: &Value) -> Value {
    let kept =
        ["type", "enum", "items"].iter().filter_map(|key| Some(((*key).to_owned(), property.get(*key)?.clone())));
    Value::Object(kept.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::find;

    #[test]
    fn what_is_shown_is_part_of_what_there_is() {
        for slim in SLIM {
            let tool = find(slim.tool).unwrap_or_else(|| panic!("{}", slim.tool));
            let (whole, shown) = (tool.input_schema(), tool.slim().unwrap().schema);
            let names = |schema: &Map<String, Value>, key: &str| -> Vec<String> {
                let names = schema.get(key).and_then(Value::as_array).into_iter().flatten();
                names.filter_map(Value::as_str).map(str::to_owned).collect()
            };
            let properties = shown["properties"].as_object().unwrap();
            assert!(slim.arguments.iter().all(|name| properties.contains_key(*name)), "{}", slim.tool);
            assert!(properties.keys().all(|name| whole["properties"].get(name).is_some()), "{}", slim.tool);
            assert_eq!(names(&shown, "required"), names(&whole, "required"));
            assert!(names(&whole, "required").iter().all(|name| properties.contains_key(name)), "{}", slim.tool);
        }
        assert!(find("browser_hover").unwrap().slim().is_none() && !find("browser_hover").unwrap().is_slim());
    }
}
