//! The legacy era: `initialize` and `Mcp-Session-Id`. rmcp keeps such connections in one process; here any front end may
//! get any request of one.
//!
//! What the handshake said is in the connection store. Each request runs by itself ([`request`]) over a [`transport`] of
//! its own; what concerns it but arrives elsewhere (a cancellation, the client's answer, the end of the connection) comes
//! over the bus. [`stream`] is the client's event stream.

mod request;

mod stream;

mod transport;

use std::sync::Arc;

use axum::response::{IntoResponse as _, Response};
use browserfleet_common::ids::random_hex;
use http::{HeaderName, HeaderValue, StatusCode, request::Parts};
use rmcp::{ServerHandler, model::InitializeRequestParams};
use serde_json::{Value, json};

use super::{
    answer,
    envelope::{Message, is_known_version},
};
use crate::{
    Unavailable, bus,
    caller::{Caller, access},
    connection::{Key, NewConnection, Record},
    core::Core,
    session,
};

/// The header of the connection's id.
pub(super) const CONNECTION_HEADER: HeaderName = HeaderName::from_static("mcp-session-id");
/// Longest id that is looked up; ours have 32 characters.
const ID_MAX: usize = 64;
/// Most bytes of what a client says of itself in the handshake: it is kept for a day.
const HANDSHAKE_MAX: usize = 8 << 10;

/// Answers a message.
pub(super) async fn post<H: ServerHandler>(
    core: &Arc<Core>,
    handler: H,
    parts: &Parts,
    kind: Message,
    message: Value,
) -> Response {
    let result = match kind {
        // A stale id beside it means nothing: the client starts afresh.
        Message::Request { id, method } if method == "initialize" => {
            initialize(core, &handler, parts, &id, message).await
        }
        kind => match connection(core, parts).await {
            Ok(connection) => dispatch(core, handler, parts, connection, kind, message).await,
            Err(refusal) => return refusal.answer(),
        },
    };
    result.unwrap_or_else(|error| answer::unavailable(&error))
}

/// Opens the client's event stream.
pub(super) async fn get(core: &Arc<Core>, parts: &Parts) -> Response {
    if !parts.headers.contains_key(CONNECTION_HEADER) {
        // Probes of connectors want exactly this.
        return answer::method_not_allowed("POST, DELETE");
    }
    match connection(core, parts).await {
        Ok(connection) => {
            let access = Caller::of(parts).over(Arc::clone(&connection)).access;
            let opened = stream::open(core, &connection.key, access).await;
            opened.unwrap_or_else(|error| answer::unavailable(&error))
        }
        Err(refusal) => refusal.answer(),
    }
}

/// Ends a connection, and the session it made without being asked to.
pub(super) async fn delete(core: &Arc<Core>, parts: &Parts) -> Response {
    let key = match key(parts) {
        Ok(key) => key,
        Err(refusal) => return refusal.answer(),
    };
    match end(core, &key).await {
        Ok(true) => StatusCode::NO_CONTENT.into_response(),
        Ok(false) => answer::unknown_connection(),
        Err(error) => answer::unavailable(&error),
    }
}

async fn end(core: &Arc<Core>, key: &Key) -> Result<bool, Unavailable> {
    let Some(connection) = core.connections.end(key).await? else { return Ok(false) };
    // Each step is tried even if another fails.
    if let Err(error) = core.bus.publish(key, bus::Message::Closed).await {
        tracing::warn!(connection = key.digest(), %error, "other front ends do not know that a connection has ended");
    }
    let session = session::Key { principal: key.principal.clone(), name: connection.default_session };
    if let Err(failure) = core.end_session(&session, None).await {
        tracing::warn!(connection = key.digest(), %failure, "the session of an ended connection stays until it expires");
    }
    Ok(true)
}

/// Why a request has no connection.
#[derive(Debug)]
enum Refusal {
    Version,
    Missing,
    Unknown,
    Unavailable(Unavailable),
}

