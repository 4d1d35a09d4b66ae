//! Pages for what one browser might learn of another: each leaves or finds traces of whoever came before.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::{ConnectInfo, Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use tokio::sync::Barrier;

/// As many connections as Chromium has to one server.
const CONNECTIONS: usize = 6;

pub(crate) fn router() -> Router {
    Router::new()
        .route("/connection/{what}", get(connection))
        .with_state(Arc::new(Connections { together: Barrier::new(CONNECTIONS), marked: Mutex::default() }))
        .route("/isolation", get(|| async { Html(ISOLATION) }))
        .route("/to-visit", get(|| async { Html(TO_VISIT) }))
        .route("/visited", get(|| async { Html("<!doctype html><title>Visited</title>") }))
        .route("/cookie-sent", get(cookie_sent))
        .route("/cookie-hidden", get(|| async { ([(header::SET_COOKIE, "hidden=planted; Path=/; HttpOnly")], "set") }))
        .route("/echo", get(echo))
        .route("/private", get(private))
        .route("/served", get(|| async { Html("server") }))
        .route("/service.js", get(|| async { script(SERVICE_WORKER) }))
        .route("/shared.js", get(|| async { script(SHARED_WORKER) }))
}

fn script(text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript")], text)
}

/// What cookies the request brings, those that no script can read included.
async fn cookie_sent(headers: HeaderMap) -> String {
    headers.get(header::COOKIE).and_then(|cookies| cookies.to_str().ok()).unwrap_or_default().to_owned()
}

/// Says what the request says, and may be kept: who hears something else got what was kept.
async fn echo(headers: HeaderMap) -> Response {
    let said = headers.get("x-say").cloned().unwrap_or(header::HeaderValue::from_static(""));
    ([(header::CACHE_CONTROL, header::HeaderValue::from_static("max-age=3600"))], said.as_bytes().to_vec())
        .into_response()
}

/// For user `a` with the password `planted`.
async fn private(headers: HeaderMap) -> Response {
    if headers.get(header::AUTHORIZATION).is_some_and(|sent| sent == "Basic YTpwbGFudGVk") {
        return "let in".into_response();
    }
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"isolation\"")], "kept out").into_response()
}

struct Connections {
    /// So many requests are answered together: each has come over a connection of its own, and no idle one is left.
    together: Barrier,
    marked: Mutex<HashSet<SocketAddr>>,
}

/// Marks the connection, or tells whether it is marked.
async fn connection(
    State(connections): State<Arc<Connections>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Path(what): Path<String>,
) -> &'static str {
    connections.together.wait().await;
    let mut marked = connections.marked.lock().unwrap_or_else(PoisonError::into_inner);
    if what == "mark" {
        marked.insert(from);
    }
    if marked.contains(&from) { "marked" } else { "new" }
}

const ISOLATION: &str = "<!doctype html><title>Isolation</title><input id=field>";

const TO_VISIT: &str = "<!doctype html><title>To visit</title>
<style>a { display: block; height: 200px; background: rgb(0, 0, 255) } a:visited { background: rgb(255, 0, 0) }</style>
<a id=link href='/visited'></a>";

const SERVICE_WORKER: &str = "oninstall = () => skipWaiting();
onfetch = event => event.respondWith(new Response('worker', { headers: { 'content-type': 'text/html' } }));";

const SHARED_WORKER: &str = "let said = 'nothing';
onconnect = ({ ports: [port] }) => port.onmessage = ({ data }) => { said = data || said; port.postMessage(said) };";
