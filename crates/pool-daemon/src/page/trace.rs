//! What the browser does, as a Chrome trace: recorded from one call to another over a protocol session of its own, so that nothing
//! is left on when that is closed.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use browserfleet_cdp::{
    Events, Item, Session,
    browser_protocol::{
        io::{CloseParams, ReadParams, StreamHandle},
        target::{AttachToBrowserTargetParams, DetachFromTargetParams, SessionId},
        tracing::EndParams,
    },
};
use browserfleet_common::error_code::ErrorCode;
use serde::Deserialize;
use serde_json::json;
use tokio::{
    sync::oneshot,
    time::{Duration, Instant, sleep, timeout_at},
};

use super::Context;
use crate::failure::Failure;

/// Most time of a trace; then it waits to be taken.
const TIME_MAX: Duration = Duration::from_mins(5);
/// Of the browser's buffer, in KiB. When it is full, what comes later is missing: without its beginning a trace cannot be shown.
const BUFFER_KIB: u32 = 8 << 10;
/// Most bytes of a trace, as JSON.
const BYTES_MAX: usize = 8 << 20;
/// Most time for the browser to hand a trace over.
const HANDING_OVER: Duration = Duration::from_secs(20);
/// Most time for closing what was opened for it.
const CLOSING: Duration = Duration::from_secs(1);
/// Bytes of a trace that are read at a time.
const PIECE: i64 = 1 << 20;

const COMPLETE: &str = "Tracing.tracingComplete";

/// What is recorded: what pages load, run, lay out and paint, and what they measure themselves. Not what Chromium's own threads do, nor
/// which lines of a script took how long: that fills the buffer within seconds.
const CATEGORIES: [&str; 7] = [
    "-*",
    "loading",
    "blink.console",
    "blink.user_timing",
    "devtools.timeline",
    "disabled-by-default-devtools.timeline",
    "disabled-by-default-devtools.timeline.frame",
];

/// A trace that is being recorded. Dropping it gives it up.
#[derive(Debug)]
pub struct Trace {
    stop: oneshot::Sender<()>,
    made: oneshot::Receiver<Result<Traced, Failure>>,
}

/// A trace that was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// In the JSON form of the Trace Event Format.
    pub json: Vec<u8>,
    pub duration: Duration,
    /// Whether its end is missing.
    pub cut: bool,
}

/// How a trace ended in the browser.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Complete {
    #[serde(default)]
    data_loss_occurred: bool,
    stream: Option<String>,
}

impl Context {
    /// Begins to record what the whole browser does. One that was given up before it began ends by itself.
    ///
    /// # Errors
    /// When the browser records a trace already, or does not answer.
    pub async fn start_trace(&self, deadline: Instant) -> Result<Trace, Failure> {
        let (stop, stopped) = oneshot::channel();
        let (finished, made) = oneshot::channel();
        let (begun, begins) = oneshot::channel();
        let (browser, tracing) = (self.browser(), Arc::clone(&self.shared.tracing));
        self.tasks().spawn("context.trace", async move {
            // Whoever wanted it may have given up, here and below.
            let _alone = match timeout_at(deadline, tracing.lock_owned()).await {
                Ok(alone) => alone,
                Err(_elapsed) => return drop(begun.send(Err(taken()))),
            };
            let recording = match Recording::attach(browser, deadline).await {
                Ok(recording) => recording,
                Err(failure) => return drop(begun.send(Err(failure))),
            };
            match recording.start(deadline).await {
                Ok(events) => {
                    let _unwanted = begun.send(Ok(()));
                    let traced = recording.run(events, stopped).await;
                    recording.close().await;
                    let _unwanted = finished.send(traced);
                }
                Err(failure) => {
                    recording.close().await;
                    let _unwanted = begun.send(Err(failure));
                }
            }
        });
        begins.await.unwrap_or_else(|_ended| Err(lost()))?;
        Ok(Trace { stop, made })
    }
}

impl Trace {
    /// Ends the trace and answers it.
    ///
    /// # Errors
    /// When the browser does not hand it over in time: then it is lost.
    pub async fn stop(self, deadline: Instant) -> Result<Traced, Failure> {
        let Self { stop, made } = self;
        // One that has come to its time waits already.
        let _ended_by_itself = stop.send(());
        match timeout_at(deadline, made).await {
            Ok(Ok(traced)) => traced,
            Ok(Err(_)) | Err(_) => Err(lost()),
        }
    }
}

fn taken() -> Failure {
    Failure::new(ErrorCode::CallTimeout, "an earlier trace of this browser has not ended yet; try again")
}

fn lost() -> Failure {
    let message = "the browser did not hand the trace over in time: it is lost. Record a shorter one";
    Failure::new(ErrorCode::CallTimeout, message)
}

/// The task's side.
#[derive(Debug)]
struct Recording {
    browser: Session,
    session: Session,
    id: SessionId,
    began: Instant,
}

impl Recording {
    async fn attach(browser: Session, deadline: Instant) -> Result<Self, Failure> {
        let id = browser.call(AttachToBrowserTargetParams {}, deadline).await?.session_id;
        let session = browser.connection().session(id.as_ref());
        Ok(Self { browser, session, id, began: Instant::now() })
    }

    /// Begins; answers how its end is heard of.
    async fn start(&self, deadline: Instant) -> Result<Events, Failure> {
        let events = self.session.subscribe(&[COMPLETE], 1);
        let config = json!({
            "recordMode": "recordUntilFull", "traceBufferSizeInKb": BUFFER_KIB,
            "excludedCategories": [], "includedCategories": CATEGORIES,
        });
        let start = json!({ "transferMode": "ReturnAsStream", "streamFormat": "json", "traceConfig": config });
        self.session.call_raw("Tracing.start", &start, deadline).await?;
        Ok(events)
    }

