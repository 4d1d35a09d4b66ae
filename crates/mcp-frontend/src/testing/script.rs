//! What the fake daemon answers to a tool call.

use std::time::Duration;

use browserfleet_common::{
    error_code::ErrorCode,
    pb::{CallQueued, CallToolRequest, End, Progress, Section, SectionKind, Started, ToolFailure, call_tool_response},
};
use tonic::Status;

/// One step of an answer.
#[derive(Clone, Debug)]
pub enum Event {
    Send(call_tool_response::Event),
    /// Ends the stream with a status.
    Fail(Status),
    /// As [`Event::Fail`], and every lease ends before it.
    Die(Status),
    Wait(Duration),
    /// Until the caller goes away.
    WaitForever,
    /// Ends the stream without a word, as a daemon does that dies.
    Vanish,
}

impl Event {
    pub fn queued(ahead: u32) -> Self {
        Self::Send(call_tool_response::Event::Queued(CallQueued { ahead }))
    }

    pub fn started() -> Self {
        Self::Send(call_tool_response::Event::Started(Started {}))
    }

    pub fn progress(message: &str) -> Self {
        Self::Send(call_tool_response::Event::Progress(Progress { message: message.to_owned() }))
    }

    pub fn text(title: &str, body: &str) -> Self {
        Self::section(SectionKind::Text, title, body.as_bytes())
    }

    pub fn image(data: &[u8]) -> Self {
        Self::section(SectionKind::Image, "", data)
    }

    /// Something to keep, named so unless the caller says otherwise.
    pub fn file(name: &str, data: &[u8]) -> Self {
        Self::section(SectionKind::File, name, data)
    }

    /// Something that a page gave away.
    pub fn download(name: &str, data: &[u8]) -> Self {
        Self::section(SectionKind::Download, name, data)
    }

    pub fn structured(json: &str) -> Self {
        Self::section(SectionKind::Structured, "", json.as_bytes())
    }

    pub fn end() -> Self {
        Self::Send(call_tool_response::Event::End(End { error: None }))
    }

    /// The tool fails, in band.
    pub fn failed(code: ErrorCode, message: &str) -> Self {
        let error = Some(ToolFailure { code: code.name().to_owned(), message: message.to_owned() });
        Self::Send(call_tool_response::Event::End(End { error }))
    }

    fn section(kind: SectionKind, title: &str, data: &[u8]) -> Self {
        let section = Section {
            kind: kind.into(),
            title: title.to_owned(),
            data: data.to_vec(),
            mime_type: "image/png".to_owned(),
            last: true,
        };
        Self::Send(call_tool_response::Event::Section(section))
    }
}

/// Makes the answer to a call.
pub type Script = Box<dyn Fn(&CallToolRequest) -> Vec<Event> + Send + Sync>;

/// The usual answer: it started, here is what was asked for, it ended.
pub(super) fn usual(call: &CallToolRequest) -> Vec<Event> {
    let arguments = String::from_utf8_lossy(&call.arguments).into_owned();
    vec![
        Event::started(),
        Event::text("Result", &format!("{} {arguments}", call.tool)),
        Event::text("Page", &format!("- Page URL: about:blank\n- Lease: {}", call.lease_id)),
        Event::end(),
    ]
}
