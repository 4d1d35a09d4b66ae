//! Health of the daemon over HTTP, for orchestrators that do not speak gRPC, and what it has counted.
//!
//! Where operators have a token (`grpc.operator_token_file`), only they see more than that it lives and wants work.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{CONTENT_TYPE, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use browserfleet_common::{
    lifecycle::Tasks,
    metrics::{self, metrics},
    redis::Fitness,
    service::OperatorToken,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{grpc::is_operator, pool::Handle};

/// Most connections at a time: an orchestrator, a collector of metrics, and people.
const CONNECTIONS_MAX: usize = 64;
/// From a connection to the last of its request's headers, and to its end.
const HEADERS: Duration = Duration::from_secs(5);
const CONNECTION: Duration = Duration::from_secs(10);
/// For an answer that is on its way when the program stops.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Most headers of a request, and bytes of them.
const HEADERS_MAX: usize = 64;
const HEADERS_BYTES_MAX: usize = 16 << 10;
/// After a failed accept: out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Whose health it is.
#[derive(Clone, Debug)]
pub struct Daemon {
    pub handle: Handle,
    /// Whether the store will do, if there is one.
    pub store: Option<Fitness>,
    /// Who may look closer. None: everybody.
    pub operators: Option<OperatorToken>,
}

impl Daemon {
    fn lets_look(&self, headers: &HeaderMap) -> bool {
        self.operators.as_ref().is_none_or(|operators| is_operator(operators, headers))
    }
}

/// Serves until `stop`. `axum::serve` would let anybody stay, in any number, who never finishes a request.
pub async fn serve(listener: TcpListener, daemon: Daemon, tasks: Tasks, stop: CancellationToken) {
    let (router, places) = (router(daemon), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                // One too many hears nothing: whoever probes comes again by itself.
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                let (router, stop) = (router.clone(), stop.clone());
                tasks.spawn("admin.connection", async move {
                    let _place = place;
                    let stopped = async {
                        stop.cancelled().await;
                        sleep(LAST_WORDS).await;
                    };
                    tokio::select! {
                        () = stopped => {}
                        _over = timeout(CONNECTION, answer(stream, router)) => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to the admin port could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers one request: whoever looks does so every few seconds at most.
async fn answer(stream: TcpStream, router: Router) {
    let answered = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_headers(HEADERS_MAX)
        .max_header_size(HEADERS_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = answered {
        tracing::debug!(%error, "a connection to the admin port ended");
    }
}

fn router(daemon: Daemon) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(counted))
        .with_state(daemon)
}

/// Alive: the process answers. Counts are for people.
async fn health(State(daemon): State<Daemon>, headers: HeaderMap) -> Json<Value> {
    Json(if daemon.lets_look(&headers) { describe(&daemon.handle) } else { json!({ "status": "ok" }) })
}

/// Ready: leases can be had, and front ends can find the daemon. A store that was there once and is away now makes no
/// difference: it may be away for everybody.
async fn ready(State(daemon): State<Daemon>, headers: HeaderMap) -> (StatusCode, Json<Value>) {
    let has_store = match &daemon.store {
        Some(store) => store.is_known_good().await,
        None => true,
    };
    let ready = daemon.handle.counts().unavailable().is_none() && has_store;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if !daemon.lets_look(&headers) {
        return (status, Json(json!({ "ready": ready })));
    }
    let mut described = describe(&daemon.handle);
    described["store"] = has_store.into();
    (status, Json(described))
}

/// For Prometheus, which shows the token as operators do.
async fn counted(State(daemon): State<Daemon>, headers: HeaderMap) -> Response {
    if daemon.lets_look(&headers) {
        return ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics().render()).into_response();
    }
    let who = [(WWW_AUTHENTICATE, "Bearer realm=\"pool-daemon\"")];
    let why = "send the token of grpc.operator_token_file (Authorization: Bearer …)";
    (StatusCode::UNAUTHORIZED, who, why).into_response()
}

fn describe(handle: &Handle) -> Value {
    let counts = handle.counts();
    let pressure: Vec<_> = [&counts.pressure.memory, &counts.pressure.cpu].into_iter().flatten().collect();
    json!({
        "status": if counts.draining { "draining" } else if counts.unavailable().is_some() { "unavailable" } else { "ok" },
        "unavailable": counts.unavailable(),
        "pressure": pressure,
        "pool_id": handle.identity().pool_id,
        "uptime_seconds": handle.uptime().as_secs(),
        "browsers": {
            "max": handle.limits().max_browsers,
            "starting": counts.starting,
            "idle": counts.idle,
            "leased": counts.leased,
            "retiring": counts.retiring,
            "killing": counts.killing,
            "poisoned": counts.poisoned,
        },
        "leases": counts.leases,
        "queued": counts.queued,
    })
}
