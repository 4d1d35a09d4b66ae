//! What is known of a page. Plain data; the pump writes it, everybody else reads it.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use browserfleet_cdp::{Session, browser_protocol::page::ScriptIdentifier, js_protocol::runtime::RemoteObjectId};
use tokio::time::Instant;

use super::{
    console::{Console, ConsoleCounts},
    context::Shared,
    emulation::{Attached, Emulation, Worn},
    files::Chooser,
    keyboard::Key,
    looks::Looks,
    mouse::Pointer,
    notices::Notice,
    open::BLANK,
    pace::Pace,
    traffic::Traffic,
    wire,
};
use crate::egress::Refusal;

/// The isolated world of one document, where our scripts live.
#[derive(Clone, Debug)]
pub(super) struct World {
    /// The session its frame is driven through: the page's own, or that of an out-of-process frame.
    pub(super) session: Session,
    /// Chromium's never-repeated name of the execution context.
    pub(super) context: String,
    /// The document's number within the session, given when a snapshot first shows it. Refs of document 0 have no prefix,
    /// those of document 3 start with `f3`: a ref never names an element of another document.
    pub(super) document: Option<u32>,
}

/// The prefix of a document's refs.
pub(super) fn prefix(document: u32) -> String {
    if document == 0 { String::new() } else { format!("f{document}") }
}

/// One frame of the page.
#[derive(Clone, Debug, Default)]
pub(super) struct Frame {
    pub(super) world: Option<World>,
    /// The parent frame's id; `None` for the main frame.
    pub(super) parent: Option<String>,
    /// The ref of the iframe element in the parent's document, once a snapshot has shown it.
    pub(super) owner: Option<String>,
    /// How many documents it has had.
    pub(super) commits: u64,
}

/// The main frame's document.
#[derive(Clone, Debug, Default)]
pub struct DocumentInfo {
    pub url: String,
    /// As last read: Chromium tells nobody when it changes.
    pub title: String,
    /// Chromium's id of the load that made it.
    pub(super) loader: String,
    pub(super) content_loaded: bool,
    pub(super) loaded: bool,
    /// Whether this is Chromium's own page about a URL that could not be loaded.
    pub unreachable: bool,
    /// Why, if the egress gate refused it.
    pub refused: Option<Refusal>,
    /// HTTP status and its text, once the response is known.
    pub status: Option<(i64, String)>,
    /// What it has said on the console.
    pub console: ConsoleCounts,
    /// Our function in it that runs agents' code, once there was some to run.
    pub(super) bounded: Option<RemoteObjectId>,
}

/// What an agent is told of where a page is, apart from what it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    url: String,
    title: String,
    status: Option<(i64, String)>,
    errors: usize,
    warnings: usize,
}

/// A JavaScript dialog that blocks the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialog {
    /// alert, confirm, prompt or beforeunload.
    pub kind: String,
    pub message: String,
}

/// Requests whose end a settling action waits for.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    /// By id: the how-manieth it was.
    running: HashMap<String, u64>,
    /// How many have ever been started.
    pub(super) started: u64,
}

/// Beyond this, requests of a page are not told apart any more: it never settles by them.
const MAX_REQUESTS: usize = 1000;

/// Beyond this, a page's further frames are not driven: a page may not exhaust the daemon.
const MAX_FRAMES: usize = 200;

/// Most characters that are kept of what a page chooses freely.
const MAX_URL: usize = 4_000;
const MAX_MESSAGE: usize = 2_000;
const MAX_STATUS: usize = 100;

/// A frame with more documents than this within one of the page's is reloading itself.
const RELOADS: u64 = 5;

/// What has to be done about a dialog that has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It stays until the agent answers it.
    Stays,
    /// It is dismissed at once.
    Dismiss,
    /// A page may not keep anybody from leaving it.
    Leave,
}

/// How a page crashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Crash {
    /// Chromium's word: killed, crashed, oom, …
    pub(super) status: String,
    /// The signal, or the exit code.
    pub(super) code: i64,
}

impl Requests {
    pub(super) fn start(&mut self, id: String) {
        self.started += 1;
        if self.running.len() < MAX_REQUESTS {
            self.running.insert(id, self.started);
        }
    }

    pub(super) fn end(&mut self, id: &str) {
        self.running.remove(id);
    }

    /// Whether one that was started after the first `before` is still running. Older ones, such as a stream that never
    /// ends, are nobody's consequence.
    pub(super) fn running_since(&self, before: u64) -> bool {
        self.running.values().any(|&number| number > before)
    }
}

