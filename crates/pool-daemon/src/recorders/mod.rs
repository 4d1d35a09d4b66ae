//! What records a session from one call to another: one recording of each kind at a time, bounded, and over with the lease.
//!
//! [`Calls`] are the calls that act, by what they would be in another session; what the browser does ([`Trace`]) and what is seen
//! ([`Video`]) are recorded beside the calls, by tasks that end with their handle.

mod video;
mod webm;

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value, json};

pub use video::{FPS, Film, Video};

use crate::page::Trace;

/// Most actions of a recording, and bytes of their arguments and code. What comes later is left out.
const ACTIONS_MAX: usize = 200;
const BYTES_MAX: usize = 256 << 10;
/// Most bytes of the arguments and code of one action, such as a file that is uploaded.
const ACTION_BYTES_MAX: usize = 16 << 10;
/// Most actions that are named as left out.
const LEFT_OUT_MAX: usize = 20;

/// The recordings of a lease.
#[derive(Debug, Default)]
pub struct Recorders {
    calls: Mutex<Option<Calls>>,
    pub trace: Slot<Trace>,
    pub video: Slot<Video>,
}

/// A call as a step of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub tool: &'static str,
    pub arguments: Map<String, Value>,
}

/// The calls that have acted since a recording began.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calls {
    pub steps: Vec<Step>,
    /// What the same would be in test code, those that are no steps included.
    pub code: Vec<String>,
    /// What is in neither, or only in the code: a clause each.
    pub left_out: Vec<String>,
    actions: usize,
    bytes: usize,
}

impl Calls {
    /// Adds an action: as the step that it would be in another session, or why it would be none.
    fn add(&mut self, tool: &'static str, step: Result<Map<String, Value>, &'static str>, code: String) {
        self.actions += 1;
        let (step, why) = match step {
            Ok(arguments) => (Some(arguments), ""),
            Err(why) => (None, why),
        };
        let bytes = code.len() + step.as_ref().map_or(0, |step| json!(step).to_string().len());
        let too_much = match () {
            () if bytes > ACTION_BYTES_MAX => Some("it is too large"),
            () if self.bytes + bytes > BYTES_MAX || self.code.len() >= ACTIONS_MAX => Some("the recording is full"),
            () => None,
        };
        if let Some(why) = too_much {
            return self.leave_out(tool, why);
        }
        self.bytes += bytes;
        self.code.push(code);
        match step {
            Some(arguments) => self.steps.push(Step { tool, arguments }),
            None => self.leave_out(tool, why),
        }
    }

    fn leave_out(&mut self, tool: &str, why: &str) {
        if self.left_out.len() < LEFT_OUT_MAX {
            self.left_out.push(format!("action {} ({tool}): {why}", self.actions));
        }
    }
}

impl Recorders {
    /// Begins to record calls; `false` if that is done already.
    pub fn record_calls(&self) -> bool {
        let mut calls = lock(&self.calls);
        let begins = calls.is_none();
        calls.get_or_insert_default();
        begins
    }

    /// Whether calls are recorded.
    pub fn records_calls(&self) -> bool {
        lock(&self.calls).is_some()
    }

    /// Records an action, if calls are recorded.
    pub fn acted(&self, tool: &'static str, step: Result<Map<String, Value>, &'static str>, code: String) {
        if let Some(calls) = lock(&self.calls).as_mut() {
            calls.add(tool, step, code);
        }
    }

    /// Ends the recording of calls, if there is one, and answers it.
    pub fn take_calls(&self) -> Option<Calls> {
        lock(&self.calls).take()
    }

    /// What of these no checkpoint keeps: a clause each.
    pub fn running(&self) -> impl Iterator<Item = String> {
        let calls = lock(&self.calls).as_ref().map(|calls| calls.actions);
        let calls = calls.map(|actions| format!("a recording, of {actions} actions so far"));
        let trace = self.trace.is_taken().then(|| "a trace that was being recorded".to_owned());
        let video = self.video.is_taken().then(|| "a video that was being recorded".to_owned());
        [calls, trace, video].into_iter().flatten()
    }
}

/// The place of a recording that a task makes.
#[derive(Debug)]
pub struct Slot<T>(Mutex<Option<T>>);

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Slot<T> {
    /// Whether there is one.
    pub fn is_taken(&self) -> bool {
        lock(&self.0).is_some()
    }

    /// Keeps one in place of what there was. Calls of a session run one at a time, so a free slot stays free during a call.
    pub fn put(&self, recording: T) {
        *lock(&self.0) = Some(recording);
    }

    /// Does something with the one that there is; `false` if there is none.
    pub fn with(&self, with: impl FnOnce(&T)) -> bool {
        lock(&self.0).as_ref().map(with).is_some()
    }

    /// Takes the one that there is.
    pub fn take(&self) -> Option<T> {
        lock(&self.0).take()
    }
}

/// Plain data behind a short lock, never held across an await.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(bytes: usize) -> Map<String, Value> {
        Map::from_iter([("text".to_owned(), "x".repeat(bytes).into())])
    }

    #[test]
    fn actions_are_kept_in_order_and_what_is_left_out_is_named() {
        let recorders = Recorders::default();
        recorders.acted("browser_type", Ok(arguments(1)), "before".to_owned());
        assert!(recorders.record_calls() && !recorders.record_calls() && recorders.records_calls());
        recorders.acted("browser_type", Ok(arguments(3)), "one();".to_owned());
        recorders.acted("browser_click", Err("it is in a frame"), "two();".to_owned());
        recorders.acted("browser_file_upload", Ok(arguments(ACTION_BYTES_MAX)), "three();".to_owned());
        assert_eq!(recorders.running().collect::<Vec<_>>(), ["a recording, of 3 actions so far"]);
        let calls = recorders.take_calls().unwrap();
        assert_eq!(calls.steps, [Step { tool: "browser_type", arguments: arguments(3) }]);
        assert_eq!(calls.code, ["one();", "two();"]);
        let left_out =
            ["action 2 (browser_click): it is in a frame", "action 3 (browser_file_upload): it is too large"];
        assert_eq!(calls.left_out, left_out);
        assert!(recorders.take_calls().is_none() && recorders.running().next().is_none());
    }

    #[test]
    fn a_recording_is_bounded_in_actions_and_bytes() {
        let (mut many, mut large) = (Calls::default(), Calls::default());
        for _ in 0..=ACTIONS_MAX + LEFT_OUT_MAX {
            many.add("browser_click", Ok(arguments(1)), "click();".to_owned());
            large.add("browser_type", Ok(arguments(ACTION_BYTES_MAX - 100)), String::new());
        }
        assert_eq!((many.steps.len(), many.left_out.len()), (ACTIONS_MAX, LEFT_OUT_MAX));
        assert!(
            large.bytes <= BYTES_MAX && large.steps.len() == BYTES_MAX / (ACTION_BYTES_MAX - 89),
            "{}",
            large.bytes
        );
        assert!(large.left_out[0].ends_with("the recording is full"), "{:?}", large.left_out);
    }
}
