//! `/artifacts`: files by plain HTTP, for programs beside the agent.
//!
//! What a client sends (`curl -T cv.pdf -H "X-Session-ID: …" …/artifacts/`) is kept for its session, and the answer says by which
//! URI a call names it. What a reply links to is read without a key: the link itself says that its holder may.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    response::{IntoResponse as _, Response},
};
use browserfleet_common::{error_code::ErrorCode, ids::SessionName};
use browserfleet_tools::{Arguments as _, FileUpload};
use http::{
    HeaderName, HeaderValue, Request, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
    },
    request::Parts,
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;
use tokio::sync::Semaphore;

use super::{
    body::{self, BodyError},
    sessions::store_unavailable,
};
use crate::{
    artifacts::{BYTES, FILES_BYTES_MAX, New, uri},
    call::quota::{self, Quota},
    caller::{Caller, access, words},
    changes::Change,
    core::Core,
    failure::Failure,
    session::{Key, Record},
};

/// How the paths of artifacts begin.
pub(super) const PATH: &str = "/artifacts/";
/// Most files that come in at a time, and that are read for links: each is in memory meanwhile.
const AT_ONCE: usize = 16;
/// Longest name of a file, in bytes.
const NAME_MAX: usize = 255;
/// What curl calls every body: no kind of file.
const FORM: &str = "application/x-www-form-urlencoded";

/// What the routes share.
#[derive(Clone, Debug)]
pub(super) struct Doors {
    core: Arc<Core>,
    incoming: Arc<Semaphore>,
    outgoing: Arc<Semaphore>,
}

impl Doors {
    pub(super) fn new(core: &Arc<Core>) -> Self {
        let places = || Arc::new(Semaphore::new(AT_ONCE));
        Self { core: Arc::clone(core), incoming: places(), outgoing: places() }
    }
}

/// Keeps a file for the session in `X-Session-ID`.
pub(super) async fn upload(
    State(Doors { core, incoming, .. }): State<Doors>,
    Path(name): Path<String>,
    request: Request<Body>,
) -> Response {
    let (parts, body) = request.into_parts();
    let record = match receiver(&core, &parts, &name).await {
        Ok(record) => record,
        Err(answer) => return body::closing(answer),
    };
    let Ok(_place) = incoming.try_acquire() else { return body::closing(busy()) };
    let bytes = match body::read(body, &parts.headers, FILES_BYTES_MAX, core.config.http.body_timeout).await {
        Ok(bytes) => bytes,
        Err(error) => return body::closing(not_read(&error)),
    };
    let given = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).filter(|kind| *kind != FORM);
    let (name, mime_type) = (words(&name), words(given.unwrap_or(BYTES)));
    if let Err(failure) = quota::spend(&core, &access(&parts.extensions), Quota::Upload, bytes.len()).await {
        return beyond(&failure);
    }
    let new = New { name: &name, mime_type: &mime_type, bytes: &bytes, now: core.clock.now() };
    match core.artifacts.keep(&record.owner(), new).await {
        Ok(Some(artifact)) => {
            core.changes.raise(&record.principal, Change::Resources).await;
            let answer = json!({ "uri": uri(&record.name, &artifact.id), "name": name, "size": bytes.len() });
            (StatusCode::CREATED, Json(answer)).into_response()
        }
        Ok(None) => unknown(),
        Err(error) => store_unavailable(&error),
    }
}

/// The session that is to get a file, if its sender may give it one.
async fn receiver(core: &Core, parts: &Parts, name: &str) -> Result<Record, Response> {
    let bad = |text: &str| refused(StatusCode::BAD_REQUEST, ErrorCode::InvalidArgument, text);
    if name.len() > NAME_MAX || name.contains(['/', '\\']) {
        return Err(bad("The name of a file has 1 to 255 bytes, without slashes."));
    }
    let caller = Caller::of(parts);
    let tool = browserfleet_tools::find(FileUpload::TOOL).expect("the catalogue has what its crate defines");
    if !caller.access.allows(tool) {
        return Err(super::auth::forbidden(&parts.extensions, tool.scope));
    }
    let Some(name) = caller.session_header.as_deref().and_then(|name| SessionName::parse(name).ok()) else {
        return Err(bad("Name the session whose file this is in the header X-Session-ID."));
    };
    let key = Key { principal: caller.principal.clone(), name };
    core.sessions.touch(&key).await.map_err(|error| store_unavailable(&error))?.ok_or_else(unknown)
}

/// What a link leads to. A page may have written it, so no browser shows it as something of this server.
pub(super) async fn download(State(Doors { core, outgoing, .. }): State<Doors>, Path(link): Path<String>) -> Response {
    let Ok(_place) = outgoing.try_acquire() else { return busy() };
    let (artifact, bytes) = match core.artifacts.linked(&link, core.clock.now()).await {
        Ok(Some(found)) => found,
        Ok(None) => {
            let text = "This link is not valid, has expired, or its session has ended.";
            return refused(StatusCode::NOT_FOUND, ErrorCode::HandleUnknownOrExpired, text);
        }
        Err(error) => return store_unavailable(&error),
    };
    let name = utf8_percent_encode(&artifact.name, NON_ALPHANUMERIC);
    let kind = HeaderValue::from_str(&artifact.mime_type).unwrap_or(HeaderValue::from_static(BYTES));
    let fixed: [(HeaderName, &str); 3] = [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"),
        (CACHE_CONTROL, "private, no-store"),
    ];
    let disposition = format!("attachment; filename*=UTF-8''{name}");
    (fixed, [(CONTENT_DISPOSITION, disposition)], [(CONTENT_TYPE, kind)], bytes).into_response()
}

fn busy() -> Response {
    let text = "As many files as there is room for are under way. Try again in a moment.";
    let busy = refused(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::PoolFull, text);
    ([(RETRY_AFTER, "1")], busy).into_response()
}

/// A quota is used up, for a while or by this file alone.
fn beyond(failure: &Failure) -> Response {
    let mut answer = refused(StatusCode::TOO_MANY_REQUESTS, failure.code, &failure.message);
    if let Some(wait) = failure.retry_after {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs()));
    }
    answer
}

fn unknown() -> Response {
    let text = "This session is unknown or has expired. Call browser_open to get a new one.";
    refused(StatusCode::NOT_FOUND, ErrorCode::HandleUnknownOrExpired, text)
}

fn not_read(error: &BodyError) -> Response {
    let (status, code, text) = match error {
        BodyError::TooLarge { limit } => (
            StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::QuotaExceeded,
            format!("The file is too large: {limit} bytes are allowed."),
        ),
        BodyError::TooSlow => {
            (StatusCode::REQUEST_TIMEOUT, ErrorCode::InvalidArgument, "The file came too slowly.".to_owned())
        }
        BodyError::Broken => (StatusCode::BAD_REQUEST, ErrorCode::InvalidArgument, "The file broke off.".to_owned()),
    };
    refused(status, code, &text)
}

fn refused(status: StatusCode, code: ErrorCode, message: &str) -> Response {
    (status, Json(json!({ "error": code.name(), "message": message }))).into_response()
}
