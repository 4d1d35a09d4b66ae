//! Turns the events of a page's sessions into its state. One task per session; it ends with the session.

use std::sync::Arc;

use browserfleet_cdp::{
    Connection, Event, Events, Item, Session,
    browser_protocol::{dom::BackendNodeId, fetch::DisableParams, page::HandleJavaScriptDialogParams},
    js_protocol::runtime::TerminateExecutionParams,
};
use browserfleet_common::lifecycle::Tasks;
use serde::de::DeserializeOwned;
use tokio::time::{Duration, Instant};

use super::{
    Inner,
    emulation::Attached,
    files::Chooser,
    network,
    notices::{MAX_WORDS, Notice},
    open, resync,
    state::{Crash, Dialog, PageState, Verdict, cut},
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
    "Page.downloadWillBegin",
    "Page.fileChooserOpened",
    "Input.dragIntercepted",
    "Fetch.requestPaused",
    "Runtime.executionContextCreated",
    "Runtime.executionContextDestroyed",
    "Runtime.executionContextsCleared",
    "Network.requestWillBeSent",
    "Network.responseReceived",
    "Network.loadingFinished",
    "Network.loadingFailed",
    "Target.attachedToTarget",
];

/// Events that are only counted. A page can send any number of them: they must not cost us one of those above.
pub(super) const EXPENDABLE: &[&str] = &["Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"];

/// How many events may wait for the pump before further ones are lost; it takes microseconds for each.
pub(super) const CAPACITY: usize = 8192;

/// On the browser's own level: how a page crashed.
pub(super) const CRASHES: &[&str] = &["Target.targetCrashed"];
pub(super) const CAPACITY_OF_CRASHES: usize = 64;

/// Most time for the answer to a dialog.
const ANSWER: Duration = Duration::from_secs(1);

/// After this many dialogs in a row that were dismissed, the script that opens them is stopped.
const PATIENCE: u64 = 50;

/// What a pump needs.
pub(super) struct Pump {
    pub(super) page: Arc<Inner>,
    pub(super) session: Session,
    pub(super) connection: Connection,
    pub(super) tasks: Tasks,
}

impl Pump {
    /// Runs until the session's events end. Crashes are told to the pump of the page's own session only.
    pub(super) async fn run(self, mut events: Events, mut crashes: Option<Events>) {
        let mut dismissed = 0;
        loop {
            tokio::select! {
                // The session's own word for a crash comes first: it forgets how the page crashed before, and the other says how.
                biased;
                item = events.recv() => match item {
                    Some(Item::Event(event)) => self.event(&event, &mut dismissed),
                    Some(Item::Lagged(lost)) => {
                        tracing::warn!(lost, "a page sends events too fast: asking for what is missing");
                        resync::start(&self.page, &self.session, &self.tasks);
                        self.release_requests();
                    }
                    None => return,
                },
                Some(Item::Event(event)) = next(crashes.as_mut()) => self.crash(&event),
            }
        }
    }

    fn event(&self, event: &Event, dismissed: &mut u64) {
        match event.method {
            "Target.attachedToTarget" => {
                if let Some(attached) = decode::<wire::Attached>(event) {
                    if attached.target_info.kind == open::WORKER {
                        self.release(&attached);
                    } else {
                        self.attach(&attached);
                    }
                }
            }
            "Page.javascriptDialogOpening" => {
                if let Some(dialog) = decode::<wire::DialogOpening>(event) {
                    self.dialog(Dialog { kind: dialog.kind, message: dialog.message }, dismissed);
                }
            }
            "Page.downloadWillBegin" => {
                if let Some(download) = decode::<wire::DownloadBegins>(event) {
                    self.page.shared.download_begins(download);
                }
            }
            "Page.fileChooserOpened" => {
                // Without an input, such as for the file system's own interface, there is nothing to give files to.
                if let Some(wire::ChooserOpened { backend_node_id: Some(input) }) = decode(event) {
                    let chooser = Chooser { session: self.session.clone(), input: BackendNodeId::new(input) };
                    self.page.change(|state| state.chooser = Some(chooser));
                }
            }
            "Fetch.requestPaused" => self.paused(event),
            "Input.dragIntercepted" => {
                if let Some(wire::DragIntercepted { data }) = decode(event) {
                    self.page.change(|state| state.pointer.dragged = Some(data));
                }
            }
            "Inspector.targetCrashed" => self.page.change(|state| {
                // A frame in a process of its own takes nothing with it.
                if self.is_main() { state.crashed(self.session.id()) } else { state.worlds_cleared(self.session.id()) }
            }),
            _ => self.page.change(|state| apply(state, event, &self.session)),
        }
    }