    async fn run(&self, mut events: Events, stopped: oneshot::Receiver<()>) -> Result<Traced, Failure> {
        let in_time = tokio::select! {
            asked = stopped => asked.map(|()| true).map_err(|_given_up| lost())?,
            () = sleep(TIME_MAX) => false,
            // The browser is gone, or has ended it for a reason of its own.
            _ended = events.recv() => return Err(Failure::new(ErrorCode::BrowserGone, "the browser has given the trace up")),
        };
        let duration = self.began.elapsed();
        let deadline = Instant::now() + HANDING_OVER;
        self.session.call(EndParams::default(), deadline).await?;
        let complete = timeout_at(deadline, completed(&mut events)).await.map_err(|_elapsed| lost())?;
        let Some(Complete { data_loss_occurred, stream: Some(stream) }) = complete else { return Err(lost()) };
        let (json, cut) = self.read(StreamHandle::new(stream), deadline).await?;
        Ok(Traced { json, duration, cut: cut || data_loss_occurred || !in_time })
    }

    /// Reads a trace; whether its end is left out.
    async fn read(&self, stream: StreamHandle, deadline: Instant) -> Result<(Vec<u8>, bool), Failure> {
        let mut json = Vec::new();
        let ended = loop {
            let read = ReadParams { handle: stream.clone(), offset: None, size: Some(PIECE) };
            let piece = self.session.call(read, deadline).await?;
            if piece.base64_encoded.unwrap_or(false) {
                json.extend(STANDARD.decode(&piece.data).map_err(|_garbled| lost())?);
            } else {
                json.extend_from_slice(piece.data.as_bytes());
            }
            if piece.eof {
                break true;
            }
            if json.len() > BYTES_MAX {
                break false;
            }
        };
        // It goes with the session otherwise.
        let _closed_anyway = self.session.call(CloseParams::new(stream), deadline).await;
        if ended && json.len() <= BYTES_MAX {
            return Ok((json, false));
        }
        cut(&mut json);
        Ok((json, true))
    }

    async fn close(&self) {
        let detach = DetachFromTargetParams { session_id: Some(self.id.clone()) };
        // With the browser it goes, too.
        let _gone_anyway = self.browser.call(detach, Instant::now() + CLOSING).await;
    }
}

async fn completed(events: &mut Events) -> Option<Complete> {
    loop {
        match events.recv().await? {
            Item::Event(event) => return event.decode().ok(),
            Item::Lagged(_) => {}
        }
    }
}

/// Shortens a trace to what it may have, at the end of an event, and closes what is open there.
fn cut(json: &mut Vec<u8>) {
    json.truncate(BYTES_MAX);
    let end = json.windows(3).rposition(|end| end == b"},\n").map_or(0, |at| at + 1);
    json.truncate(end);
    json.extend_from_slice(b"\n]}");
}

#[cfg(test)]
mod tests {
    use browserfleet_cdp::fake::Peer;
    use browserfleet_common::lifecycle::Tasks;
    use serde_json::Value;

    use super::*;

    #[tokio::test]
    async fn a_trace_that_is_given_up_while_it_begins_leaves_nothing() {
        let tasks = Tasks::new();
        let (mut peer, connection) = Peer::connect(&tasks).unwrap();
        let context = Context::default_of(&connection, &tasks, None, None);
        let late = Instant::now() + Duration::from_mins(1);
        let attached = |id: &str| json!({ "sessionId": id });
        let begins = tokio::select! {
            started = context.start_trace(late) => panic!("{started:?}"),
            begins = async {
                let attach = peer.expect("Target.attachToBrowserTarget").await.unwrap();
                peer.reply(&attach, attached("first")).await.unwrap();
                peer.expect("Tracing.start").await.unwrap()
            } => begins,
        };
        // The next one waits until nothing of it is left.
        let serve = async {
            peer.reply(&begins, json!({})).await.unwrap();
            let detach = peer.expect("Target.detachFromTarget").await.unwrap();
            assert_eq!(detach.params["sessionId"], "first");
            peer.reply(&detach, json!({})).await.unwrap();
            let attach = peer.expect("Target.attachToBrowserTarget").await.unwrap();
            peer.reply(&attach, attached("second")).await.unwrap();
            let start = peer.expect("Tracing.start").await.unwrap();
            peer.reply(&start, json!({})).await.unwrap();
        };
        let (trace, ()) = tokio::join!(context.start_trace(late), serve);
        drop(trace.unwrap());
        let detach = peer.expect("Target.detachFromTarget").await.unwrap();
        assert_eq!(detach.params["sessionId"], "second");
    }

    #[test]
    fn a_trace_that_is_cut_can_still_be_read() {
        let event = r#"{"name":"a","args":{"of":{"b":1}}}"#;
        let all = BYTES_MAX / event.len() + 1;
        let mut json = format!("{{\"traceEvents\":[{}]}}", vec![event; all].join(",\n")).into_bytes();
        assert!(json.len() > BYTES_MAX);
        cut(&mut json);
        let read: Value = serde_json::from_slice(&json).unwrap();
        let left = read["traceEvents"].as_array().unwrap().len();
        assert!(json.len() <= BYTES_MAX + 3 && left > all * 9 / 10 && left < all, "{left} of {all}");
    }
}
