//! Pages that misbehave.

use axum::{
    Router,
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};

pub(crate) fn router() -> Router {
    Router::new()
        .route("/sandboxed", get(sandboxed))
        .route("/locked", get(locked))
        .route("/reloading", get(|| async { Html(RELOADING) }))
        .route(
            "/restless",
            get(|| async { Html("<title>Restless</title><h1>Restless</h1><iframe src='/reloads'></iframe>") }),
        )
        .route("/reloads", get(|| async { Html("<p>inside<script>setTimeout(() => location.reload(), 5)</script>") }))
        .route("/awkward-form", get(|| async { Html(AWKWARD_FORM) }))
        .route(
            "/files",
            get(|| async {
                Html("<title>Files</title><button onclick='f.click()'>Choose</button><input id=f type=file>")
            }),
        )
        .route(
            "/downloads",
            get(|| async {
                Html("<title>D</title><a href='/download'>First</a> <a target=_blank href='/download'>Second</a>")
            }),
        )
        .route("/staying", get(|| async { Html(STAYING) }))
}

/// Its scripts are off, and with them timers and frames.
async fn sandboxed() -> Response {
    let page = "<title>Sandboxed</title><button>Go</button><button style='display:none'>Hidden</button>";
    ([(header::CONTENT_SECURITY_POLICY, "sandbox")], Html(page)).into_response()
}

async fn locked() -> Response {
    let asks = [(header::WWW_AUTHENTICATE, "Basic realm=\"r\"")];
    (StatusCode::UNAUTHORIZED, asks, Html("<title>Locked</title><p>no entry")).into_response()
}

/// Its button can be pressed only in the last of many documents.
const RELOADING: &str = "<title>Reloading</title><button disabled>Press</button><script>
const count = Number(sessionStorage.count || 0);
sessionStorage.count = count + 1;
if (count < 50) setTimeout(() => location.reload(), 20);
else document.querySelector('button').disabled = false</script>";

const AWKWARD_FORM: &str =
    "<title>Form</title><form id=form style='width:100px;height:30px'><input name=isContentEditable></form>";

const STAYING: &str = "<title>Staying</title><button onclick='1'>Stay</button>
<script>addEventListener('beforeunload', e => { e.preventDefault(); e.returnValue = 'stay' })</script>";