    fn is_main(&self) -> bool {
        self.session.id() == self.page.session.id()
    }

    /// How some page of the browser crashed.
    fn crash(&self, event: &Event) {
        if let Some(crashed) = decode::<wire::TargetCrashed>(event)
            && crashed.target_id == self.page.target_id
        {
            let crash = Crash { status: crashed.status, code: crashed.error_code };
            self.page.change(|state| state.crash = Some(crash));
        }
    }

    /// A dialog has opened: it stays, or it is answered here and now. Nothing waits for the page.
    fn dialog(&self, dialog: Dialog, dismissed: &mut u64) {
        let mut verdict = Verdict::Stays;
        self.page.change(|state| verdict = state.dialog_opened(dialog.clone(), Instant::now()));
        let notice = match verdict {
            Verdict::Stays => {
                *dismissed = 0;
                return;
            }
            Verdict::Dismiss => {
                *dismissed += 1;
                Notice::DialogDismissed(Dialog { message: cut(dialog.message, MAX_WORDS), ..dialog })
            }
            Verdict::Leave => Notice::Left,
        };
        self.page.shared.notices.add(notice);
        let stop = verdict == Verdict::Dismiss && dismissed.is_multiple_of(PATIENCE);
        let session = self.page.session.clone();
        self.tasks.spawn("page.dialog", async move {
            let deadline = Instant::now() + ANSWER;
            let answer = session.call(HandleJavaScriptDialogParams::new(verdict == Verdict::Leave), deadline);
            if stop {
                // In this order on the wire: the script is free when it is told to stop.
                let stopped = session.call(TerminateExecutionParams::default(), deadline);
                let _either_may_be_too_late = tokio::join!(answer, stopped);
            } else {
                // The page may have gone, or somebody was faster.
                let _answered_already = answer.await;
            }
        });
    }

    /// A request waits until a route has been looked for.
    fn paused(&self, event: &Event) {
        // Whoever else holds requests answers them, too.
        if !self.page.state().routing {
            return;
        }
        let Some(wire::RequestPaused { request_id, request }) = decode(event) else { return };
        let verdict = self.page.shared.network.decide(&request);
        let session = self.session.clone();
        self.tasks.spawn("page.route", async move { network::carry_out(&session, request_id.into(), verdict).await });
    }

    /// Requests may have been held whose events were lost: they go on, and later ones are held again.
    fn release_requests(&self) {
        if !self.page.state().routing {
            return;
        }
        let (settings, session) = (self.page.shared.network.settings(), self.session.clone());
        self.tasks.spawn("page.route", async move {
            let deadline = Instant::now() + ANSWER;
            let released = session.call(DisableParams::default(), deadline).await;
            if let Err(error) = released.map(drop).and(settings.apply(&session, deadline).await) {
                tracing::debug!(%error, "requests that were held may not go on");
            }
        });
    }

