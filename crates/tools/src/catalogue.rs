//! The list of tools, in the order in which agents see them.

use serde_json::{Map, Value};

use crate::{
    Arguments, BadArguments, Batch, Check, Click, Close, ConsoleClear, ConsoleMessages, Drag, Drop, EmulateMedia,
    Evaluate, FileUpload, FillForm, Find, Group, HandleDialog, Hover, KeyDown, KeyUp, Navigate, NavigateBack,
    NavigateForward, NetworkClear, NetworkRequest, NetworkRequests, Open, PressKey, Read, ReadCursor, Reload, Resize,
    Scope, SelectOption, SessionClose, SessionList, SessionStats, Snapshot, SnapshotMode, Tabs, TakeScreenshot, Type,
    Uncheck, WaitFor, optional::OPTIONAL, outputs, parse, schema,
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
    /// What a caller must be allowed to.
    pub scope: Scope,
    pub place: Place,
    pub session: SessionUse,
    /// Whether its reply may show the page: then a call can say how much of it.
    pub shows_page: bool,
    /// Whether its reply may be long: then a call can say how much of it there may be.
    pub long: bool,
    schema: fn() -> Map<String, Value>,
    check: fn(Value) -> Result<(), BadArguments>,
}

impl Tool {
    /// The JSON schema of the arguments, with `session_id` where the tool works in a session.
    pub fn input_schema(&self) -> Map<String, Value> {
        schema::input(self)
    }

    /// The JSON schema of the structured result, for tools whose result programs read. No member of it is required.
    pub fn output_schema(&self) -> Option<Map<String, Value>> {
        outputs::of(self.name)
    }

    /// Whether these are arguments of the tool, as far as can be known without running it.
    ///
    /// # Errors
    /// When one is missing, unknown, or of another type.
    pub fn check(&self, arguments: &Map<String, Value>) -> Result<(), BadArguments> {
        let mut arguments = Value::Object(arguments.clone());
        SnapshotMode::take(self, &mut arguments)?;
        (self.check)(arguments)
    }

