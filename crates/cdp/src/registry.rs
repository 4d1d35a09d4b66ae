//! Who waits for which reply, which sessions are alive, who hears which event. Decisions only: no I/O, no clock, no lock.

use std::{collections::HashMap, sync::Arc};

use browserfleet_common::metrics::metrics;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use crate::{
    Closed, Error,
    events::{self, Event, Events, Feed},
    skim::Skimmed,
    wire::{self, Envelope, Navigated, TargetNote},
};

/// What Chromium answers to a command for a session that has been detached.
const SESSION_NOT_FOUND: i64 = -32_001;

pub(crate) type Reply = Result<Box<RawValue>, Error>;

/// How a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    Alive,
    /// The renderer died; a navigation revives it.
    Crashed,
    /// Detached for good, or the connection has ended.
    Gone,
}

/// Counters of one connection. The last three say how much is held now, the others only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages received, of any kind.
    pub frames: u64,
    /// Messages that were ignored: not JSON, neither reply nor event, or a reply to a command that was never sent.
    pub malformed: u64,
    /// Replies nobody waits for any more: after a deadline, a cancellation or a crash, or a second reply.
    pub stale: u64,
    /// Messages that were skipped because they were larger than the limit.
    pub too_large: u64,
    /// Events dropped because their subscriber was too slow.
    pub lagged: u64,
    /// Commands waiting for a reply.
    pub pending: usize,
    /// Attached sessions.
    pub sessions: usize,
    /// Event streams being held.
    pub subscribers: usize,
}

/// A command that was given an id, and where its reply will arrive.
pub(crate) struct Registered {
    pub(crate) id: u64,
    pub(crate) reply: oneshot::Receiver<Reply>,
}

struct Pending {
    session: Option<Arc<str>>,
    method: Box<str>,
    revival: Revival,
    reply: oneshot::Sender<Reply>,
}

/// Whether a command may be sent to a crashed page, and what its success means there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Revival {
    No,
    /// A reply with an error text may be a navigation that never replaced the dead page.
    UnlessErrorText,
    Yes,
}

impl Revival {
    fn of(method: &str) -> Self {
        match method {
            "Page.navigate" => Self::UnlessErrorText,
            "Page.reload" => Self::Yes,
            _ => Self::No,
        }
    }

    fn succeeded(self, result: &RawValue) -> bool {
        match self {
            Self::No => false,
            Self::UnlessErrorText => wire::decode::<Navigated>(result).is_ok_and(|reply| reply.error_text.is_none()),
            Self::Yes => true,
        }
    }
}

/// Who reported a crash. One crash is reported by up to two events, and a navigation may have been sent between them.
#[derive(Clone, Copy, Default)]
struct CrashReports {
    inspector: bool,
    target: bool,
}

/// What is known of one session, or of the browser's own level.
#[derive(Default)]
struct Entry {
    crashed: Option<CrashReports>,
    /// How often it has crashed, revivals between.
    crashes: u64,
    feeds: Vec<Feed>,
    /// Whether the browser said that it exists. If not, only our handles keep the entry.
    attached: bool,
    target: Option<String>,
    /// The session through which it was attached; it goes with that one.
    parent: Option<Arc<str>>,
}

impl Entry {
    fn subscribe(&mut self, methods: &[&'static str], expendable: &[&'static str], capacity: usize) -> Events {
        self.feeds.retain(|feed| !feed.is_dropped());
        let (feed, events) = events::subscription(methods, expendable, capacity);
        self.feeds.push(feed);
        events
    }

    /// Hands an event to everyone who asked for it. Answers how many older events had to go.
    fn deliver(&mut self, method: &str, params: &RawValue) -> u64 {
        let mut shared: Option<Arc<RawValue>> = None;
        let mut lost = 0;
        self.feeds.retain(|feed| !feed.is_dropped());
        for feed in &self.feeds {
            if let Some(method) = feed.wants(method) {
                // Copied once, and only if somebody wants it.
                let params = Arc::clone(shared.get_or_insert_with(|| Arc::from(params.to_owned())));
                lost += feed.push(Event { method, params });
            }
        }
        lost
    }
}

