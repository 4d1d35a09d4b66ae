//! The list of tools, in the order in which agents see them.

use serde_json::{Map, Value};

use crate::{
    Arguments, Click, Close, Evaluate, HandleDialog, Navigate, Open, SessionClose, SessionList, SessionStats, Snapshot,
    TakeScreenshot, Type, schema,
};

/// One entry of the catalogue.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    pub name: &'static str,
    /// A few words for people.
    pub title: &'static str,
    /// What it does and when to use it, for agents.
    pub description: &'static str,
    pub group: Group,
    pub effect: Effect,
    pub place: Place,
    pub session: SessionUse,
    schema: fn() -> Map<String, Value>,
}

impl Tool {
    /// The JSON schema of the arguments, with `session_id` where the tool works in a session.
    pub fn input_schema(&self) -> Map<String, Value> {
        schema::input(self)
    }

    pub(crate) fn arguments_schema(&self) -> Map<String, Value> {
        (self.schema)()
    }
}

/// What a tool belongs to; servers and keys choose groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Pages: the default.
    Core,
    /// Sessions: the default.
    Session,
}

/// What a tool does to the world, for the MCP annotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Looks only.
    Reads,
    /// May change the page or what is behind it.
    Acts,
}

/// Where a tool is implemented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the pool daemon, beside the browser of a lease.
    Browser,
    /// In the front end: it needs no page.
    FrontEnd,
}

/// What a tool wants of the session a call belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionUse {
    /// One is created when the call names none.
    Creates,
    /// The call must have one.
    Needs,
    /// The tool is about all sessions.
    None,
}

/// Every tool.
pub const CATALOGUE: &[Tool] = &[
    browser::<Open>(
        "Open a browser",
        "Open an isolated browser session and get its session_id. Pass the session_id to later calls. The session \
         ends after 10 minutes without a call, or with session_close.",
        Effect::Acts,
    )
    .creating(),
    browser::<Navigate>("Go to a URL", "Go to a URL and get a snapshot of the page.", Effect::Acts).creating(),
    browser::<Snapshot>(
        "Snapshot of the page",
        "Get the page as a tree of roles, names and refs. Use the refs as targets of other tools; for acting this is \
         better than a screenshot.",
        Effect::Reads,
    ),
    browser::<Click>("Click", "Click an element and get a snapshot of the page.", Effect::Acts),
    browser::<Type>(
        "Type text",
        "Type text into an editable element. With submit or slowly you get a snapshot of the page too.",
        Effect::Acts,
    ),
    browser::<HandleDialog>(
        "Answer a dialog",
        "Accept or dismiss the dialog that blocks the page, and get a snapshot of the page.",
        Effect::Acts,
    ),
    browser::<Evaluate>(
        "Run JavaScript",
        "Run a JavaScript function in the page, or on an element of it, and get its result as JSON.",
        Effect::Acts,
    ),
    browser::<TakeScreenshot>(
        "Take a screenshot",
        "Take a picture of the page. To act on the page use browser_snapshot: its refs name the elements.",
        Effect::Reads,
    ),
    front_end::<Close>(
        "Close the browser",
        "Close the pages of the session and free its browser. The session_id stays usable.",
        Group::Core,
        Effect::Acts,
        SessionUse::Needs,
    ),
    front_end::<SessionList>(
        "List sessions",
        "List the sessions this connection opened or used, with their age and idle time.",
        Group::Session,
        Effect::Reads,
        SessionUse::None,
    ),
    front_end::<SessionStats>(
        "Session statistics",
        "How many sessions you have, how many you may have, and how many calls are running.",
        Group::Session,
        Effect::Reads,
        SessionUse::None,
    ),
    front_end::<SessionClose>(
        "End a session",
        "End a session for good: its pages, its browser and everything kept for it.",
        Group::Session,
        Effect::Acts,
        SessionUse::Needs,
    ),
];

/// The tool of a name.
pub fn find(name: &str) -> Option<&'static Tool> {
    CATALOGUE.iter().find(|tool| tool.name == name)
}

const fn browser<A: Arguments>(title: &'static str, description: &'static str, effect: Effect) -> Tool {
    Tool {
        name: A::TOOL,
        title,
        description,
        group: Group::Core,
        effect,
        place: Place::Browser,
        session: SessionUse::Needs,
        schema: schema::of::<A>,
    }
}

const fn front_end<A: Arguments>(
    title: &'static str,
    description: &'static str,
    group: Group,
    effect: Effect,
    session: SessionUse,
) -> Tool {
    Tool { name: A::TOOL, title, description, group, effect, place: Place::FrontEnd, session, schema: schema::of::<A> }
}

impl Tool {
    const fn creating(mut self) -> Self {
        self.session = SessionUse::Creates;
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_unique() {
        assert_eq!(CATALOGUE.iter().map(|tool| tool.name).collect::<HashSet<_>>().len(), CATALOGUE.len());
    }

    /// What agents see. A change here is a change of the contract: review it as one (`INSTA_UPDATE=always`).
    #[test]
    fn what_agents_see() {
        let tools: Vec<_> = CATALOGUE
            .iter()
            .map(|tool| json!({ "name": tool.name, "description": tool.description, "input": tool.input_schema() }))
            .collect();
        insta::assert_json_snapshot!(tools);
    }

    /// The peer's arguments are a subset of ours, with the same types and words to choose from.
    #[test]
    fn every_argument_of_playwright_mcp_is_known() {
        let peer = [
            ("browser_navigate", vec![("url", "string")]),
            (
                "browser_snapshot",
                vec![("target", "string"), ("filename", "string"), ("depth", "integer"), ("boxes", "boolean")],
            ),
            (
                "browser_click",
                vec![
                    ("element", "string"),
                    ("target", "string"),
                    ("doubleClick", "boolean"),
                    ("button", "string"),
                    ("modifiers", "array"),
                ],
            ),
            (
                "browser_type",
                vec![
                    ("element", "string"),
                    ("target", "string"),
                    ("text", "string"),
                    ("submit", "boolean"),
                    ("slowly", "boolean"),
                ],
            ),
            (
                "browser_evaluate",
                vec![("element", "string"), ("target", "string"), ("function", "string"), ("filename", "string")],
            ),
            (
                "browser_take_screenshot",
                vec![
                    ("element", "string"),
                    ("target", "string"),
                    ("type", "string"),
                    ("filename", "string"),
                    ("fullPage", "boolean"),
                    ("scale", "string"),
                ],
            ),
            ("browser_close", vec![]),
        ];
        for (name, arguments) in peer {
            let schema = find(name).unwrap().input_schema();
            for (argument, kind) in arguments {
                assert_eq!(schema["properties"][argument]["type"], kind, "{name}.{argument}");
            }
        }
    }
}
