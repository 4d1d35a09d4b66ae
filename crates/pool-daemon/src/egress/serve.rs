//! What a gate does with a connection of its browser: plain requests are forwarded, tunnels are opened, both after the
//! same checks. What is refused ends without a document: whatever a proxy wrote, a page could read.

use std::{io, sync::Arc};

use browserfleet_common::metrics::metrics;
use bytes::Bytes;
use http::{
    HeaderMap, Method, Request, Response, StatusCode, Uri,
    header::{self, HeaderName},
};
use http_body_util::{Either, Empty};
use hyper::{
    body::Incoming,
    client::conn::http1 as client,
    server::conn::http1 as server,
    service::service_fn,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes},
    net::TcpStream,
    sync::{Mutex, OwnedSemaphorePermit},
    time::{Duration, timeout},
};

use super::{Refusal, gate::Open, target::Target, upstream, watched::Watched};

/// From one request's end to the next one's headers.
const NEXT_REQUEST: Duration = Duration::from_mins(1);
/// Most bytes of the headers of a message: Chromium's own limit for answers is 256 KiB.
const MAX_HEADERS: usize = 256 << 10;
/// Most headers of a message.
const MAX_FIELDS: usize = 512;
/// Most time for a server's answer to begin.
const ANSWER: Duration = Duration::from_mins(5);
/// Most time for Chromium to start using a tunnel that it was given.
const UPGRADE: Duration = Duration::from_secs(10);
/// Of each direction of a tunnel.
const BUFFER: usize = 32 << 10;

/// A connection's place among those of its browser; freed with the last part of it.
pub(super) type Place = Arc<OwnedSemaphorePermit>;

type Body = Either<Incoming, Empty<Bytes>>;

/// A connection of the browser.
struct Connection {
    gate: Arc<Open>,
    place: Place,
    /// The connection to the server that the last request went to. Requests of a connection come one after the other.
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    target: Target,
    sender: client::SendRequest<Incoming>,
}

/// Why a request got no answer, as hyper wants it: it closes the connection.
#[derive(Debug, thiserror::Error)]
#[error("refused")]
struct NoAnswer;

/// Serves a connection until either end closes it.
pub(super) async fn connection(gate: Arc<Open>, stream: TcpStream, place: Place) {
    let connection = Arc::new(Connection { gate, place, kept: Mutex::default() });
    let service = service_fn(move |request| {
        let connection = Arc::clone(&connection);
        async move { connection.request(request).await }
    });
    let served = server::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(NEXT_REQUEST)
        .max_buf_size(MAX_HEADERS)
        .max_headers(MAX_FIELDS)
        .preserve_header_case(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::trace!(%error, "a browser's connection ended");
    }
}

impl Connection {
    async fn request(&self, request: Request<Incoming>) -> Result<Response<Body>, NoAnswer> {
        let tunnel = request.method() == Method::CONNECT;
        let target = asked_for(request.method(), request.uri()).ok_or(NoAnswer)?;
        let answer = if tunnel {
            Box::pin(self.open(request, &target)).await
        } else {
            Box::pin(self.forward(request, &target)).await
        };
        let refusal = match answer {
            Ok(answer) => {
                metrics().egress_requests.add("ok");
                self.gate.verdicts.forget(&target);
                return Ok(answer);
            }
            Err(refusal) => refusal,
        };
        metrics().egress_requests.add(if matches!(refusal, Refusal::Blocked(_)) { "blocked" } else { "failed" });
        tracing::debug!(%refusal, "a request was refused");
        self.gate.verdicts.add(target, refusal);
        if !tunnel {
            return Err(NoAnswer);
        }
        // Of a refused tunnel Chromium shows nothing to anybody.
        let mut answer = Response::new(Either::Right(Empty::new()));
        *answer.status_mut() = StatusCode::FORBIDDEN;
        Ok(answer)
    }

    /// Opens a tunnel.
    async fn open(&self, mut request: Request<Incoming>, target: &Target) -> Result<Response<Body>, Refusal> {
        let (gate, policy) = (&self.gate, self.gate.policy());
        let upgrade = hyper::upgrade::on(&mut request);
        if let Some(proxy) = policy.upstream() {
            self.join(upgrade, gate.exits.tunnel(&policy, proxy, target).await?);
        } else {
            self.join(upgrade, gate.exits.reach(&policy, target).await?);
        }
        Ok(Response::new(Either::Right(Empty::new())))
    }

