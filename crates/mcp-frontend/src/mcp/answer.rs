//! HTTP answers of the endpoint.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Instant, interval_at};

use super::envelope::Malformed;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
/// Tells nginx not to collect a stream before passing it on.
const UNBUFFERED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

/// A JSON body.
pub(super) fn json_body(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(text) => (status, [(CONTENT_TYPE, JSON)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A JSON-RPC error as an HTTP answer. Without a request to name (`null`) it has no id, as MCP wants it.
pub(super) fn error(status: StatusCode, id: &Value, code: i32, message: &str) -> Response {
    let mut body = json!({ "jsonrpc": "2.0", "error": { "code": code, "message": message } });
    if !id.is_null() {
        body["id"] = id.clone();
    }
    json_body(status, &body)
}

/// What is wrong with the transport around a message, not with the message.
pub(super) fn refused(status: StatusCode, message: &str) -> Response {
    error(status, &Value::Null, -32600, message)
}

pub(super) fn malformed(Malformed { id, code, why }: &Malformed) -> Response {
    error(StatusCode::BAD_REQUEST, id, *code, why)
}

pub(super) fn method_not_allowed(allowed: &'static str) -> Response {
    let mut response = refused(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// No such connection. The client starts afresh with `initialize`.
pub(super) fn unknown_connection() -> Response {
    refused(StatusCode::NOT_FOUND, "Session not found: it is unknown or has ended; initialize again")
}

pub(super) fn missing_connection() -> Response {
    refused(StatusCode::BAD_REQUEST, "The Mcp-Session-Id header is missing: initialize first")
}

pub(super) fn unavailable(error: &crate::Unavailable) -> Response {
    let cause = error.cause.as_deref().map(tracing::field::display);
    tracing::error!(what = error.what, cause, "unavailable");
    let mut response = refused(StatusCode::SERVICE_UNAVAILABLE, "Temporarily unavailable: try again in a moment");
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

pub(super) fn too_many() -> Response {
    let mut response = refused(StatusCode::TOO_MANY_REQUESTS, "Too many connections: try again later");
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("60"));
    response
}

/// An event stream. It begins with a comment, so that the headers go out at once, and a comment follows whenever
/// nothing else was to be sent for `keep_alive`.
pub(super) fn events<S>(messages: S, keep_alive: Duration) -> Response
where
    S: Stream<Item = Value> + Send + 'static,
{
    let lines = messages.map(|message| Bytes::from(format!("event: message\ndata: {message}\n\n")));
    let opening = stream::once(std::future::ready(Bytes::from_static(b": open\n\n")));
    let body = opening.chain(with_comments(lines, keep_alive)).map(Ok::<_, Infallible>);
    let headers = [(CONTENT_TYPE, EVENTS), (CACHE_CONTROL, HeaderValue::from_static("no-cache")), UNBUFFERED];
    (headers, Body::from_stream(body)).into_response()
}

fn with_comments<S>(lines: S, period: Duration) -> impl Stream<Item = Bytes> + Send
where
    S: Stream<Item = Bytes> + Send + 'static,
{
    let ticks = interval_at(Instant::now() + period, period);
    stream::unfold((Box::pin(lines), ticks), |(mut lines, mut ticks)| async move {
        let line = tokio::select! {
            biased;
            line = lines.next() => line?,
            _ = ticks.tick() => Bytes::from_static(b": keep-alive\n\n"),
        };
        ticks.reset();
        Some((line, (lines, ticks)))
    })
}
