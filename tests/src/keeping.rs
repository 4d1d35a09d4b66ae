//! A site whose visitors are known again: by cookies, by what their browser and their tab keep.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};

pub(crate) fn router() -> Router {
    Router::new()
        .route("/kept", get(login))
        .route("/kept/second", get(|| async { Html(KEPT) }))
        .route("/kept/liar", get(|| async { Html(LIAR) }))
        .route("/kept/cookies", get(cookies))
        .route("/kept/once/{name}", get(once))
        .with_state(Arc::default())
}

/// Names that have been asked for.
type Asked = Arc<Mutex<HashSet<String>>>;

/// Sets a cookie that no script can read, unless there is one, and says whose it is.
async fn login(headers: HeaderMap) -> Response {
    let known = headers.get(header::COOKIE).and_then(|cookies| cookies.to_str().ok()).unwrap_or_default();
    let page = Html(format!("{KEPT}<p>known by {known:?}</p>"));
    if known.contains("login=") {
        return page.into_response();
    }
    let cookie = HeaderValue::from_static("login=ann; Path=/; HttpOnly; SameSite=Strict");
    ([(header::SET_COOKIE, cookie)], page).into_response()
}

/// Cookies of every kind.
async fn cookies() -> Response {
    let mut headers = HeaderMap::new();
    for cookie in [
        "plain=1",
        "hidden=1; HttpOnly; Path=/kept",
        "strict=1; SameSite=Strict; Max-Age=3600; Path=/",
        "lax=1; SameSite=Lax; Path=/",
        "none=1; SameSite=None; Secure; Path=/",
        "parted=1; SameSite=None; Secure; Partitioned; Path=/",
        "brief=1; Max-Age=3; Path=/",
        "__Host-own=1; Secure; Path=/",
    ] {
        headers.append(header::SET_COOKIE, HeaderValue::from_static(cookie));
    }
    (headers, Html("<title>Cookies</title><p>set")).into_response()
}

/// Loads the first time, and never again.
async fn once(State(asked): State<Asked>, Path(name): Path<String>) -> Html<&'static str> {
    let first = asked.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
    if !first {
        std::future::pending::<()>().await;
    }
    Html("<!doctype html><title>Once</title><button>Only once</button>")
}

/// Tells what its first line saw, and keeps something wherever a page can.
const KEPT: &str = "<!doctype html><title>Kept</title><script>
const first = JSON.stringify({ local: { ...localStorage }, session: { ...sessionStorage }, history: history.length });
localStorage.name ??= 'Ann'; sessionStorage.step ??= location.pathname;
</script><h1>Kept</h1><button>Go on</button><p id=first></p><div style='height:5000px'></div>
<script>document.getElementById('first').textContent = 'first saw ' + first</script>";

/// Says of its storage what is not so, and would like to know what else is stored.
const LIAR: &str = "<!doctype html><title>Liar</title><script>
const real = { local: { ...localStorage }, session: { ...sessionStorage } };
let heard = [];
const set = Storage.prototype.setItem, entries = Object.entries;
Storage.prototype.setItem = function (key, value) { heard.push([key, value]); set.call(this, key, 'stolen') };
Object.entries = of => { heard.push(of); return entries(of) };
set.call(localStorage, 'mine', 'true');
Object.defineProperty(window, 'localStorage', { get: () => ({ length: 1, key: () => 'lie', getItem: () => 'told' }) });
Object.defineProperty(window, 'origin', { value: 'http://bank.test' });
</script><p id=out></p><script>document.getElementById('out').textContent = JSON.stringify({ real, heard })</script>";