    /// Joins both halves of a tunnel.
    fn join(&self, upgrade: OnUpgrade, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let (mut io, pulse) = Watched::new(io, &self.gate.traffic);
        let (ended, place) = (self.gate.ended.clone(), Arc::clone(&self.place));
        self.gate.exits.inner.tasks.spawn("egress.tunnel", async move {
            let _place = place;
            let copied = async {
                let upgraded: Upgraded =
                    timeout(UPGRADE, upgrade).await.map_err(io::Error::other)?.map_err(io::Error::other)?;
                copy_bidirectional_with_sizes(&mut TokioIo::new(upgraded), &mut io, BUFFER, BUFFER).await
            };
            tokio::select! {
                biased;
                () = ended.cancelled() => {}
                () = pulse.stopped() => {}
                copied = copied => if let Err(error) = copied {
                    tracing::trace!(%error, "a tunnel broke");
                },
            }
        });
    }

    /// Forwards a request that is not secret.
    async fn forward(&self, mut request: Request<Incoming>, target: &Target) -> Result<Response<Body>, Refusal> {
        let policy = self.gate.policy();
        policy.admit(target)?;
        let mut kept = self.kept.lock().await;
        if kept.as_ref().is_none_or(|kept| kept.target != *target || kept.sender.is_closed()) {
            // The old one is closed first: this connection has one place.
            *kept = None;
            let io = match policy.upstream() {
                Some(proxy) => self.gate.exits.reach_upstream(&policy, &upstream::place(proxy)).await?,
                None => self.gate.exits.reach(&policy, target).await?,
            };
            *kept = Some(Kept { target: target.clone(), sender: self.converse(io).await? });
        }
        let Some(Kept { sender, .. }) = kept.as_mut() else { return Err(Refusal::Empty) };
        strip(request.headers_mut());
        match policy.upstream() {
            Some(proxy) => {
                if let Some(credentials) = upstream::authorization(proxy) {
                    request.headers_mut().insert(header::PROXY_AUTHORIZATION, credentials);
                }
            }
            None => to_origin(&mut request)?,
        }
        let through_proxy = policy.upstream().is_some();
        let answer = timeout(ANSWER, sender.send_request(request)).await.map_err(|_elapsed| Refusal::Unanswered)?;
        let mut answer = answer.map_err(|error| {
            let malformed = error.is_parse() || error.is_parse_too_large();
            if malformed { Refusal::Malformed } else { Refusal::Empty }
        })?;
        if answer.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            // Of a server itself it means nothing; Chromium would take it for ours.
            let refusal = upstream::judge(answer.status()).filter(|_| through_proxy);
            return Err(refusal.unwrap_or(Refusal::AsksForCredentials));
        }
        strip(answer.headers_mut());
        Ok(answer.map(Either::Left))
    }

    /// Starts speaking HTTP over a connection to a server, or to the session's proxy.
    async fn converse(&self, io: TcpStream) -> Result<client::SendRequest<Incoming>, Refusal> {
        let (io, pulse) = Watched::new(io, &self.gate.traffic);
        let (sender, connection) = client::Builder::new()
            .max_buf_size(MAX_HEADERS)
            .max_headers(MAX_FIELDS)
            .preserve_header_case(true)
            // Chromium is as lenient, and it is Chromium that reads them.
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            .ignore_invalid_headers_in_responses(true)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|_error| Refusal::Empty)?;
        let ended = self.gate.ended.clone();
        self.gate.exits.inner.tasks.spawn("egress.origin", async move {
            tokio::select! {
                biased;
                () = ended.cancelled() => {}
                () = pulse.stopped() => {}
                spoken = connection => if let Err(error) = spoken {
                    tracing::trace!(%error, "a server's connection broke");
                },
            }
        });
        Ok(sender)
    }
}

/// Where a request to a proxy leads: a tunnel to a host and a port, or a whole URL of HTTP.
pub(super) fn asked_for(method: &Method, uri: &Uri) -> Option<Target> {
    let asked = method == Method::CONNECT || uri.scheme_str() == Some("http");
    uri.authority().filter(|_| asked).and_then(|authority| Target::of_authority(authority.as_str()))
}

/// Makes a request to a proxy one to the server itself.
pub(super) fn to_origin<B>(request: &mut Request<B>) -> Result<(), Refusal> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    *request.uri_mut() = path.parse::<Uri>().map_err(|_unheard_of| Refusal::Malformed)?;
    Ok(())
}

/// Takes out what is between a message's sender and the next hop only.
pub(super) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let always = [
        header::CONNECTION,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRAILER,
        header::UPGRADE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ];
    // How long a body is must stay known, whatever a server says.
    for name in named.into_iter().chain(always).filter(|name| *name != header::TRANSFER_ENCODING) {
        headers.remove(name);
    }
}
