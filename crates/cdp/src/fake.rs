//! A browser for tests: the far ends of the two pipes, and a test that says what comes out of them.

use std::{
    io::{self, ErrorKind},
    os::fd::OwnedFd,
};

use browserfleet_common::lifecycle::Tasks;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::unix::pipe,
};

use crate::{
    Connection, FRAME_LIMIT,
    frame::{Frame, Splitter},
};

/// Plays the browser. Dropping it closes both pipes, as the death of a browser does.
#[derive(Debug)]
pub struct Peer {
    read: pipe::Receiver,
    write: pipe::Sender,
    splitter: Splitter,
}

/// A command as the browser sees it.
#[derive(Clone, Debug, Deserialize)]
pub struct Request {
    pub id: u64,
    pub method: String,
    #[serde(rename = "sessionId")]
    pub session: Option<String>,
    #[serde(default)]
    pub params: Value,
}

impl Peer {
    /// A peer and the two ends that go to [`Connection::open`], in its order: read, write.
    pub fn pipes() -> io::Result<(Self, OwnedFd, OwnedFd)> {
        let (from_browser, to_us) = io::pipe()?;
        let (from_us, to_browser) = io::pipe()?;
        let read = pipe::Receiver::from_owned_fd(from_us.into())?;
        let write = pipe::Sender::from_owned_fd(to_us.into())?;
        Ok((Self { read, write, splitter: Splitter::new(FRAME_LIMIT) }, from_browser.into(), to_browser.into()))
    }

    /// A peer and a connection to it.
    pub fn connect(tasks: &Tasks) -> io::Result<(Self, Connection)> {
        Self::connect_with_frame_limit(tasks, FRAME_LIMIT)
    }

    /// As [`Self::connect`], with a smaller limit for what the connection accepts.
    pub fn connect_with_frame_limit(tasks: &Tasks, limit: usize) -> io::Result<(Self, Connection)> {
        let (peer, read, write) = Self::pipes()?;
        Ok((peer, Connection::open_with_limit(read, write, tasks, limit)?))
    }

    /// The next command; `None` when the other side has closed. Safe to cancel.
    pub async fn request(&mut self) -> io::Result<Option<Request>> {
        loop {
            match self.splitter.next() {
                Some(Frame::Whole(frame)) => return Ok(Some(serde_json::from_slice(&frame)?)),
                Some(Frame::Skipped(_)) => return Err(ErrorKind::FileTooLarge.into()),
                None => {}
            }
            if self.read.read_buf(&mut self.splitter.room()).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// The next command, which must be this one: anything else is an error.
    pub async fn expect(&mut self, method: &str) -> io::Result<Request> {
        match self.request().await? {
            Some(request) if request.method == method => Ok(request),
            Some(request) => Err(io::Error::other(format!("expected {method}, got {}", request.method))),
            None => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Answers a command with success.
    pub async fn reply(&mut self, to: &Request, result: Value) -> io::Result<()> {
        self.send(json!({ "id": to.id, "sessionId": to.session, "result": result })).await
    }

    /// Answers a command with an error.
    pub async fn refuse(&mut self, to: &Request, code: i64, message: &str) -> io::Result<()> {
        let error = json!({ "code": code, "message": message });
        self.send(json!({ "id": to.id, "sessionId": to.session, "error": error })).await
    }

    /// Sends an event, of a session or of the browser's own level.
    pub async fn event(&mut self, session: Option<&str>, method: &str, params: Value) -> io::Result<()> {
        self.send(json!({ "method": method, "sessionId": session, "params": params })).await
    }

    /// Sends a message with its terminator. Keys that are null are left out, as Chromium does.
    pub async fn send(&mut self, mut message: Value) -> io::Result<()> {
        if let Some(object) = message.as_object_mut() {
            object.retain(|_, value| !value.is_null());
        }
        let mut frame = serde_json::to_vec(&message)?;
        frame.push(0);
        self.raw(&frame).await
    }

    /// Sends bytes as they are: half messages, garbage, too much.
    pub async fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write.write_all(bytes).await
    }

    /// Answers every command with what `answer` says, until the other side closes.
    pub async fn serve(&mut self, mut answer: impl FnMut(&Request) -> Value) -> io::Result<()> {
        while let Some(request) = self.request().await? {
            let result = answer(&request);
            self.reply(&request, result).await?;
        }
        Ok(())
    }
}
