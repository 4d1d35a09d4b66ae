//! What rmcp talks to while it serves one request: channels instead of a connection.

use std::{convert::Infallible, future};

use rmcp::{
    RoleServer,
    model::{ClientJsonRpcMessage, NumberOrString, RequestId, ServerJsonRpcMessage},
    transport::Transport,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// One request and what belongs to it.
pub(super) struct RequestTransport {
    /// The request itself.
    pub(super) first: Option<ClientJsonRpcMessage>,
    /// What comes for it later, from wherever. When its sender is gone, rmcp winds the request up.
    pub(super) inbound: mpsc::Receiver<ClientJsonRpcMessage>,
    /// What goes to the client. Bounded: a client that does not read slows only itself.
    pub(super) outbound: mpsc::Sender<ServerJsonRpcMessage>,
    /// Makes ids of our requests to the client unique among all front ends: rmcp counts from 0 each time.
    pub(super) tag: String,
    /// Cancelled when the answer has been handed over.
    pub(super) answered: CancellationToken,
}

impl Transport<RoleServer> for RequestTransport {
    type Error = Infallible;

    fn send(
        &mut self,
        mut message: ServerJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        if let ServerJsonRpcMessage::Request(request) = &mut message {
            request.id = RequestId::String(format!("{}:{}", self.tag, request.id).into());
        }
        let is_answer = is_answer(&message);
        let (outbound, answered) = (self.outbound.clone(), self.answered.clone());
        async move {
            // A client that has gone does not hear it. That is no reason to stop: legacy clients may disconnect.
            let _gone = outbound.send(message).await;
            if is_answer {
                answered.cancel();
            }
            Ok(())
        }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        tokio::select! {
            () = self.answered.cancelled() => None,
            message = self.inbound.recv() => message,
        }
    }

    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        future::ready(Ok(()))
    }
}

/// Whether a message ends its request.
pub(super) fn is_answer(message: &ServerJsonRpcMessage) -> bool {
    matches!(message, ServerJsonRpcMessage::Response(_) | ServerJsonRpcMessage::Error(_))
}

/// The client's answer to a request of ours, with rmcp's own id again; `None` if it answers another one.
pub(super) fn untag(mut message: ClientJsonRpcMessage, tag: &str) -> Option<ClientJsonRpcMessage> {
    let id = match &mut message {
        ClientJsonRpcMessage::Response(response) => &mut response.id,
        ClientJsonRpcMessage::Error(error) => error.id.as_mut()?,
        _ => return None,
    };
    let NumberOrString::String(tagged) = &*id else { return None };
    let number = tagged.strip_prefix(tag)?.strip_prefix(':')?.parse().ok()?;
    *id = NumberOrString::Number(number);
    Some(message)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn transport(tag: &str) -> (RequestTransport, mpsc::Receiver<ServerJsonRpcMessage>) {
        let (outbound, sent) = mpsc::channel(4);
        let (_, inbound) = mpsc::channel(1);
        let (tag, answered) = (tag.to_owned(), CancellationToken::new());
        (RequestTransport { first: None, inbound, outbound, tag, answered }, sent)
    }

    fn server(message: Value) -> ServerJsonRpcMessage {
        serde_json::from_value(message).unwrap()
    }

    #[tokio::test]
    async fn our_requests_are_told_apart_and_their_answers_find_them() {
        let (mut transport, mut sent) = transport("abc");
        transport.send(server(json!({ "jsonrpc": "2.0", "id": 0, "method": "ping" }))).await.unwrap();
        let request = serde_json::to_value(sent.recv().await.unwrap()).unwrap();
        assert_eq!(request["id"], "abc:0");
        let answer = |id: Value| serde_json::from_value(json!({ "jsonrpc": "2.0", "id": id, "result": {} })).unwrap();
        let found = serde_json::to_value(untag(answer(json!("abc:0")), "abc").unwrap()).unwrap();
        assert_eq!(found["id"], 0);
        for foreign in [json!("abd:0"), json!("abc:x"), json!("ab:0"), json!(0)] {
            assert!(untag(answer(foreign), "abc").is_none());
        }
    }

    #[tokio::test]
    async fn the_answer_ends_the_transport_even_when_nobody_listens() {
        let (mut transport, sent) = transport("abc");
        drop(sent);
        transport.send(server(json!({ "jsonrpc": "2.0", "id": 1, "result": {} }))).await.unwrap();
        assert!(transport.receive().await.is_none());
    }
}