    /// A worker has started and waits for us.
    fn release(&self, attached: &wire::Attached) {
        let (page, worker) = (self.session.clone(), self.connection.session(&attached.session_id));
        self.tasks.spawn("page.worker", async move {
            if let Err(error) = open::release_worker(&page, &worker).await {
                tracing::debug!(%error, "a worker has gone before it could run");
            }
        });
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
        let events = session.subscribe_with(EVENTS, EXPENDABLE, CAPACITY);
        let waiting = attached.waiting_for_debugger;
        // Of a page that has not taken anything on yet, its frames may wait with it.
        let taken_on = self.page.state().network > 0;
        let network = taken_on.then(|| self.page.shared.network.settings());
        let generation = network.as_ref().map_or(0, |settings| settings.generation);
        let page = Arc::clone(&self.page);
        page.state().attached.insert(attached.session_id.clone(), Attached::new(session.clone()));
        self.tasks.spawn("page.frame.setup", async move {
            let prepared = open::prepare_frame(&page, &session, waiting, network).await;
            if let Err(error) = prepared.and(network::catch_up(&page, &session, generation).await) {
                // Frames come and go; one that has gone already is not worth a warning.
                tracing::debug!(%error, "frame could not be prepared");
            }
        });
        let (page, id) = (Arc::clone(&self.page), attached.session_id.clone());
        self.tasks.spawn("page.frame.pump", async move {
            pump.run(events, None).await;
            page.state().attached.remove(&id);
        });
    }
}

async fn next(events: Option<&mut Events>) -> Option<Item> {
    events?.recv().await
}

fn decode<T: DeserializeOwned>(event: &Event) -> Option<T> {
    event.decode().inspect_err(|error| tracing::debug!(%error, method = event.method, "event ignored")).ok()
}

/// The state after an event.
fn apply(state: &mut PageState, event: &Event, session: &Session) {
    match event.method {
        method if method.starts_with("Page.") => apply_page(state, event),
        method if method.starts_with("Network.") => apply_network(state, event, session),
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
        "Runtime.executionContextsCleared" => state.worlds_cleared(session.id()),
        "Runtime.exceptionThrown" => {
            if let Some(thrown) = decode::<wire::Thrown>(event) {
                state.console.thrown(state.commits, thrown.exception_details);
            }
        }
        "Runtime.consoleAPICalled" => {
            if let Some(call) = decode::<wire::ConsoleCalled>(event) {
                state.console.called(state.commits, call);
            }
        }
        "Log.entryAdded" => {
            if let Some(added) = decode::<wire::LogAdded>(event) {
                state.console.logged(state.commits, added.entry);
            }
        }
        _ => {}
    }
}

fn apply_page(state: &mut PageState, event: &Event) {
    match event.method {
        "Page.frameNavigated" => {
            if let Some(wire::FrameNavigated { frame }) = decode(event) {
                let unreachable = frame.unreachable_url.is_some() && frame.parent_id.is_none();
                if frame.unreachable_url.is_none() && frame.parent_id.is_none() {
                    state.visited(&frame.url);
                }
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
                state.moves += 1;
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
        "Page.javascriptDialogClosed" => state.dialog_closed(Instant::now()),
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

fn apply_network(state: &mut PageState, event: &Event, session: &Session) {
    match event.method {
        "Network.requestWillBeSent" => {
            if let Some(sent) = decode::<wire::RequestSent>(event) {
                if matches!(sent.kind.as_str(), "XHR" | "Fetch") {
                    state.requests.start(sent.request_id.clone());
                }
                state.traffic.sent(sent, session);
            }
        }
        "Network.responseReceived" => {
            if let Some(received) = decode::<wire::ResponseReceived>(event) {
                if received.kind == "Document" && received.frame_id == state.main_frame {
                    state.document_response(&received.loader_id, &received.response);
                }
                state.traffic.answered(&received.request_id, received.response);
            }
        }
        "Network.loadingFinished" | "Network.loadingFailed" => {
            if let Some(over) = decode::<wire::RequestOver>(event) {
                state.requests.end(&over.request_id);
                state.traffic.ended(&over.request_id, over.timestamp, over.error_text);
            }
        }
        _ => {}
    }
}