#[derive(Default)]
pub(crate) struct Registry {
    closed: Option<Closed>,
    /// The last id given out. Chromium reads ids as 32-bit integers, which no browser lives to see end.
    last_id: u64,
    pending: HashMap<u64, Pending>,
    browser: Entry,
    /// A session that is not here is gone: entries leave with their target, so that nothing grows without bound.
    sessions: HashMap<Arc<str>, Entry>,
    stats: Stats,
}

impl Registry {
    pub(crate) fn stats(&self) -> Stats {
        let entries = self.sessions.values().chain([&self.browser]);
        Stats {
            pending: self.pending.len(),
            sessions: self.sessions.len(),
            subscribers: entries.flat_map(|entry| &entry.feeds).filter(|feed| !feed.is_dropped()).count(),
            ..self.stats
        }
    }

    /// The id every handle of this session shares; registers the session if the browser has not announced it.
    pub(crate) fn session(&mut self, id: &str) -> Arc<str> {
        if let Some((known, _)) = self.sessions.get_key_value(id) {
            return Arc::clone(known);
        }
        let id: Arc<str> = Arc::from(id);
        if self.closed.is_none() {
            // A handle made after its session had gone registers it anew. Such an entry goes with its last handle.
            self.sessions.retain(|id, entry| {
                entry.feeds.retain(|feed| !feed.is_dropped());
                entry.attached || !entry.feeds.is_empty() || Arc::strong_count(id) > 1
            });
            self.sessions.insert(Arc::clone(&id), Entry::default());
        }
        id
    }

    pub(crate) fn state(&self, session: Option<&str>) -> SessionState {
        match self.entry(session) {
            _ if self.closed.is_some() => SessionState::Gone,
            None => SessionState::Gone,
            Some(Entry { crashed: Some(_), .. }) => SessionState::Crashed,
            Some(_) => SessionState::Alive,
        }
    }

    /// How often a session has crashed; 0 once it is gone.
    pub(crate) fn crashes(&self, session: Option<&str>) -> u64 {
        self.entry(session).map_or(0, |entry| entry.crashes)
    }

    /// Gives a command its id, or says at once why it cannot succeed.
    pub(crate) fn register(&mut self, session: Option<&Arc<str>>, method: &str) -> Result<Registered, Error> {
        if let Some(closed) = &self.closed {
            return Err(Error::Closed(closed.clone()));
        }
        let entry = self.entry(session.map(AsRef::as_ref)).ok_or(Error::TargetGone)?;
        let revival = Revival::of(method);
        if entry.crashed.is_some() && revival == Revival::No {
            return Err(Error::PageCrashed);
        }
        self.last_id += 1;
        let (sender, reply) = oneshot::channel();
        self.pending
            .insert(self.last_id, Pending { session: session.cloned(), method: method.into(), revival, reply: sender });
        Ok(Registered { id: self.last_id, reply })
    }

    pub(crate) fn is_pending(&self, id: u64) -> bool {
        self.pending.contains_key(&id)
    }

    /// The caller has gone away.
    pub(crate) fn forget(&mut self, id: u64) {
        self.pending.remove(&id);
    }