/// Everything known of a page.
#[derive(Debug, Default)]
pub(super) struct PageState {
    pub(super) main_frame: String,
    pub(super) frames: HashMap<String, Frame>,
    shared: Arc<Shared>,
    pub(super) document: DocumentInfo,
    pub(super) dialog: Option<Dialog>,
    /// The page waits for files.
    pub(super) chooser: Option<Chooser>,
    /// How many dialogs have been opened.
    pub(super) dialogs: u64,
    pace: Pace,
    /// The page is being freed: no dialog may stop it.
    pub(super) dismissing: bool,
    /// How it did the last time, once the browser has said so.
    pub(super) crash: Option<Crash>,
    /// Whether the main frame is on its way to another document.
    pub(super) navigating: bool,
    /// Which settings of the network it has taken on.
    pub(super) network: u64,
    /// Its first document, a blank one, has no world of ours: nobody has needed one yet. The script that later documents get.
    pub(super) bare: Option<ScriptIdentifier>,
    /// Whether its requests are held until a route has been looked for.
    pub(super) routing: bool,
    /// Where the mouse is, and what it holds.
    pub(super) pointer: Pointer,
    /// Keys that are held down.
    pub(super) held: Vec<Key>,
    /// How the page is shown, once all of it has been said.
    pub(super) looks: Option<Looks>,
    /// What its own session has of what is emulated.
    pub(super) worn: Worn,
    /// What its frames in other processes have of it, or take on.
    pub(super) emulation: Emulation,
    /// Their sessions, by id.
    pub(super) attached: HashMap<String, Attached>,
    /// What the agent was last told of where the page is.
    pub(super) told: Option<Header>,
    /// How the page was last shown in full, and the how-manieth document it was: what a diff begins from. At most what a
    /// snapshot may have.
    pub(super) shown: Option<(u64, Arc<str>)>,
    /// Digest of its last picture.
    pub(super) picture: Option<[u8; 32]>,
    pub(super) requests: Requests,
    pub(super) console: Console,
    pub(super) traffic: Traffic,
    /// How many navigations of the main frame have been asked for by the page or its user.
    pub(super) navigations_asked: u64,
    /// How often the main frame has stopped loading, with or without a new document.
    pub(super) stops: u64,
    /// How often the main frame has moved within its document.
    pub(super) moves: u64,
    /// How many main-frame documents have been committed.
    pub(super) commits: u64,
    /// Response of a document that is not committed yet: its loader, status and status text.
    pending_status: Option<(String, (i64, String))>,
}

impl PageState {
    /// A page whose main frame has the id of its target.
    pub(super) fn new(main_frame: String, shared: Arc<Shared>) -> Self {
        Self { main_frame, shared, ..Self::default() }
    }

    /// A frame has a new isolated world: a new document.
    pub(super) fn world_created(&mut self, frame: String, session: Session, context: String) {
        if self.frames.len() >= MAX_FRAMES && !self.frames.contains_key(&frame) {
            return;
        }
        self.frames.entry(frame).or_default().world = Some(World { session, context, document: None });
    }

    /// The number a document has, or would get next; `None` if the document is gone.
    pub(super) fn document_number(&self, context: &str) -> Option<u32> {
        let frame = self.frame_where(|world| world.context == context)?;
        Some(frame.world.as_ref()?.document.unwrap_or_else(|| self.shared.documents.load(Ordering::Relaxed)))
    }

    /// A snapshot has shown something of the document: its number is taken.
    pub(super) fn document_shown(&mut self, context: &str) {
        let mut worlds = self.frames.values_mut().filter_map(|frame| frame.world.as_mut());
        if let Some(world) = worlds.find(|world| world.context == context && world.document.is_none()) {
            world.document = Some(self.shared.documents.fetch_add(1, Ordering::Relaxed));
        }
    }

    pub(super) fn world_destroyed(&mut self, context: &str) {
        for frame in self.frames.values_mut() {
            if frame.world.as_ref().is_some_and(|world| world.context == context) {
                frame.world = None;
            }
        }
    }

    /// Every context of a session is gone.
    pub(super) fn worlds_cleared(&mut self, session: Option<&str>) {
        for frame in self.frames.values_mut() {
            if frame.world.as_ref().is_some_and(|world| world.session.id() == session) {
                frame.world = None;
            }
        }
    }

    pub(super) fn frame_attached(&mut self, frame: String, parent: String) {
        if self.frames.len() < MAX_FRAMES {
            self.frames.entry(frame).or_default().parent = Some(parent);
        }
    }

    /// A frame is gone, with those in it.
    pub(super) fn frame_detached(&mut self, frame: &str) {
        self.frames.remove(frame);
        let children: Vec<_> = self
            .frames
            .iter()
            .filter(|(_, child)| child.parent.as_deref() == Some(frame))
            .map(|(id, _)| id.clone())
            .collect();
        for child in children {
            self.frame_detached(&child);
        }
    }

    /// A frame moved to another process: its document there is another one.
    pub(super) fn frame_swapped(&mut self, frame: &str) {
        if let Some(frame) = self.frames.get_mut(frame) {
            frame.world = None;
        }
    }

    /// The renderer is dead: nothing of the page goes on.
    pub(super) fn crashed(&mut self, session: Option<&str>) {
        self.worlds_cleared(session);
        self.crash = None;
        self.dialog_closed(Instant::now());
        self.pointer = Pointer::default();
        self.requests = Requests { started: self.requests.started, ..Requests::default() };
        self.navigating = false;
    }

