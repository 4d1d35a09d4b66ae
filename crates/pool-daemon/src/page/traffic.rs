//! A page's requests and their answers: bounded, the newest kept; bodies stay in the browser until somebody asks.

use std::collections::{BTreeMap, VecDeque};

use browserfleet_cdp::{
    Session,
    browser_protocol::network::{GetRequestPostDataParams, GetResponseBodyParams},
};
use browserfleet_common::error_code::ErrorCode;
use tokio::time::{Duration, Instant};

use super::{
    Page,
    state::{PageState, cut},
    wire::{RequestSent, Response},
};
use crate::failure::Failure;

/// Most requests that are kept.
const MAX_EXCHANGES: usize = 1000;
/// Most characters of a URL, and most bytes of the headers of one side.
const MAX_URL: usize = 4_000;
const MAX_HEADERS: usize = 4_096;

/// Most time for a body to be complete.
const ENDING: Duration = Duration::from_secs(1);

/// How an exchange stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    Waiting,
    Answered { status: i64, text: String },
    Failed(String),
}

/// A request and its answer.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// From 1, since the page was navigated to.
    pub number: usize,
    pub method: String,
    pub url: String,
    /// document, script, fetch, xhr, …
    pub kind: String,
    pub progress: Progress,
    /// When it was sent, in seconds since 1970, by the clock of the browser.
    pub sent: f64,
    /// Between request and end, in milliseconds, once it has ended.
    pub duration: Option<u64>,
    pub mime_type: String,
    pub request_headers: Vec<(String, String)>,
    pub response_headers: Vec<(String, String)>,
    pub has_request_body: bool,
    /// Whether this answer leads elsewhere: it has no body of its own.
    pub redirected: bool,
    id: String,
    session: Session,
    started: f64,
}

/// The requests of a page since it was navigated to.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    exchanges: VecDeque<Exchange>,
    last_number: usize,
}

impl Traffic {
    pub(super) fn sent(&mut self, sent: RequestSent, session: &Session) {
        if let Some(response) = sent.redirect_response
            && let Some(exchange) = self.of(&sent.request_id)
        {
            exchange.answered(response);
            exchange.redirected = true;
            exchange.ended(sent.timestamp);
        }
        if sent.request.url.starts_with("data:") {
            return;
        }
        if self.exchanges.len() == MAX_EXCHANGES {
            self.exchanges.pop_front();
        }
        self.last_number += 1;
        self.exchanges.push_back(Exchange {
            number: self.last_number,
            method: cut(sent.request.method, 40),
            url: cut(sent.request.url, MAX_URL),
            kind: sent.kind.to_ascii_lowercase(),
            progress: Progress::Waiting,
            sent: sent.wall_time,
            duration: None,
            mime_type: String::new(),
            request_headers: bounded(sent.request.headers),
            response_headers: Vec::new(),
            has_request_body: sent.request.has_post_data,
            redirected: false,
            id: sent.request_id,
            session: session.clone(),
            started: sent.timestamp,
        });
    }

    pub(super) fn answered(&mut self, id: &str, response: Response) {
        if let Some(exchange) = self.of(id) {
            exchange.answered(response);
        }
    }

    pub(super) fn ended(&mut self, id: &str, at: f64, error: Option<String>) {
        if let Some(exchange) = self.of(id) {
            exchange.ended(at);
            if let Some(error) = error {
                exchange.progress = Progress::Failed(cut(error, 200));
            }
        }
    }

    /// The newest one of this id: redirects share it.
    fn of(&mut self, id: &str) -> Option<&mut Exchange> {
        self.exchanges.iter_mut().rev().find(|exchange| exchange.id == id)
    }

    /// Starts anew, with number 1.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }
}

impl Exchange {
    fn answered(&mut self, response: Response) {
        self.progress = Progress::Answered { status: response.status, text: cut(response.status_text, 100) };
        self.mime_type = cut(response.mime_type, 100);
        self.response_headers = bounded(response.headers);
    }

    fn ended(&mut self, at: f64) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "milliseconds of a page's life")]
        let passed = ((at - self.started) * 1000.0).round().max(0.0) as u64;
        self.duration = Some(passed);
    }

    /// Whether it is of the kind that pages are made of (scripts, pictures …) and went well.
    pub fn is_static(&self) -> bool {
        let went_well = matches!(self.progress, Progress::Waiting)
            || matches!(self.progress, Progress::Answered { status, .. } if status < 400);
        went_well && !matches!(self.kind.as_str(), "xhr" | "fetch")
    }
}

/// Headers in the order of their names, as many as have room.
fn bounded(headers: BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut left = MAX_HEADERS;
    let fits = |(name, value): &(String, String)| {
        let size = name.len() + value.len();
        let fits = size <= left;
        left = left.saturating_sub(size);
        fits
    };
    headers.into_iter().take_while(fits).collect()
}

impl Page {
    /// The requests since the page was navigated to, oldest first.
    pub async fn exchanges(&self) -> Vec<Exchange> {
        self.synced().await;
        self.state().traffic.exchanges.iter().cloned().collect()
    }

    pub fn forget_exchanges(&self) {
        self.state().traffic.restart();
    }

    /// The body a request was sent with.
    pub async fn request_body(&self, exchange: &Exchange, deadline: Instant) -> Result<String, Failure> {
        let command = GetRequestPostDataParams::new(exchange.id.clone());
        let answer = exchange.session.call(command, deadline).await;
        Ok(answer.map_err(|_gone| no_longer("request", exchange))?.post_data)
    }

    /// The body of an answer, and whether it is in base64 because it is no text.
    pub async fn response_body(&self, exchange: &Exchange, deadline: Instant) -> Result<(String, bool), Failure> {
        // Before its end there is only a part of it, or nothing. An endless one is shown as far as it has come.
        let over = |state: &PageState| {
            state.traffic.exchanges.iter().all(|one| one.number != exchange.number || one.duration.is_some())
        };
        self.until(deadline.min(Instant::now() + ENDING), over).await;
        let command = GetResponseBodyParams::new(exchange.id.clone());
        let answer = exchange.session.call(command, deadline).await.map_err(|_gone| no_longer("response", exchange))?;
        Ok((answer.body, answer.base64_encoded))
    }
}

fn no_longer(which: &str, exchange: &Exchange) -> Failure {
    let message = format!(
        "the browser does not have the {which} body of request #{} any more: it keeps bodies while their page is open, \
         and only so many",
        exchange.number
    );
    Failure::new(ErrorCode::Unsupported, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_bounded() {
        let headers = BTreeMap::from([
            ("a".to_owned(), "x".repeat(4000)),
            ("b".to_owned(), "y".repeat(4000)),
            ("c".to_owned(), "z".to_owned()),
        ]);
        let kept: Vec<_> = bounded(headers).into_iter().map(|(name, _)| name).collect();
        assert_eq!(kept, ["a"]);
    }
}
