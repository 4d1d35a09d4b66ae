//! Turns the events of a page's sessions into its state. One task per session; it ends with the session.

use std::sync::Arc;

use browserfleet_cdp::{Connection, Event, Events, Item, Session};
use browserfleet_common::lifecycle::Tasks;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};

use super::{
    Inner, open,
    state::{Dialog, PageState},
    wire,
};

/// Events the state is built from.
pub(super) const EVENTS: &[&str] = &[
    "Page.frameNavigated",
    "Page.navigatedWithinDocument",
    "Page.frameAttached",
    "Page.frameDetached",
    "Page.lifecycleEvent",
    "Page.frameRequestedNavigation",
    "Page.frameStartedNavigating",
    "Page.frameStoppedLoading",
    "Inspector.targetCrashed",
    "Page.javascriptDialogOpening",
    "Page.javascriptDialogClosed",
    "Runtime.executionContextCreated",
    "Runtime.executionContextDestroyed",
    "Runtime.executionContextsCleared",
    "Runtime.consoleAPICalled",
    "Runtime.exceptionThrown",
    "Log.entryAdded",
    "Network.requestWillBeSent",
    "Network.responseReceived",
    "Network.loadingFinished",
    "Network.loadingFailed",
    "Target.attachedToTarget",
];

/// How many events may wait for the pump before further ones are lost; it takes microseconds for each.
pub(super) const CAPACITY: usize = 8192;

/// What a pump needs.
pub(super) struct Pump {
    pub(super) page: Arc<Inner>,
    pub(super) session: Session,
    pub(super) connection: Connection,
    pub(super) tasks: Tasks,
}

impl Pump {
    /// Runs until the session's events end. `flush` is the page's; the pumps of its child sessions have none.
    pub(super) async fn run(self, mut events: Events, mut flush: Option<mpsc::Receiver<oneshot::Sender<()>>>) {
        loop {
            tokio::select! {
                // Events first: a flush is answered when everything received before it has been seen.
                biased;
                item = events.recv() => match item {
                    Some(Item::Event(event)) => self.event(&event),
                    Some(Item::Lagged(lost)) => tracing::warn!(lost, "a page sends events too fast: what is known of it may be behind"),
                    None => return,
                },
                Some(reply) = next_flush(&mut flush) => {
                    // The asker may have gone away.
                    let _asker_gone = reply.send(());
                }
            }
        }
    }

    fn event(&self, event: &Event) {
        if event.method == "Target.attachedToTarget" {
            if let Some(attached) = decode::<wire::Attached>(event) {
                self.attach(&attached);
            }
            return;
        }
        self.page.change(|state| apply(state, event, &self.session));
    }

    /// A frame lives in a process of its own: it gets a session, our scripts and a pump of its own.
    fn attach(&self, attached: &wire::Attached) {
        let session = self.connection.session(&attached.session_id);
        let pump = Pump {
            page: Arc::clone(&self.page),
            session: session.clone(),
            connection: self.connection.clone(),
            tasks: self.tasks.clone(),
        };
        let events = session.subscribe(EVENTS, CAPACITY);
        let waiting = attached.waiting_for_debugger;
        self.tasks.spawn("page.frame.setup", async move {
            if let Err(error) = open::prepare_frame(&session, waiting).await {
                // Frames come and go; one that has gone already is not worth a warning.
                tracing::debug!(%error, "frame could not be prepared");
            }
        });
        self.tasks.spawn("page.frame.pump", pump.run(events, None));
    }
}

async fn next_flush(flush: &mut Option<mpsc::Receiver<oneshot::Sender<()>>>) -> Option<oneshot::Sender<()>> {
    match flush {
        Some(flush) => flush.recv().await,
        None => None,
    }
}

fn decode<T: DeserializeOwned>(event: &Event) -> Option<T> {
    event.decode().inspect_err(|error| tracing::debug!(%error, method = event.method, "event ignored")).ok()
}