impl Refusal {
    fn answer(&self) -> Response {
        match self {
            Self::Version => answer::refused(StatusCode::BAD_REQUEST, "Unsupported MCP-Protocol-Version"),
            Self::Missing => answer::missing_connection(),
            Self::Unknown => answer::unknown_connection(),
            Self::Unavailable(error) => answer::unavailable(error),
        }
    }
}

/// What a request's headers say about its connection.
fn key(parts: &Parts) -> Result<Key, Refusal> {
    let headers = &parts.headers;
    if !is_known_version(headers) {
        return Err(Refusal::Version);
    }
    let id = headers.get(CONNECTION_HEADER).ok_or(Refusal::Missing)?;
    let id = id.to_str().ok().filter(|id| id.len() <= ID_MAX && id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    Ok(Key { principal: access(&parts.extensions).principal.clone(), id: id.ok_or(Refusal::Unknown)?.to_owned() })
}

/// The connection of a request; it lives on by this.
async fn connection(core: &Arc<Core>, parts: &Parts) -> Result<Arc<Record>, Refusal> {
    let record = core.connections.touch(&key(parts)?).await.map_err(Refusal::Unavailable)?;
    record.map(Arc::new).ok_or(Refusal::Unknown)
}

async fn dispatch<H: ServerHandler>(
    core: &Arc<Core>,
    handler: H,
    parts: &Parts,
    connection: Arc<Record>,
    kind: Message,
    message: Value,
) -> Result<Response, Unavailable> {
    match kind {
        Message::Request { id, method } => {
            let caller = Caller::of(parts).over(connection);
            return request::run(core, handler, caller, id, &method, message).await;
        }
        Message::Notification { method } if method == "notifications/cancelled" => {
            if let Some(request) = message["params"].get("requestId").cloned() {
                core.bus.publish(&connection.key, bus::Message::Cancel { request }).await?;
            }
        }
        Message::Notification { .. } => {}
        Message::Response => {
            core.bus.publish(&connection.key, bus::Message::Response { response: message }).await?;
        }
    }
    Ok(StatusCode::ACCEPTED.into_response())
}

async fn initialize<H: ServerHandler>(
    core: &Arc<Core>,
    handler: &H,
    parts: &Parts,
    id: &Value,
    mut message: Value,
) -> Result<Response, Unavailable> {
    let params = message["params"].take();
    let size = params.to_string().len();
    let Ok(mut params) = serde_json::from_value::<InitializeRequestParams>(params) else {
        return Ok(answer::error(StatusCode::BAD_REQUEST, id, -32602, "Invalid params: these are not initialize's"));
    };
    if size > HANDSHAKE_MAX {
        return Ok(answer::error(StatusCode::BAD_REQUEST, id, -32602, "Invalid params: more than 8 KiB"));
    }
    let result = match handler.negotiate_initialize(&params) {
        Ok(result) => result,
        Err(error) => return Ok(answer::error(StatusCode::OK, id, error.code.0, &error.message)),
    };
    params.protocol_version = result.protocol_version.clone();
    params.meta = None;
    let caller = Caller::of(parts).calling_itself(&params.client_info.name, &params.client_info.version);
    let new = NewConnection {
        key: Key { principal: caller.principal, id: random_hex() },
        initialize: serde_json::to_value(&params).unwrap_or_default(),
        client: caller.client,
        caps: caller.access.asked,
    };
    let Some(record) = core.connections.create(new).await? else { return Ok(answer::too_many()) };
    tracing::debug!(connection = record.key.digest(), version = %params.protocol_version, "connection opened");
    let mut response = answer::json_body(StatusCode::OK, &json!({ "jsonrpc": "2.0", "id": id, "result": result }));
    let value = HeaderValue::from_str(&record.key.id).expect("hexadecimal digits are a header value");
    // On this answer only: some clients take an id from any.
    response.headers_mut().insert(CONNECTION_HEADER, value);
    Ok(response)
}
