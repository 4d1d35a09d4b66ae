//! Pages to visit, served from loopback on a free port.

use std::{
    collections::HashSet, convert::Infallible, future::IntoFuture as _, net::SocketAddr, sync::Arc, time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use futures_util::{StreamExt as _, stream};
use tokio::{net::TcpListener, sync::watch, task::AbortHandle};

/// A page server; it stops when dropped.
#[derive(Debug)]
pub struct Pages {
    pub url: String,
    seen: Seen,
    server: AbortHandle,
}

/// What has been asked for below `/seen/`, and the downloads that somebody broke off.
type Seen = Arc<watch::Sender<HashSet<String>>>;

impl Drop for Pages {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Pages {
    /// Starts serving the pages below, and the corpus under `/corpus/`.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let seen = Seen::default();
        let router = Router::new()
            .route("/seen/{name}", get(see))
            .route("/download", get(download))
            .with_state(Arc::clone(&seen))
            .route("/", get(|| async { Html(FORM) }))
            .route("/done", get(|| async { Html("<title>Done</title><p>thank you") }))
            .route("/frame", get(|| async { Html(FRAME) }))
            .route("/inner", get(|| async { Html(INNER) }))
            .route("/fetching", get(|| async { Html(FETCHING) }))
            .route("/slow-data", get(slow_data))
            .route("/cookie/{value}", get(cookie))
            .route("/never", get(never))
            .route("/loop", get(|| async { Html("<title>Loop</title><button onclick='for(;;);'>Hang</button>") }))
            .route("/dialogs", get(|| async { Html(DIALOGS) }))
            .route("/links", get(|| async { Html(LINKS) }))
            .route("/scrolled", get(|| async { Html(SCROLLED) }))
            .route("/red", get(|| async { Html(RED) }))
            .route("/awkward", get(|| async { Html(AWKWARD) }))
            .route("/corpus/{*name}", get(corpus))
            .merge(crate::acting::router())
            .merge(crate::talking::router())
            .merge(crate::hostile::router())
            .merge(crate::isolation::router())
            .merge(crate::keeping::router())
            .merge(crate::reading::router())
            .into_make_service_with_connect_info::<SocketAddr>();
        let server = tokio::task::JoinHandle::abort_handle(&crate::spawn(axum::serve(listener, router).into_future()));
        Ok(Self { url, seen, server })
    }

    /// Whether `/seen/{name}` has been asked for by now.
    pub fn was_seen(&self, name: &str) -> bool {
        self.seen.borrow().contains(name)
    }

    /// Waits until `/seen/{name}` has been asked for: how a script says that it runs. The nth download that was broken off
    /// is `download-n`.
    pub async fn seen(&self, name: &str) {
        let mut seen = self.seen.subscribe();
        // The sending end is ours: it is there as long as we are.
        let _never_closed = seen.wait_for(|seen| seen.contains(name)).await;
    }

    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }
}

const FORM: &str = "<!doctype html><title>Form</title><h1>Hello</h1>
<form action='/done'><label>Name <input name=name placeholder='Your name'></label>
<label><input type=checkbox name=agree> Agree</label><button>Go</button></form>
<a href='/done'>a link</a>
<button id=press onclick=\"document.getElementById('out').textContent='pressed '+event.button+event.shiftKey\">Press</button>
<p id=out>idle</p>
<button onclick=\"console.error('on purpose')\">Complain</button>";

const FRAME: &str = "<!doctype html><title>Outer</title><h1>Outer</h1><div style='height:40px'></div>
<iframe src='/inner' width=300 height=200></iframe><p id=after>after</p>";

const INNER: &str =
    "<!doctype html><title>Inner</title><button onclick=\"this.textContent='was clicked'\">In the frame</button>
<input aria-label='Framed field'>";

const FETCHING: &str = "<!doctype html><title>Fetching</title><button onclick=\"
fetch('/slow-data').then(r => r.text()).then(t => { document.getElementById('out').textContent = t })\">Load</button>
<p id=out>nothing</p>";

const DIALOGS: &str = "<!doctype html><title>Dialogs</title><button onclick=\"
document.getElementById('out').textContent = String(prompt('your name?'))\">Ask</button><p id=out>nothing</p>";

const LINKS: &str = "<!doctype html><title>Links</title><h1>Links</h1><a href='mailto:a@b'>Mail</a>
<a href='/never'>Slow</a><a href='http://127.0.0.1:9/'>Dead</a>";

const SCROLLED: &str = "<!doctype html><title>Scrolled</title><div style='height:1200px;background:lime'></div>
<iframe src='/red' width=400 height=300></iframe><div style='height:3000px;background:blue'></div>";

const RED: &str = "<!doctype html><div style='height:1500px'></div>
<button style='width:100px;height:50px;background:rgb(255,0,0);border:0;color:rgb(255,0,0)'>Red</button>
<div style='height:1500px'></div>";

const AWKWARD: &str = "<!doctype html><title>Awkward</title>
<div style='position:relative;width:120px;height:30px'><button style='position:absolute;left:0;top:0'>Under</button>
<div class=overlay style='position:absolute;inset:0;background:#ddd'>over</div></div>
<button disabled>Disabled</button><button style='display:none'>Hidden</button>
<div style='height:3000px'></div><button onclick=\"this.textContent='reached'\">Far away</button>";

async fn see(State(seen): State<Seen>, Path(name): Path<String>) {
    seen.send_modify(|seen| {
        seen.insert(name);
    });
}

async fn slow_data() -> &'static str {
    // Long enough that a reply that did not wait would miss it.
    tokio::time::sleep(Duration::from_millis(300)).await;
    "loaded"
}

async fn never() -> Html<&'static str> {
    std::future::pending().await
}

async fn cookie(Path(value): Path<String>) -> Response {
    ([(header::SET_COOKIE, format!("who={value}; Path=/"))], Html("<title>Cookie</title><p>set")).into_response()
}

/// Begins, and never ends by itself.
async fn download(State(seen): State<Seen>) -> Response {
    let broken_off = BrokenOff(seen);
    let begin = stream::iter([Ok::<_, Infallible>(vec![0; 1000])]);
    let body = begin.chain(stream::pending()).inspect(move |_| _ = &broken_off);
    ([(header::CONTENT_DISPOSITION, "attachment; filename=a.bin")], Body::from_stream(body)).into_response()
}

/// Says so when nobody wants a download any more.
struct BrokenOff(Seen);

impl Drop for BrokenOff {
    fn drop(&mut self) {
        self.0.send_modify(|seen| {
            let before = seen.iter().filter(|name| name.starts_with("download-")).count();
            seen.insert(format!("download-{}", before + 1));
        });
    }
}

async fn corpus(Path(name): Path<String>) -> Response {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(&name);
    match std::fs::read_to_string(path) {
        Ok(text) => Html(text).into_response(),
        Err(_missing) => StatusCode::NOT_FOUND.into_response(),
    }
}
