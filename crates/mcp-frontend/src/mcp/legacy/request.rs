//! One request of the legacy era, from the connection's record to the answer.

use std::sync::Arc;

use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use http::StatusCode;
use rmcp::{
    RoleServer, ServerHandler,
    model::{ClientJsonRpcMessage, GetExtensions as _, InitializeRequestParams, ServerJsonRpcMessage},
    service::{RunningService, serve_directly_with_ct},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::transport::{RequestTransport, is_answer, untag};
use crate::{
    Unavailable,
    bus::{Listener, Message},
    caller::Caller,
    core::Core,
    mcp::answer,
};

/// Messages waiting for a client that reads slowly, and for rmcp.
const BACKLOG: usize = 16;

/// Runs a request. A client that goes away does not cancel it: the era says so. The call's own deadline holds.
pub(super) async fn run<H: ServerHandler>(
    core: &Arc<Core>,
    handler: H,
    caller: Caller,
    id: Value,
    method: &str,
    message: Value,
) -> Result<Response, Unavailable> {
    let connection = caller.connection.clone().expect("the legacy layer looked the connection up");
    let Ok(mut message) = serde_json::from_value::<ClientJsonRpcMessage>(message) else {
        return Ok(answer::error(StatusCode::BAD_REQUEST, &id, -32602, "Invalid params"));
    };
    if let ClientJsonRpcMessage::Request(request) = &mut message {
        request.request.extensions_mut().insert(caller);
    }
    let peer: Option<InitializeRequestParams> = serde_json::from_value(connection.initialize.clone()).ok();
    // Before the request starts, or a quick cancellation would be missed.
    let listener = if takes_part(method) { Some(core.bus.listen(&connection.key).await?) } else { None };
    let tag = Uuid::new_v4().simple().to_string();
    let (outbound, answers) = mpsc::channel(BACKLOG);
    let (later, inbound) = mpsc::channel(BACKLOG);
    let answered = CancellationToken::new();
    let transport = RequestTransport { first: Some(message), inbound, outbound, tag: tag.clone(), answered };
    let service = serve_directly_with_ct(handler, transport, peer, CancellationToken::new());
    core.tasks.spawn("legacy request", attend(service, listener, Inbound { later: Some(later), id, tag }));
    Ok(reply(core, answers).await)
}

/// Whether a request may ask its client for something, or take long enough to be cancelled. All others end at once.
fn takes_part(method: &str) -> bool {
    matches!(method, "tools/call" | "prompts/get" | "resources/read")
}

/// The way into a running request.
struct Inbound {
    /// Gone once the request is cancelled: rmcp then winds it up.
    later: Option<mpsc::Sender<ClientJsonRpcMessage>>,
    id: Value,
    tag: String,
}

/// Brings a request what concerns it, until it ends.
async fn attend<H: ServerHandler>(
    service: RunningService<RoleServer, H>,
    mut listener: Option<Listener>,
    mut inbound: Inbound,
) {
    let mut served = std::pin::pin!(service.waiting());
    loop {
        let message = tokio::select! {
            ended = &mut served => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a request's service ended badly");
                }
                return;
            }
            // Without a bus the request runs on undisturbed.
            Some(message) = next(&mut listener) => message,
        };
        match message {
            Message::Cancel { request } if request == inbound.id => inbound.cancel().await,
            Message::Closed => inbound.cancel().await,
            Message::Response { response } => inbound.answer(response).await,
            Message::Cancel { .. }
            | Message::Notify { .. }
            | Message::StreamTaken { .. }
            | Message::Stop { .. }
            | Message::Changed { .. } => {}
        }
    }
}

async fn next(listener: &mut Option<Listener>) -> Option<Message> {
    match listener {
        Some(listener) => listener.next().await,
        None => std::future::pending().await,
    }
}

impl Inbound {
    async fn cancel(&mut self) {
        let Some(later) = self.later.take() else { return };
        let cancelled = json!({
            "jsonrpc": "2.0",
            "method": "notifications/cancelled",
            "params": { "requestId": self.id },
        });
        if let Ok(message) = serde_json::from_value(cancelled) {
            // A request that has ended needs no cancelling.
            let _ended = later.send(message).await;
        }
    }

    async fn answer(&mut self, response: Value) {
        let message = serde_json::from_value(response).ok().and_then(|message| untag(message, &self.tag));
        if let (Some(message), Some(later)) = (message, &self.later) {
            // A request that has ended needs no answer.
            let _ended = later.send(message).await;
        }
    }
}

/// JSON if the answer comes first, else an event stream of everything up to it. A cancelled request is answered with
/// nothing.
async fn reply(core: &Arc<Core>, mut answers: mpsc::Receiver<ServerJsonRpcMessage>) -> Response {
    match answers.recv().await {
        None => StatusCode::ACCEPTED.into_response(),
        Some(message) if is_answer(&message) => answer::json_body(StatusCode::OK, &message),
        Some(first) => {
            let messages = stream::unfold((Some(first), answers, false), |(first, mut answers, over)| async move {
                if over {
                    return None;
                }
                let message = match first {
                    Some(message) => message,
                    None => answers.recv().await?,
                };
                let over = is_answer(&message);
                let value = serde_json::to_value(&message).unwrap_or_default();
                Some((value, (None, answers, over)))
            });
            answer::events(messages, core.config.http.keep_alive)
        }
    }
}
