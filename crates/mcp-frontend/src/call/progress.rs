//! Telling a waiting client how far its call is.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rmcp::{
    RoleServer,
    model::{ProgressNotificationParam, ProgressToken},
    service::{Peer, RequestContext},
};
use tokio::time::timeout;

use crate::fleet::QueueWatch;

/// How long a client that does not read may hold up its own call.
const PATIENCE: Duration = Duration::from_millis(500);
/// Most messages of one call.
const MESSAGES_MAX: u32 = 200;

/// Where progress goes: nowhere, unless the client asked for it.
#[derive(Clone, Default)]
pub(crate) struct Progress(Option<Arc<Asked>>);

struct Asked {
    peer: Peer<RoleServer>,
    token: ProgressToken,
    /// Progress must rise: it counts our messages.
    sent: AtomicU32,
}

impl Progress {
    pub(crate) fn of(context: &RequestContext<RoleServer>) -> Self {
        let asked = context.meta.get_progress_token();
        Self(asked.map(|token| Arc::new(Asked { peer: context.peer.clone(), token, sent: AtomicU32::new(0) })))
    }

    pub(crate) async fn say(&self, message: String) {
        let Some(asked) = &self.0 else { return };
        let number = asked.sent.fetch_add(1, Ordering::Relaxed) + 1;
        if number > MESSAGES_MAX {
            return;
        }
        let params = ProgressNotificationParam::new(asked.token.clone(), f64::from(number)).with_message(message);
        // Progress is a courtesy: a client that has gone, or does not read, misses it.
        let _missed = timeout(PATIENCE, asked.peer.notify_progress(params)).await;
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Progress(asked)" } else { "Progress(not asked)" })
    }
}

impl QueueWatch for Progress {
    async fn queued(&mut self, position: u32, depth: u32) {
        self.say(format!("Waiting for a browser: place {position} of {depth}")).await;
    }
}