    pub(crate) fn subscribe(
        &mut self,
        session: Option<&str>,
        methods: &[&'static str],
        expendable: &[&'static str],
        capacity: usize,
    ) -> Events {
        if self.closed.is_some() {
            return Events::ended();
        }
        self.entry_mut(session).map_or_else(Events::ended, |entry| entry.subscribe(methods, expendable, capacity))
    }

    /// Takes one message from the browser.
    pub(crate) fn on_message(&mut self, message: serde_json::Result<Envelope<'_>>) {
        self.stats.frames += 1;
        match message {
            Ok(Envelope { id: Some(id), result, error, .. }) => self.on_reply(id, result, error),
            Ok(envelope) if !envelope.method.is_empty() => self.on_event(&envelope),
            Ok(_) => self.on_malformed("neither reply nor event"),
            Err(_) => self.on_malformed("not a protocol message"),
        }
    }

    /// Takes note of a message that was too large to be taken: whoever waits for it must not wait for ever.
    pub(crate) fn on_skipped(&mut self, skimmed: &Skimmed) {
        self.stats.frames += 1;
        self.stats.too_large += 1;
        metrics().frames_skipped.add("too_large");
        tracing::warn!(bytes = skimmed.bytes, method = skimmed.method, "message from the browser skipped: too large");
        if let Some(pending) = skimmed.id.and_then(|id| self.pending.remove(&id)) {
            let method = pending.method.to_string();
            answer(pending, Err(Error::ReplyTooLarge { method, bytes: skimmed.bytes }));
        } else if let Some(method) = &skimmed.method
            && let Some(entry) = self.entry_mut(skimmed.session.as_deref())
        {
            let told = entry.feeds.iter().filter(|feed| feed.lose(method)).count();
            self.stats.lagged += told as u64;
        }
    }

    /// The connection has ended: nobody waits any longer. The first reason counts.
    pub(crate) fn close(&mut self, closed: &Closed) {
        if self.closed.is_some() {
            return;
        }
        self.closed = Some(closed.clone());
        self.sessions.clear();
        self.browser.feeds.clear();
        for (_, pending) in self.pending.drain() {
            answer(pending, Err(Error::Closed(closed.clone())));
        }
    }

    fn entry(&self, session: Option<&str>) -> Option<&Entry> {
        session.map_or(Some(&self.browser), |id| self.sessions.get(id))
    }

    fn entry_mut(&mut self, session: Option<&str>) -> Option<&mut Entry> {
        match session {
            None => Some(&mut self.browser),
            Some(id) => self.sessions.get_mut(id),
        }
    }

    fn on_malformed(&mut self, why: &'static str) {
        self.stats.malformed += 1;
        metrics().frames_skipped.add("malformed");
        tracing::debug!(why, "message from the browser ignored");
    }

    fn on_reply(&mut self, id: u64, result: Option<&RawValue>, error: Option<wire::Refusal>) {
        let Some(pending) = self.pending.remove(&id) else {
            // Late, repeated, or to a command that was never sent.
            metrics().frames_skipped.add("unknown_id");
            match id {
                id if (1..=self.last_id).contains(&id) => self.stats.stale += 1,
                _ => self.stats.malformed += 1,
            }
            return;
        };
        let outcome = match (error, pending.session.clone()) {
            (Some(error), Some(session)) if error.code == SESSION_NOT_FOUND => {
                self.on_gone(&session);
                Err(Error::TargetGone)
            }
            (Some(error), _) => {
                let method = pending.method.to_string();
                Err(Error::Protocol { method, code: error.code, message: error.message })
            }
            (None, session) => {
                let result = result.unwrap_or(RawValue::NULL);
                if pending.revival.succeeded(result)
                    && let Some(entry) = self.entry_mut(session.as_deref())
                {
                    entry.crashed = None;
                }
                Ok(result.to_owned())
            }
        };
        answer(pending, outcome);
    }

    fn on_event(&mut self, event: &Envelope<'_>) {
        let session = Some(event.session.as_ref()).filter(|id| !id.is_empty());
        let params = event.params.unwrap_or(RawValue::NULL);
        let lost = self.entry_mut(session).map_or(0, |entry| entry.deliver(&event.method, params));
        self.stats.lagged += lost;
        match (event.method.as_ref(), session) {
            ("Inspector.targetCrashed", Some(id)) => self.on_crash(id, |reports| &mut reports.inspector),
            ("Inspector.targetReloadedAfterCrash", Some(_)) => {
                if let Some(entry) = self.entry_mut(session) {
                    entry.crashed = None;
                }
            }
            ("Target.attachedToTarget" | "Target.detachedFromTarget" | "Target.targetCrashed", _) => {
                match serde_json::from_str(params.get()) {
                    Ok(note) => self.on_target(&event.method, session, &note),
                    Err(_) => self.on_malformed("unreadable target event"),
                }
            }
            _ => {}
        }
    }

    fn on_target(&mut self, method: &str, via: Option<&str>, note: &TargetNote<'_>) {
        match method {
            "Target.attachedToTarget" if !note.session_id.is_empty() => {
                let parent = via.and_then(|id| self.sessions.get_key_value(id)).map(|(id, _)| Arc::clone(id));
                let id = self.session(&note.session_id);
                if let Some(entry) = self.sessions.get_mut(&id) {
                    entry.attached = true;
                    entry.target = note.target_info.as_ref().map(|info| info.target_id.as_ref().to_owned());
                    entry.parent = parent;
                }
            }
            "Target.detachedFromTarget" => self.on_gone(&note.session_id),
            // On other levels it repeats what the browser's own level says.
            "Target.targetCrashed" if via.is_none() => {
                let of_target = self.sessions.iter().filter(|(_, e)| e.target.as_deref() == Some(&*note.target_id));
                let hit: Vec<_> = of_target.map(|(id, _)| Arc::clone(id)).collect();
                for id in hit {
                    self.on_crash(&id, |reports| &mut reports.target);
                }
            }
            _ => {}
        }
    }

    fn on_crash(&mut self, id: &str, reporter: impl Fn(&mut CrashReports) -> &mut bool) {
        let Some(entry) = self.sessions.get_mut(id) else { return };
        if let Some(reports) = &mut entry.crashed
            && !std::mem::replace(reporter(reports), true)
        {
            // The other event of a crash we know. A navigation may have been sent since, and must not fail by it.
            return;
        }
        let mut reports = CrashReports::default();
        *reporter(&mut reports) = true;
        entry.crashed = Some(reports);
        entry.crashes += 1;
        self.fail_all(id, || Error::PageCrashed);
    }

    /// A session has been detached, and with it all that were attached through it.
    fn on_gone(&mut self, id: &str) {
        let mut gone = vec![Arc::<str>::from(id)];
        while let Some(id) = gone.pop() {
            // Dropping the entry ends its event streams.
            self.sessions.remove(&id);
            self.fail_all(&id, || Error::TargetGone);
            gone.extend(
                self.sessions.iter().filter(|(_, e)| e.parent.as_ref() == Some(&id)).map(|(c, _)| Arc::clone(c)),
            );
        }
    }

    fn fail_all(&mut self, session: &str, error: impl Fn() -> Error) {
        for (_, pending) in self.pending.extract_if(|_, pending| pending.session.as_deref() == Some(session)) {
            answer(pending, Err(error()));
        }
    }
}

fn answer(pending: Pending, outcome: Reply) {
    // A caller that has just gone away needs no answer.
    let _unheard = pending.reply.send(outcome);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn feed(registry: &mut Registry, message: &Value) {
        let frame = message.to_string();
        registry.on_message(wire::parse(frame.as_bytes()));
    }

    fn attach(registry: &mut Registry, via: &str, session: &str, target: &str) -> Arc<str> {
        let params = json!({ "sessionId": session, "targetInfo": { "targetId": target } });
        feed(registry, &json!({ "method": "Target.attachedToTarget", "sessionId": via, "params": params }));
        registry.session(session)
    }

    fn crash(registry: &mut Registry, session: &str) {
        feed(registry, &json!({ "method": "Inspector.targetCrashed", "sessionId": session, "params": {} }));
    }

    fn crash_of_target(registry: &mut Registry, target: &str) {
        let params = json!({ "targetId": target, "status": "killed", "errorCode": 9 });
        feed(registry, &json!({ "method": "Target.targetCrashed", "params": params }));
    }

    fn outcome(registered: &mut Registered) -> Option<Reply> {
        registered.reply.try_recv().ok()
    }

    #[test]
    fn the_second_report_of_one_crash_does_not_fail_the_navigation_that_revives() {
        for inspector_first in [true, false] {
            let mut registry = Registry::default();
            let page = attach(&mut registry, "", "S", "T");
            let report = |registry: &mut Registry, inspector: bool| {
                if inspector { crash(registry, "S") } else { crash_of_target(registry, "T") }
            };
            report(&mut registry, inspector_first);
            let mut navigate = registry.register(Some(&page), "Page.navigate").unwrap();
            report(&mut registry, !inspector_first);
            assert!(outcome(&mut navigate).is_none(), "still waiting");
            assert_eq!(registry.crashes(Some("S")), 1, "two reports, one crash");
            // The same reporter again: the new renderer died too.
            report(&mut registry, inspector_first);
            assert!(matches!(outcome(&mut navigate), Some(Err(Error::PageCrashed))));
            assert_eq!(registry.crashes(Some("S")), 2);
        }
    }

    #[test]
    fn a_navigation_with_an_error_text_revives_nothing_by_itself() {
        let mut registry = Registry::default();
        let page = attach(&mut registry, "", "S", "T");
        crash(&mut registry, "S");
        let aborted = registry.register(Some(&page), "Page.navigate").unwrap().id;
        feed(&mut registry, &json!({ "id": aborted, "result": { "errorText": "net::ERR_ABORTED" } }));
        assert_eq!(registry.state(Some("S")), SessionState::Crashed);

        feed(&mut registry, &json!({ "method": "Inspector.targetReloadedAfterCrash", "sessionId": "S" }));
        assert_eq!(registry.state(Some("S")), SessionState::Alive);
    }

    #[test]
    fn children_go_with_their_parent() {
        let mut registry = Registry::default();
        let page = attach(&mut registry, "", "S", "T");
        let frame = attach(&mut registry, "S", "F", "U");
        let worker = attach(&mut registry, "F", "W", "V");
        let other = attach(&mut registry, "", "O", "X");
        let mut calls: Vec<_> = [&page, &frame, &worker, &other]
            .map(|session| registry.register(Some(session), "Runtime.evaluate").unwrap())
            .into();
        let params = json!({ "sessionId": "S" });
        feed(&mut registry, &json!({ "method": "Target.detachedFromTarget", "params": params }));
        for call in &mut calls[..3] {
            assert!(matches!(outcome(call), Some(Err(Error::TargetGone))));
        }
        assert!(outcome(&mut calls[3]).is_none());
        assert_eq!((registry.stats().sessions, registry.stats().pending), (1, 1));
    }

    #[test]
    fn a_handle_of_a_session_that_had_gone_leaves_nothing_behind() {
        let mut registry = Registry::default();
        for n in 0..100 {
            drop(registry.session(&format!("late{n}")));
        }
        assert_eq!(registry.stats().sessions, 1, "the last one goes when the next comes");

        let late = registry.session("late");
        let call = registry.register(Some(&late), "Runtime.evaluate").unwrap();
        feed(&mut registry, &json!({ "id": call.id, "error": { "code": SESSION_NOT_FOUND, "message": "no session" } }));
        assert_eq!(registry.state(Some("late")), SessionState::Gone);
    }

    #[test]
    fn target_events_that_make_no_sense_are_ignored() {
        let mut registry = Registry::default();
        attach(&mut registry, "", "S", "T");
        for method in ["Target.attachedToTarget", "Target.detachedFromTarget", "Target.targetCrashed"] {
            for params in [json!(null), json!(7), json!({}), json!({ "sessionId": 5 }), json!({ "targetInfo": [] })] {
                feed(&mut registry, &json!({ "method": method, "params": params }));
            }
        }
        assert_eq!((registry.stats().sessions, registry.state(Some("S"))), (1, SessionState::Alive));
    }
}
