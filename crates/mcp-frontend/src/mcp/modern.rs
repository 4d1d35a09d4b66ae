//! The modern era: every request says who asks and what it can do. rmcp's service is stateless already.

use std::sync::Arc;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderValue, Request, header::ACCEPT, request::Parts};
use http_body_util::Full;
use rmcp::{
    ServerHandler,
    transport::{
        StreamableHttpServerConfig, StreamableHttpService, streamable_http_server::session::never::NeverSessionManager,
    },
};

use crate::{caller::Caller, config::Http};

/// rmcp's service in its stateless mode, with JSON answers and without an event store: with one, a client that goes away
/// would not cancel its request.
pub(super) struct Modern<H>(StreamableHttpService<H, NeverSessionManager>);

impl<H: ServerHandler + Clone> Modern<H> {
    pub(super) fn new(settings: &Http, handler: H) -> Self {
        let config = StreamableHttpServerConfig::default()
            .with_legacy_session_mode(false)
            .with_json_response(true)
            .with_sse_keep_alive(Some(settings.keep_alive))
            .with_max_request_body_bytes(settings.max_body)
            // No cancellation token: a call ends by itself and has to be answered, which rmcp would cut off. The end of
            // the connection ends the rest.
            // Checked for every path before routing.
            .disable_allowed_hosts()
            .disable_allowed_origins();
        Self(StreamableHttpService::new(move || Ok(handler.clone()), Arc::default(), config))
    }

    pub(super) async fn serve(&self, mut parts: Parts, body: Bytes) -> Response {
        // What was tolerated is made what rmcp insists on.
        parts.headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        let caller = Caller::of(&parts);
        parts.extensions.insert(caller);
        let request = Request::from_parts(parts, Full::new(body));
        self.0.handle(request).await.map(Body::new)
    }
}