    /// A dialog has opened and stops the page.
    pub(super) fn dialog_opened(&mut self, dialog: Dialog, now: Instant) -> Verdict {
        self.dialogs += 1;
        let storm = self.pace.opened(now);
        if dialog.kind == "beforeunload" {
            return Verdict::Leave;
        }
        if storm || self.dismissing {
            return Verdict::Dismiss;
        }
        self.dialog = Some(Dialog { message: cut(dialog.message, MAX_MESSAGE), ..dialog });
        Verdict::Stays
    }

    pub(super) fn dialog_closed(&mut self, now: Instant) {
        self.pace.closed(now);
        self.dialog = None;
    }

    /// Events were lost: what only they could end is over.
    pub(super) fn lagged(&mut self) {
        self.requests = Requests { started: self.requests.started, ..Requests::default() };
        self.navigating = false;
    }

    /// The frames there are in the page's own process: no other is left, but for those that have a session of their own.
    pub(super) fn only_frames(&mut self, present: &[String], session: Option<&str>) {
        let elsewhere = |frame: &Frame| frame.world.as_ref().is_some_and(|world| world.session.id() != session);
        self.frames.retain(|id, frame| present.contains(id) || elsewhere(frame));
    }

    /// Whether some frame reloads itself so often that the page will never be loaded.
    pub(super) fn is_restless(&self) -> bool {
        self.frames.values().any(|frame| frame.commits > RELOADS)
    }

    /// The main document is one of this URL, loaded well.
    pub(super) fn visited(&self, url: &str) {
        self.shared.origins.visited(url);
    }

    /// A document was committed in a frame.
    pub(super) fn navigated(&mut self, frame: &str, parent: Option<String>, url: String, loader: String) {
        if parent.is_none() {
            if self.document.loader != loader {
                let status = self.early_status(&loader);
                self.document = DocumentInfo { loader, status, ..DocumentInfo::default() };
                self.commits += 1;
                self.chooser = None;
                // The frames and requests of the old document went with it.
                self.frames.retain(|id, _| id == frame);
                self.requests = Requests { started: self.requests.started, ..Requests::default() };
            }
            self.navigating = false;
            frame.clone_into(&mut self.main_frame);
            // That of a blank page may also be learned late, without any other having come.
            if url != BLANK {
                self.bare = None;
            }
            self.document.url = cut(url, MAX_URL);
        }
        if self.frames.len() < MAX_FRAMES || self.frames.contains_key(frame) {
            let known = self.frames.entry(frame.to_owned()).or_default();
            known.commits += u64::from(parent.is_some());
            known.parent = parent;
        }
    }

    /// The response of the main document comes before its commit; it is kept under the new loader.
    pub(super) fn document_response(&mut self, loader: &str, response: &wire::Response) {
        let (status, text) = (response.status, cut(response.status_text.clone(), MAX_STATUS));
        if let Some(challenge) = response.login_asked() {
            self.shared.notices.add(Notice::LoginAsked(challenge.to_owned()));
        }
        if self.document.loader == loader {
            self.document.status = Some((status, text));
        } else {
            self.pending_status = Some((loader.to_owned(), (status, text)));
        }
    }

    /// The title of the main frame's document has been read, when it was the how-manieth.
    pub(super) fn titled(&mut self, commits: u64, title: String) {
        if self.commits == commits {
            self.document.title = title;
        }
    }

    /// What there is to tell of where the page is.
    pub(super) fn header(&self) -> Header {
        let DocumentInfo { url, title, status, .. } = self.document.clone();
        let ConsoleCounts { errors, warnings, .. } = self.console.counts(self.commits);
        Header { url, title, status, errors, warnings }
    }

    fn early_status(&mut self, loader: &str) -> Option<(i64, String)> {
        self.pending_status.take().filter(|(pending, _)| pending == loader).map(|(_, status)| status)
    }

    pub(super) fn main_world(&self) -> Option<World> {
        self.frames.get(&self.main_frame)?.world.clone()
    }

    /// The world of a frame's document, once it is there.
    pub(super) fn world_in(&self, frame: &str) -> Option<&World> {
        self.frames.get(frame)?.world.as_ref()
    }

    /// A snapshot has shown which element holds a frame.
    pub(super) fn owned_by(&mut self, frame: &str, owner: &str) {
        if let Some(frame) = self.frames.get_mut(frame) {
            frame.owner = Some(owner.to_owned());
        }
    }

    /// The frame whose world satisfies a condition.
    pub(super) fn frame_where(&self, condition: impl Fn(&World) -> bool) -> Option<&Frame> {
        self.frames.values().find(|frame| frame.world.as_ref().is_some_and(&condition))
    }
}

/// At most `most` characters of a text.
pub(super) fn cut(mut text: String, most: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(most) {
        text.truncate(end);
    }
    text
}
