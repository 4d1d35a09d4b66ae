//! Messages inside this process.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use tokio::sync::broadcast::{self, error::RecvError};

use super::{Audience, Bus, Listener, Message};
use crate::{Unavailable, connection::Key};

/// How far a listener may fall behind before it misses messages.
const BACKLOG: usize = 64;

/// A broadcast channel per connection that somebody listens to.
#[derive(Clone, Default)]
pub struct MemoryBus {
    channels: Channels,
}

/// A plain mutex: every use is one map operation, none waits.
type Channels = Arc<Mutex<HashMap<Key, broadcast::Sender<Message>>>>;

impl MemoryBus {
    pub fn new() -> Self {
        Self::default()
    }
}

fn lock(channels: &Channels) -> MutexGuard<'_, HashMap<Key, broadcast::Sender<Message>>> {
    channels.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for MemoryBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBus").field("channels", &lock(&self.channels).len()).finish()
    }
}

/// One listener's place. The last one out removes the channel.
struct Place {
    messages: broadcast::Receiver<Message>,
    channels: Channels,
    channel: Key,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut channels = lock(&self.channels);
        // This receiver is still counted.
        if channels.get(&self.channel).is_some_and(|sender| sender.receiver_count() <= 1) {
            channels.remove(&self.channel);
        }
    }
}

#[async_trait]
impl Bus for MemoryBus {
    async fn publish(&self, channel: &Key, message: Message) -> Result<Audience, Unavailable> {
        // Nobody listening is no error.
        let heard = lock(&self.channels).get(channel).is_some_and(|sender| sender.send(message).is_ok());
        Ok(if heard { Audience::Somebody } else { Audience::Nobody })
    }

    async fn listen(&self, channel: &Key) -> Result<Listener, Unavailable> {
        let messages = {
            let mut channels = lock(&self.channels);
            channels.entry(channel.clone()).or_insert_with(|| broadcast::channel(BACKLOG).0).subscribe()
        };
        let place = Place { messages, channels: Arc::clone(&self.channels), channel: channel.clone() };
        let messages = stream::unfold(place, |mut place| async move {
            loop {
                match place.messages.recv().await {
                    Ok(message) => return Some((message, place)),
                    Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "a listener fell behind"),
                    Err(RecvError::Closed) => return None,
                }
            }
        });
        Ok(Listener::new(messages.boxed()))
    }
}

#[cfg(test)]
mod tests {
    use browserfleet_common::ids::Principal;

    use super::*;
    use crate::bus::suite;

    #[tokio::test(start_paused = true)]
    async fn keeps_the_contract() {
        suite::run(Arc::new(MemoryBus::new())).await;
    }

    #[tokio::test]
    async fn channels_without_listeners_are_forgotten() {
        let bus = MemoryBus::new();
        let key = Key { principal: Principal::anonymous(), id: "c".to_owned() };
        let (one, two) = (bus.listen(&key).await.unwrap(), bus.listen(&key).await.unwrap());
        drop(one);
        assert_eq!(lock(&bus.channels).len(), 1);
        drop(two);
        assert_eq!(lock(&bus.channels).len(), 0);
    }
}