/// The state after an event.
fn apply(state: &mut PageState, event: &Event, session: &Session) {
    match event.method {
        method if method.starts_with("Page.") => apply_page(state, event),
        method if method.starts_with("Network.") => apply_network(state, event),
        "Runtime.executionContextCreated" => {
            if let Some(wire::ContextCreated { context }) = decode(event)
                && context.name == open::WORLD
            {
                state.world_created(context.aux_data.frame_id, session.clone(), context.unique_id);
            }
        }
        "Runtime.executionContextDestroyed" => {
            if let Some(gone) = decode::<wire::ContextDestroyed>(event) {
                state.world_destroyed(&gone.execution_context_unique_id);
            }
        }
        "Inspector.targetCrashed" => state.crashed(session.id()),
        "Runtime.executionContextsCleared" => state.worlds_cleared(session.id()),
        "Runtime.exceptionThrown" => state.document.errors += 1,
        "Runtime.consoleAPICalled" => {
            if let Some(call) = decode::<wire::ConsoleCalled>(event) {
                count_console(state, &call.kind);
            }
        }
        "Log.entryAdded" => {
            if let Some(added) = decode::<wire::LogAdded>(event) {
                count_console(state, &added.entry.level);
            }
        }
        _ => {}
    }
}

fn count_console(state: &mut PageState, level: &str) {
    match level {
        "error" | "assert" => state.document.errors += 1,
        "warning" => state.document.warnings += 1,
        _ => {}
    }
}

fn apply_page(state: &mut PageState, event: &Event) {
    match event.method {
        "Page.frameNavigated" => {
            if let Some(wire::FrameNavigated { frame }) = decode(event) {
                let unreachable = frame.unreachable_url.is_some() && frame.parent_id.is_none();
                let url = frame.unreachable_url.unwrap_or(frame.url + &frame.url_fragment);
                state.navigated(&frame.id, frame.parent_id, url, frame.loader_id);
                state.document.unreachable |= unreachable;
            }
        }
        "Page.navigatedWithinDocument" => {
            if let Some(moved) = decode::<wire::WithinDocument>(event)
                && moved.frame_id == state.main_frame
            {
                state.document.url = moved.url;
            }
        }
        "Page.frameAttached" => {
            if let Some(attached) = decode::<wire::FrameAttached>(event) {
                state.frame_attached(attached.frame_id, attached.parent_frame_id);
            }
        }
        "Page.frameDetached" => {
            if let Some(detached) = decode::<wire::FrameDetached>(event) {
                match detached.reason.as_str() {
                    "swap" => state.frame_swapped(&detached.frame_id),
                    _ => state.frame_detached(&detached.frame_id),
                }
            }
        }
        "Page.lifecycleEvent" => {
            if let Some(step) = decode::<wire::Lifecycle>(event)
                && step.frame_id == state.main_frame
                && step.loader_id == state.document.loader
            {
                state.document.content_loaded |= step.name == "DOMContentLoaded" || step.name == "load";
                state.document.loaded |= step.name == "load";
            }
        }
        "Page.frameRequestedNavigation" | "Page.frameStartedNavigating" | "Page.frameStoppedLoading" => {
            apply_loading(state, event);
        }
        "Page.javascriptDialogOpening" => {
            if let Some(dialog) = decode::<wire::DialogOpening>(event) {
                state.dialog_opened(Dialog { kind: dialog.kind, message: dialog.message });
            }
        }
        "Page.javascriptDialogClosed" => state.dialog = None,
        _ => {}
    }
}

/// Whether the main frame is on its way.
fn apply_loading(state: &mut PageState, event: &Event) {
    match event.method {
        "Page.frameRequestedNavigation" | "Page.frameStartedNavigating" => {
            if let Some(asked) = decode::<wire::NavigationAsked>(event)
                && asked.frame_id == state.main_frame
                && !asked.loads_nothing_here()
            {
                state.navigations_asked += 1;
                state.navigating = true;
            }
        }
        "Page.frameStoppedLoading" => {
            if let Some(stopped) = decode::<wire::FrameOnly>(event)
                && stopped.frame_id == state.main_frame
            {
                state.stops += 1;
                state.navigating = false;
            }
        }
        _ => {}
    }
}

fn apply_network(state: &mut PageState, event: &Event) {
    match event.method {
        "Network.requestWillBeSent" => {
            if let Some(sent) = decode::<wire::RequestSent>(event)
                && matches!(sent.kind.as_str(), "XHR" | "Fetch")
            {
                state.requests.start(sent.request_id);
            }
        }
        "Network.responseReceived" => {
            if let Some(received) = decode::<wire::ResponseReceived>(event)
                && received.kind == "Document"
                && received.frame_id == state.main_frame
            {
                let wire::Response { status, status_text } = received.response;
                state.document_response(&received.loader_id, status, status_text);
            }
        }
        "Network.loadingFinished" | "Network.loadingFailed" => {
            if let Some(over) = decode::<wire::RequestOver>(event) {
                state.requests.end(&over.request_id);
            }
        }
        _ => {}
    }
}