    pub(crate) fn arguments_schema(&self) -> Map<String, Value> {
        (self.schema)()
    }
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

/// Every tool: those that are always served, then the other groups.
pub const CATALOGUE: &[Tool] = &{
    const COUNT: usize = ALWAYS.len() + OPTIONAL.len();
    let (mut all, mut at) = ([ALWAYS[0]; COUNT], 0);
    while at < COUNT {
        all[at] = if at < ALWAYS.len() { ALWAYS[at] } else { OPTIONAL[at - ALWAYS.len()] };
        at += 1;
    }
    all
};

/// The tools of the groups that are always served.
const ALWAYS: &[Tool] = &[
    browser::<Open>(
        "Open a browser",
        "Open an isolated browser session and get its session_id for later calls.",
        Effect::Acts,
    )
    .under(Scope::Read)
    .creating(),
    browser::<Navigate>("Go to a URL", "Go to a URL and get a snapshot of the page.", Effect::Acts).showing().long()
        .under(Scope::Read)
        .creating(),
    browser::<NavigateBack>("Go back", "Go back in the history.", Effect::Acts).showing()
        .under(Scope::Read),
    browser::<NavigateForward>("Go forward", "Go forward in the history.", Effect::Acts).showing()
        .under(Scope::Read),
    browser::<Reload>("Load again", "Load the page again.", Effect::Acts).showing().under(Scope::Read),
    browser::<Snapshot>(
        "Snapshot of the page",
        "Get the page as a tree of roles, names and refs. Use the refs as targets of other tools; for acting this is \
         better than a screenshot.",
        Effect::Reads,
    ).showing().long(),
    browser::<Find>(
        "Find in the snapshot",
        "Search the snapshot for words or a regular expression: cheaper than all of it.",
        Effect::Reads,
    ).long(),
    browser::<Read>(
        "Read the page",
        "Get the main content of the page, or an element, as Markdown, with its author, date and links.",
        Effect::Reads,
    ).long(),
    browser::<Click>("Click", "Click an element.", Effect::Acts).showing(),
    browser::<Hover>("Hover", "Move the mouse over an element.", Effect::Acts).showing(),
    browser::<Drag>(
        "Drag and drop",
        "Drag an element with the mouse onto another one.",
        Effect::Acts,
    ).showing(),
    browser::<Type>(
        "Type text",
        "Type text into an editable element. With submit or slowly the reply shows the page.",
        Effect::Acts,
    ).showing(),
    browser::<PressKey>(
        "Press a key",
        "Press a key where the focus is, alone or with modifiers. After Enter the reply shows the page.",
        Effect::Acts,
    ).showing(),
    browser::<KeyDown>("Hold a key", "Hold a key down until browser_keyup.", Effect::Acts),
    browser::<KeyUp>("Let a key go", "Let a key go that browser_keydown holds.", Effect::Acts),
    browser::<SelectOption>(
        "Select options",
        "Select options of a drop-down or list, by value or text.",
        Effect::Acts,
    ).showing(),
    browser::<Check>("Check", "Check a checkbox, radio button or switch.", Effect::Acts).showing(),
    browser::<Uncheck>("Uncheck", "Uncheck a checkbox or switch.", Effect::Acts).showing(),
    browser::<FillForm>(
        "Fill a form",
        "Fill several fields of a form at once: faster than one call each.",
        Effect::Acts,
    ).showing(),
    browser::<FileUpload>(
        "Upload files",
        "Give files to the page that asks for them, or to a file input.",
        Effect::Acts,
    ).showing()
    .under(Scope::Files),
    browser::<Drop>(
        "Drop onto an element",
        "Drop files or texts onto an element, as if dragged from another program.",
        Effect::Acts,
    ).showing()
    .under(Scope::Files),
    browser::<WaitFor>(
        "Wait",
        "Wait until a text appears, until it is gone, or for some seconds.",
        Effect::Reads,
    ).showing(),
    browser::<HandleDialog>(
        "Answer a dialog",
        "Accept or dismiss the dialog that blocks the page.",
        Effect::Acts,
    ).showing(),
    browser::<Batch>(
        "Run several calls",
        "Make up to 20 calls in one, all checked before the first runs, and get what came of each.",
        Effect::Acts,
    )
    .showing()
    // Each step needs its own scope.
    .under(Scope::Read),
    browser::<Evaluate>(
        "Run JavaScript",
        "Run a JavaScript function in the page, or on an element of it, and get its result as JSON, marked as untrusted.",
        Effect::Acts,
    ).long()
    .under(Scope::Evaluate),
    browser::<TakeScreenshot>(
        "Take a screenshot",
        "Take a picture of the page. To act on it use browser_snapshot.",
        Effect::Reads,
    ),
    browser::<Tabs>(
        "Tabs",
        "List the tabs, open a new one, close one, or make one the current: the other tools work in the current tab.",
        Effect::Acts,
    ).showing()
    .under(Scope::Read),
    browser::<ConsoleMessages>(
        "Console messages",
        "What the page has said on the console, uncaught errors and failed loads included.",
        Effect::Reads,
    ).long(),
    browser::<ConsoleClear>("Clear the console", "Forget the console messages so far.", Effect::Reads),
    browser::<NetworkRequests>(
        "Network requests",
        "The requests of the page since you went to it, numbered. browser_network_request shows one of them.",
        Effect::Reads,
    ).long(),
    browser::<NetworkRequest>(
        "One network request",
        "Headers and state of a request, or with part its body or that of the answer.",
        Effect::Reads,
    ).long(),
    browser::<NetworkClear>("Clear the requests", "Forget the network requests so far.", Effect::Reads),
    browser::<Resize>("Resize", "Change the size of the viewport.", Effect::Acts).under(Scope::Read),
    browser::<EmulateMedia>(
        "Emulate media features",
        "Show the page as with another colour scheme, contrast or medium; null for the browser's own.",
        Effect::Acts,
    )
    .under(Scope::Read),
    front_end::<Close>(
        "Close the browser",
        "Close the pages of the session and free its browser. The session_id stays usable.",
        Group::Core,
        Effect::Acts,
        SessionUse::Needs,
    ),
    front_end::<ReadCursor>(
        "Read on",
        "Read on where a reply was cut: give the cursor that it shows.",
        Group::Core,
        Effect::Reads,
        SessionUse::None,
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

pub(crate) const fn browser<A: Arguments>(title: &'static str, description: &'static str, effect: Effect) -> Tool {
    Tool {
        name: A::TOOL,
        title,
        description,
        group: Group::Core,
        effect,
        scope: Scope::of(effect),
        place: Place::Browser,
        session: SessionUse::Needs,
        shows_page: false,
        long: false,
        schema: schema::of::<A>,
        check: check::<A>,
    }
}

pub(crate) const fn front_end<A: Arguments>(
    title: &'static str,
    description: &'static str,
    group: Group,
    effect: Effect,
    session: SessionUse,
) -> Tool {
    Tool {
        name: A::TOOL,
        title,
        description,
        group,
        effect,
        // Ending what is one's own is no act on a page.
        scope: Scope::Read,
        place: Place::FrontEnd,
        session,
        shows_page: false,
        long: false,
        schema: schema::of::<A>,
        check: check::<A>,
    }
}

fn check<A: Arguments>(arguments: Value) -> Result<(), BadArguments> {
    parse::<A>(arguments).map(drop)
}

impl Scope {
    /// The scope of most tools of an effect.
    const fn of(effect: Effect) -> Self {
        match effect {
            Effect::Reads => Self::Read,
            Effect::Acts => Self::Act,
        }
    }
}

impl Tool {
    const fn creating(mut self) -> Self {
        self.session = SessionUse::Creates;
        self
    }

    /// Its reply may show the page.
    pub(crate) const fn showing(mut self) -> Self {
        self.shows_page = true;
        self
    }

    /// Its reply may be long.
    pub(crate) const fn long(mut self) -> Self {
        self.long = true;
        self
    }

    /// Served to whoever asks for this group.
    pub(crate) const fn of(mut self, group: Group) -> Self {
        self.group = group;
        self
    }

    /// With another scope than its effect suggests.
    pub(crate) const fn under(mut self, scope: Scope) -> Self {
        self.scope = scope;
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

    /// Each tool has the one scope that its entry says: a change here is a change of what keys allow, review it as one.
    #[test]
    fn what_each_scope_allows() {
        let tools = |scope: Scope| {
            let names: Vec<_> = CATALOGUE.iter().filter(|tool| tool.scope == scope).map(|tool| tool.name).collect();
            (scope.name(), names)
        };
        let all: Vec<_> = Scope::ALL.iter().map(|&scope| tools(scope)).collect();
        let counted: usize = all.iter().map(|(_, names)| names.len()).sum();
        assert_eq!(counted, CATALOGUE.len());
        insta::assert_json_snapshot!(all);
    }

    /// What agents see. A change here is a change of the contract: review it as one (`INSTA_UPDATE=always`).
    #[test]
    fn what_agents_see() {
        let tools: Vec<_> = CATALOGUE
            .iter()
            .map(|tool| json!({ "name": tool.name, "description": tool.description, "input": tool.input_schema(), "output": tool.output_schema() }))
            .collect();
        insta::assert_json_snapshot!(tools);
    }

    /// The peer's arguments are a subset of ours, with the same types and words to choose from.
    #[test]
    fn every_argument_of_playwright_mcp_is_known() {
        let peer: Map<String, Value> = serde_json::from_str(include_str!("playwright_mcp.json")).unwrap();
        for (name, arguments) in peer.iter().filter(|(name, _)| !NOT_OFFERED.contains(&name.as_str())) {
            let schema = find(name).unwrap_or_else(|| panic!("{name}")).input_schema();
            assert_known(name, arguments, &schema["properties"]);
        }
    }

    /// Who comes from there is told why.
    #[test]
    fn what_playwright_mcp_has_and_we_have_not_is_explained() {
        let (_, explained) = include_str!("../../../docs/migrating.md").split_once("## Not offered").unwrap();
        for name in NOT_OFFERED {
            assert!(find(name).is_none() && explained.contains(&format!("`{name}`")), "{name}");
        }
    }

    const NOT_OFFERED: [&str; 5] = [
        "browser_run_code_unsafe",
        "browser_annotate",
        "browser_resume",
        "browser_video_show_actions",
        "browser_video_hide_actions",
    ];

    fn assert_known(name: &str, arguments: &Value, properties: &Value) {
        for (argument, theirs) in arguments.as_object().unwrap() {
            let ours = &properties[argument];
            // Where null counts, it is one of two types.
            let kind = ours["type"].get(0).unwrap_or(&ours["type"]);
            let kind = kind.as_str().unwrap_or_default().replace("integer", "number");
            let wanted = theirs["type"].as_str().unwrap();
            assert_eq!(kind, wanted.replace("integer", "number"), "{name}.{argument}: {ours}");
            if let Some(words) = theirs.get("enum") {
                let words = words.as_array().unwrap();
                assert!(words.iter().all(|word| ours["enum"].as_array().unwrap().contains(word)), "{name}.{argument}");
            }
            if let Some(items) = theirs.get("items") {
                assert_known(&format!("{name}.{argument}"), items, &ours["items"]["properties"]);
            }
        }
    }
}
