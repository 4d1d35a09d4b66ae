//! Telling clients that what they have listed has changed, whichever front end they are connected to.
//!
//! Who changes something raises it, for one principal, and it is published to every front end. What an operator changes in the
//! file of keys nobody raises: each front end sees that by itself. Tokens do not change, they expire.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use browserfleet_common::{clock::Clock, ids::Principal};
use http::request::Parts;
use rmcp::{
    RoleServer,
    model::{
        PromptListChangedNotification, ResourceListChangedNotification, ServerNotification, ToolListChangedNotification,
    },
    service::{Peer, SubscriptionContext, SubscriptionSendError},
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    time::{Instant, Interval, interval_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Unavailable,
    access::Access,
    bus::{self, Bus, Listener, Message},
    keys::ApiKeys,
};

/// How often somebody who waits for changes is asked whether his key or his token has expired.
const CHECK: Duration = Duration::from_mins(1);

/// A list that has changed for a principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    Tools,
    Prompts,
    Resources,
}

impl Change {
    /// What clients are told.
    pub(crate) fn notification(self) -> ServerNotification {
        match self {
            Self::Tools => ServerNotification::ToolListChangedNotification(ToolListChangedNotification::default()),
            Self::Prompts => {
                ServerNotification::PromptListChangedNotification(PromptListChangedNotification::default())
            }
            Self::Resources => {
                ServerNotification::ResourceListChangedNotification(ResourceListChangedNotification::default())
            }
        }
    }
}

/// Raises changes, and hears of them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Changes {
    bus: Arc<dyn Bus>,
    keys: Option<ApiKeys>,
    clock: Arc<dyn Clock>,
    /// Cancelled when nobody is told anything any more, because the front end stops.
    over: CancellationToken,
}

impl Changes {
    pub(crate) fn new(
        bus: Arc<dyn Bus>,
        keys: Option<ApiKeys>,
        clock: Arc<dyn Clock>,
        over: CancellationToken,
    ) -> Self {
        Self { bus, keys, clock, over }
    }

    /// Tells every client of a principal that waits for it that a list has changed. A courtesy: if it cannot be published that is
    /// logged, and clients find out when they list again.
    pub async fn raise(&self, principal: &Principal, change: Change) {
        if let Err(error) = self.bus.publish(&bus::all_of(principal), Message::Changed { change }).await {
            tracing::warn!(?change, %error, "other front ends do not know that a list has changed");
        }
    }

    /// Waits for what changes for whoever has this access from now on.
    pub(crate) async fn watch(&self, access: Arc<Access>) -> Result<Watch, Unavailable> {
        let listener = self.bus.listen(&bus::all_of(&access.principal)).await?;
        let read = self.keys.as_ref().map(ApiKeys::read_again);
        let checks = interval_at(Instant::now() + CHECK, CHECK);
        Ok(Watch { changes: self.clone(), access, listener, read, checks })
    }

    /// Serves a subscription of the modern era with what changes for the client, until one of both ends it.
    pub async fn serve(&self, subscription: &SubscriptionContext) {
        tokio::select! {
            () = self.forward(subscription) => {}
            () = subscription.cancelled() => {}
        }
    }

    /// Tells a client of the legacy era on stdio what changes: it need not ask for that. Never ends.
    pub(crate) async fn tell(&self, client: &Peer<RoleServer>) {
        let is_legacy = client.peer_info().is_some_and(|info| info.protocol_version.has_initialize());
        if is_legacy && let Ok(mut watch) = self.watch(Access::open()).await {
            while let Some(change) = watch.next().await {
                if client.send_notification(change.notification()).await.is_err() {
                    break;
                }
            }
        }
        std::future::pending::<()>().await;
    }

    async fn forward(&self, subscription: &SubscriptionContext) {
        let parts = subscription.request_context().extensions.get::<Parts>();
        let mut watch = match parts.and_then(|parts| parts.extensions.get::<Watching>()).and_then(Watching::take) {
            Some(watch) => watch,
            // On stdio nobody is asked for a key. The end of a subscription tells the client to ask again.
            None => match self.watch(Access::open()).await {
                Ok(watch) => watch,
                Err(error) => return tracing::warn!(%error, "a subscription cannot be served"),
            },
        };
        while let Some(change) = watch.next().await {
            match subscription.sink().send(change.notification()).await {
                Ok(()) | Err(SubscriptionSendError::NotificationNotAccepted(_)) => {}
                Err(_gone) => return,
            }
        }
    }

    /// What a key or a token that let somebody in allows now; `None` if it would not let him in any more.
    fn current(&self, access: &Arc<Access>) -> Option<Arc<Access>> {
        let now = self.clock.now();
        match (&self.keys, access.key()) {
            (Some(keys), Some(id)) => {
                keys.access(id, now).map(|allowed| Arc::new(Access::clone(&allowed).coming_as(access)))
            }
            // A token says the same as long as it is good.
            _ if access.is_somebodys() => (!access.has_expired(now)).then(|| Arc::clone(access)),
            (keys, _) => keys.is_none().then(|| Arc::clone(access)),
        }
    }
}

/// Somebody who waits for changes.
#[derive(Debug)]
pub(crate) struct Watch {
    changes: Changes,
    /// What the client has been told last.
    access: Arc<Access>,
    listener: Listener,
    /// Says when the file of keys has been read again.
    read: Option<watch::Receiver<()>>,
    checks: Interval,
}

impl Watch {
    /// The next change; `None` when there will be no more: the key or the token is no longer good, the bus has stopped working, or the
    /// front end stops. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Change> {
        loop {
            tokio::select! {
                message = self.listener.next() => if let Message::Changed { change } = message? {
                    return Some(change);
                },
                () = read_again(&mut self.read) => if self.look()? {
                    return Some(Change::Tools);
                },
                _ = self.checks.tick() => if self.look()? {
                    return Some(Change::Tools);
                },
                () = self.changes.over.cancelled() => return None,
            }
        }
    }

    /// Whether the key allows other tools than before; `None` if it is no longer good.
    fn look(&mut self) -> Option<bool> {
        let now = self.changes.current(&self.access)?;
        let changed = !now.allows_the_same_tools_as(&self.access);
        self.access = now;
        Some(changed)
    }
}

/// A watch on its way to who serves the subscription, as an extension of its request: what changes once the client has been told
/// that it is subscribed must not be missed.
#[derive(Clone, Debug)]
pub(crate) struct Watching(Arc<Mutex<Option<Watch>>>);

impl Watching {
    pub(crate) fn new(watch: Watch) -> Self {
        Self(Arc::new(Mutex::new(Some(watch))))
    }

    fn take(&self) -> Option<Watch> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Without a file of keys it is never read again.
async fn read_again(read: &mut Option<watch::Receiver<()>>) {
    let again = match read {
        Some(read) => read.changed().await.is_ok(),
        None => false,
    };
    if !again {
        std::future::pending::<()>().await;
    }
}
