//! Sending commands and hearing events of one target.

use std::{fmt, sync::Arc};

use browserfleet_common::step;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument as _;

use crate::{
    CloseReason, Closed, Command, Connection, Error, Events, SessionState,
    connection::{Outgoing, Shared},
    frame::FRAME_LIMIT,
    registry::Registered,
    wire,
};

/// A handle to one flat session, or to the browser's own level. Cheap to clone; it keeps the connection open.
#[derive(Clone)]
pub struct Session {
    connection: Connection,
    id: Option<Arc<str>>,
}

impl Session {
    pub(crate) fn new(connection: Connection, id: Option<Arc<str>>) -> Self {
        Self { connection, id }
    }

    /// Nothing on the browser's own level.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Sends a command and waits for its result. Dropping the future gives up: a command that was not written yet never is.
    ///
    /// # Errors
    /// Each way to fail is a variant of its own. A page that is known to be crashed, a gone target and an ended connection
    /// fail without waiting.
    pub async fn call<C: Command>(&self, command: C, deadline: Instant) -> Result<C::Response, Error> {
        let method = command.identifier();
        let result = self.exchange(&method, &command, deadline).await?;
        wire::decode(&result).map_err(|source| Error::Decode { method: method.into_owned(), source })
    }

    /// As [`Self::call`], for what the generated types lack or have wrong. `params` must serialize to an object.
    ///
    /// # Errors
    /// As [`Self::call`], but the result is not decoded; [`crate::decode`] does that.
    pub async fn call_raw(
        &self,
        method: &str,
        params: &impl Serialize,
        deadline: Instant,
    ) -> Result<Box<RawValue>, Error> {
        self.exchange(method, params, deadline).await
    }

    /// Receives these events from now on, at most `capacity` of them waiting. The domain must be enabled by a command.
    pub fn subscribe(&self, methods: &[&'static str], capacity: usize) -> Events {
        self.subscribe_with(methods, &[], capacity)
    }

    /// As [`Self::subscribe`]; the `expendable` methods come too, in their order, as long as they take no more than half of
    /// the room. A flood of them is dropped without a word and costs none of the others.
    pub fn subscribe_with(&self, methods: &[&'static str], expendable: &[&'static str], capacity: usize) -> Events {
        self.connection.shared.registry().subscribe(self.id(), methods, expendable, capacity)
    }

    pub fn state(&self) -> SessionState {
        self.connection.shared.registry().state(self.id())
    }

    /// How often the target has crashed so far. Rises before any event of the crash is delivered or any call fails by it.
    pub fn crashes(&self) -> u64 {
        self.connection.shared.registry().crashes(self.id())
    }

    async fn exchange<P: Serialize>(
        &self,
        method: &str,
        params: &P,
        deadline: Instant,
    ) -> Result<Box<RawValue>, Error> {
        let step = step!(method, otel.kind = "client");
        self.sent_and_answered(method, params, deadline).instrument(step).await
    }

    async fn sent_and_answered<P: Serialize>(
        &self,
        method: &str,
        params: &P,
        deadline: Instant,
    ) -> Result<Box<RawValue>, Error> {
        let shared = &*self.connection.shared;
        let Registered { id, mut reply } = shared.registry().register(self.id.as_ref(), method)?;
        let _forgotten_on_drop = Waiting { shared, id };
        let frame = wire::encode(id, self.id(), method, params)
            .map_err(|source| Error::Encode { method: method.to_owned(), source })?;
        if frame.len() > FRAME_LIMIT {
            return Err(Error::TooLarge { method: method.to_owned(), bytes: frame.len() });
        }
        let exchange = async {
            tokio::select! {
                // A crash or the end answers even while the queue is full.
                biased;
                outcome = &mut reply => return outcome,
                permit = self.connection.queue.reserve() => {
                    if let Ok(permit) = permit {
                        permit.send(Outgoing { id, frame });
                    }
                    // Otherwise the writer has ended, and the registry answers why.
                }
            }
            reply.await
        };
        match timeout_at(deadline, exchange).await {
            Ok(Ok(outcome)) => outcome,
            // Only a reader that panicked drops an entry without answering it.
            Ok(Err(_dropped)) => Err(Error::Closed(Closed { reason: CloseReason::Local })),
            Err(_elapsed) => Err(Error::Timeout { method: method.to_owned() }),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("id", &self.id).field("state", &self.state()).finish_non_exhaustive()
    }
}

/// A caller that waits. When it goes away, for whatever reason, its entry goes with it.
struct Waiting<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.registry().forget(self.id);
    }
}
