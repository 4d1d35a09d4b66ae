//! The tools that work in a page: one file a family, one function a tool.
//!
//! Adding a tool is an entry in the catalogue (`crates/tools`) and a function here; the type of its arguments ties the two
//! together, and a test holds the registry against the catalogue.

mod batch;
mod reply;
mod run;
mod untrusted;

mod capture;
mod changes;
mod console;
mod cookies;
mod dialogs;
mod emulate;
mod files;
mod find;
mod forms;
mod har;
mod highlight;
mod interact;
mod keyboard;
mod mouse;
mod navigate;
mod network;
mod observe;
mod pdf;
mod reading;
mod recording;
mod routes;
mod script;
mod setup;
mod storage;
mod storage_state;
mod tabs;
mod tracing;
mod verify;
mod video;
mod wait;

use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};

use browserfleet_tools::{Arguments, BadArguments, Batch, SnapshotMode, parse};
use futures_util::{FutureExt as _, future::BoxFuture};
use serde_json::Value;
use tokio::time::Instant;

pub use reply::{Reply, Section};
pub use run::{Outcome, run};

use crate::{failure::Failure, page::Page, secrets::Secrets, workspace::Workspace};

/// What a tool answers.
pub type ToolResult = Result<Reply, Failure>;

/// How long tools may take.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Waiting for an element and acting on it.
    pub action: Duration,
    /// Loading a page.
    pub navigation: Duration,
    /// Running an agent's script.
    pub script: Duration,
}

/// What the tools know of the browser they run in.
#[derive(Clone, Copy, Debug)]
pub struct Abilities {
    /// Whether the browser could show a window at all.
    pub headed: bool,
    /// Whether sessions of one principal may share a browser.
    pub shared: bool,
}

/// How much of the page a reply shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shows {
    /// As the arguments of the call say.
    pub asked: Option<SnapshotMode>,
    /// Where they do not say.
    pub otherwise: SnapshotMode,
}

/// One call of a tool.
#[derive(Clone, Debug)]
pub struct Call {
    /// The current tab's.
    pub page: Page,
    /// All of the session's tabs.
    pub workspace: Arc<Workspace>,
    pub times: Times,
    pub abilities: Abilities,
    /// How much of the page the reply shows.
    pub shows: Shows,
    /// The whole call's; a tool's own time ends here at the latest.
    pub deadline: Instant,
    /// What texts to type refer to.
    pub secrets: Arc<Secrets>,
    /// A step of a batch: its reply does not end with the page.
    pub brief: bool,
}

impl Call {
    /// The deadline of a step that may take `time`.
    fn within(&self, time: Duration) -> Instant {
        self.deadline.min(Instant::now() + time)
    }
}

type Handler = Arc<dyn Fn(Call, Value) -> BoxFuture<'static, ToolResult> + Send + Sync>;

/// The tools of this daemon, by name.
#[derive(Clone)]
pub struct Registry {
    handlers: HashMap<&'static str, Handler>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.handlers.keys()).finish()
    }
}

impl Registry {
    /// Every tool.
    pub fn new() -> Self {
        let mut registry = Self { handlers: HashMap::new() };
        setup::register(&mut registry);
        emulate::register(&mut registry);
        tabs::register(&mut registry);
        navigate::register(&mut registry);
        observe::register(&mut registry);
        find::register(&mut registry);
        reading::register(&mut registry);
        files::register(&mut registry);
        interact::register(&mut registry);
        keyboard::register(&mut registry);
        forms::register(&mut registry);
        wait::register(&mut registry);
        dialogs::register(&mut registry);
        script::register(&mut registry);
        capture::register(&mut registry);
        console::register(&mut registry);
        network::register(&mut registry);
        har::register(&mut registry);
        verify::register(&mut registry);
        mouse::register(&mut registry);
        routes::register(&mut registry);
        pdf::register(&mut registry);
        highlight::register(&mut registry);
        recording::register(&mut registry);
        tracing::register(&mut registry);
        video::register(&mut registry);
        cookies::register(&mut registry);
        storage::register(&mut registry);
        storage_state::register(&mut registry);
        registry
    }

    /// One tool, which does what the test says.
    #[cfg(test)]
    pub(crate) fn of(
        tool: &'static str,
        work: impl Fn() -> BoxFuture<'static, ToolResult> + Send + Sync + 'static,
    ) -> Self {
        Self { handlers: HashMap::from([(tool, Arc::new(move |_call, _arguments| work()) as Handler)]) }
    }

    /// Adds a tool; its arguments' type says which.
    fn add<A, F, R>(&mut self, tool: F)
    where
        A: Arguments,
        F: Fn(Call, A) -> R + Send + Sync + 'static,
        R: Future<Output = ToolResult> + Send + 'static,
    {
        let handler = move |mut call: Call, mut arguments| match with_shows::<A>(&mut call, &mut arguments)
            .and_then(|()| parse::<A>(arguments))
        {
            Ok(arguments) => tool(call, arguments).boxed(),
            Err(error) => std::future::ready(Err(Failure::invalid(error.to_string()))).boxed(),
        };
        self.handlers.insert(A::TOOL, Arc::new(handler));
    }

    fn find(&self, name: &str) -> Option<Handler> {
        self.handlers.get(name).cloned()
    }

    /// Whether a tool runs on this daemon.
    pub fn has(&self, name: &str) -> bool {
        name == Batch::TOOL || self.handlers.contains_key(name)
    }
}

/// Takes what the call says of how much is shown out of its arguments.
fn with_shows<A: Arguments>(call: &mut Call, arguments: &mut Value) -> Result<(), BadArguments> {
    if let Some(tool) = browserfleet_tools::find(A::TOOL) {
        call.shows.asked = SnapshotMode::take(tool, arguments)?;
    }
    Ok(())
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use browserfleet_tools::{CATALOGUE, Place};

    use super::*;

    #[test]
    fn every_browser_tool_of_the_catalogue_has_its_function() {
        let promised: BTreeSet<_> =
            CATALOGUE.iter().filter(|tool| tool.place == Place::Browser).map(|tool| tool.name).collect();
        // A batch is calls of the others: it has no function of its own.
        let present: BTreeSet<_> = Registry::new().handlers.keys().copied().chain([Batch::TOOL]).collect();
        assert_eq!(promised, present);
    }
}
