//! The client's event stream: notifications that belong to no request.

use std::{sync::Arc, time::Duration};

use axum::response::Response;
use futures_util::stream;
use rmcp::model::ServerJsonRpcMessage;
use serde_json::Value;
use tokio::time::{Instant, Interval, interval_at};

use crate::{
    Unavailable,
    access::Access,
    bus::{Listener, Message},
    changes::Watch,
    connection::Key,
    core::Core,
    mcp::answer,
};

/// How often an open stream says that its connection is in use, and looks whether it still exists.
const CHECK: Duration = Duration::from_mins(1);

/// Opens the stream. A message must not go out on two streams, so the newest one is the only one, whichever front end the
/// others are on.
pub(super) async fn open(core: &Arc<Core>, key: &Key, access: Arc<Access>) -> Result<Response, Unavailable> {
    let (listener, changes) = (core.bus.listen(key).await?, core.changes.watch(access).await?);
    let Some(number) = core.connections.take_stream(key).await? else { return Ok(answer::unknown_connection()) };
    core.bus.publish(key, Message::StreamTaken { number }).await?;
    let checks = interval_at(Instant::now() + CHECK, CHECK);
    let open = Open { core: Arc::clone(core), key: key.clone(), number, listener, changes, checks };
    let messages = stream::unfold(open, |mut open| async move {
        let message = open.next().await?;
        Some((message, open))
    });
    Ok(answer::events(messages, core.config.http.keep_alive))
}

struct Open {
    core: Arc<Core>,
    key: Key,
    number: u64,
    listener: Listener,
    /// Ends when the key is no longer good, or the front end stops.
    changes: Watch,
    checks: Interval,
}

impl Open {
    /// The next notification; `None` when the stream is over.
    async fn next(&mut self) -> Option<Value> {
        loop {
            let message = tokio::select! {
                // Whether this stream is still the one that counts comes before what it would say.
                biased;
                message = self.listener.next() => message?,
                change = self.changes.next() => {
                    let message = ServerJsonRpcMessage::notification(change?.notification());
                    return serde_json::to_value(message).ok();
                }
                _ = self.checks.tick() => {
                    if self.has_ended().await {
                        return None;
                    }
                    continue;
                }
            };
            match message {
                Message::Notify { notification } => return Some(notification),
                Message::StreamTaken { number } if number > self.number => return None,
                Message::Closed => return None,
                Message::StreamTaken { .. }
                | Message::Cancel { .. }
                | Message::Response { .. }
                | Message::Stop { .. }
                | Message::Changed { .. } => {}
            }
        }
    }

    /// The bus may lose a message; the store does not.
    async fn has_ended(&mut self) -> bool {
        match self.core.connections.touch(&self.key).await {
            Ok(record) => record.is_none(),
            // No answer is no reason to end.
            Err(_unavailable) => false,
        }
    }
}
