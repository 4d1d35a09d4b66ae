//! Messages over Redis, between all front ends of a deployment.
//!
//! One connection listens for everybody here. A channel stays subscribed for a while after its last listener has gone, because
//! the calls of a client come one after another. Messages that are published while the connection is down are lost: whoever
//! depends on one asks the store now and then.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    time::Duration,
};

use async_trait::async_trait;
use browserfleet_common::{
    lifecycle::Tasks,
    metrics::metrics,
    redis::{Error, Keys, Redis},
};
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream, stream::FuturesUnordered};
use redis::{
    Msg,
    aio::{PubSubSink, PubSubStream},
    cmd,
};
use tokio::{
    sync::{
        broadcast::{self, error::RecvError},
        mpsc, oneshot,
    },
    time::{interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Audience, Bus, Listener, Message};
use crate::{Unavailable, connection::Key};

const WHAT: &str = "the message bus";
/// How far a listener may fall behind before it misses messages.
const BACKLOG: usize = 64;
/// Listeners that wait for their channel.
const WISHES: usize = 1024;
/// How often channels without listeners are given up (at the second look), and the connection is asked whether it lives.
const CARE: Duration = Duration::from_secs(5);
/// Between two tries to connect.
const PAUSE: Duration = Duration::from_millis(200);
/// Channels that are subscribed to in one command.
const SUBSCRIBED_AT_ONCE: usize = 500;

/// Publishes and listens through Redis. Cheap to clone.
#[derive(Clone)]
pub struct RedisBus {
    redis: Redis,
    keys: Keys,
    wishes: mpsc::Sender<Wish>,
}

/// Somebody wants to listen.
struct Wish {
    channel: String,
    subscribed: Answer,
}

type Answer = oneshot::Sender<broadcast::Receiver<Message>>;

impl RedisBus {
    /// A bus whose connection is kept by a task, until `stop`.
    pub fn start(redis: Redis, tasks: &Tasks, stop: CancellationToken) -> Self {
        let (wishes, received) = mpsc::channel(WISHES);
        let keys = Keys::new(&redis.settings().prefix);
        let hub = Hub { redis: redis.clone(), wishes: received, channels: HashMap::new() };
        tasks.spawn("bus", async move {
            tokio::select! {
                () = hub.run() => {}
                () = stop.cancelled() => {}
            }
        });
        Self { redis, keys, wishes }
    }

    fn channel(&self, key: &Key) -> String {
        self.keys.channel(&Keys::connection_member(&key.principal, &key.id))
    }

    async fn subscribed(&self, channel: String) -> Option<broadcast::Receiver<Message>> {
        let (subscribed, answer) = oneshot::channel();
        self.wishes.send(Wish { channel, subscribed }).await.ok()?;
        answer.await.ok()
    }
}

impl fmt::Debug for RedisBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBus").field("redis", &self.redis).finish_non_exhaustive()
    }
}

#[async_trait]
impl Bus for RedisBus {
    async fn publish(&self, channel: &Key, message: Message) -> Result<Audience, Unavailable> {
        let text = serde_json::to_string(&message).expect("messages are plain data with text keys");
        // Once: a message must not arrive twice.
        let published = self.redis.query_once(cmd("PUBLISH").arg(self.channel(channel)).arg(text)).await;
        let listeners: u64 = published.map_err(Unavailable::redis(WHAT))?;
        let of_a_cluster = self.redis.settings().address.is_cluster();
        Ok(match listeners {
            0 if of_a_cluster => Audience::Unknown,
            0 => Audience::Nobody,
            _ => Audience::Somebody,
        })
    }

    async fn listen(&self, channel: &Key) -> Result<Listener, Unavailable> {
        let limit = self.redis.settings().command_timeout;
        let subscribed = timeout(limit, self.subscribed(self.channel(channel))).await;
        let receiver = subscribed.ok().flatten().ok_or(Error::Late(limit)).map_err(Unavailable::redis(WHAT))?;
        let messages = stream::unfold(receiver, |mut receiver| async move {
            loop {
                match receiver.recv().await {
                    Ok(message) => return Some((message, receiver)),
                    Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "a listener fell behind"),
                    Err(RecvError::Closed) => return None,
                }
            }
        });
        Ok(Listener::new(messages.boxed()))
    }
}

/// Owns the connection and everything that listens.
struct Hub {
    redis: Redis,
    wishes: mpsc::Receiver<Wish>,
    channels: HashMap<String, Channel>,
}

struct Channel {
    messages: broadcast::Sender<Message>,
    /// Who wants to hear, until the server has said that we do.
    waiting: Vec<Answer>,
    subscribed: bool,
    /// Nobody listened when it was last looked at.
    idle: bool,
}

/// Channels that the server was asked for, and whether it agreed.
type Subscribing = FuturesUnordered<BoxFuture<'static, (Vec<String>, bool)>>;

impl Hub {
    async fn run(mut self) {
        loop {
            let (sink, messages) = self.connected().await;
            self.serve(sink, messages).await;
            tracing::warn!("the bus has lost its connection; messages of the next moments are lost");
            for channel in self.channels.values_mut() {
                channel.subscribed = false;
            }
            // A server that lets us in and then refuses us must not be asked without a pause.
            sleep(PAUSE).await;
        }
    }

    /// Connects, however long it takes. Who wants to listen meanwhile waits, in bounds of its own.
    async fn connected(&mut self) -> (PubSubSink, PubSubStream) {
        loop {
            let redis = self.redis.clone();
            let mut connecting = std::pin::pin!(redis.subscriber());
            let connected = loop {
                tokio::select! {
                    connected = &mut connecting => break connected,
                    Some(wish) = self.wishes.recv() => self.wish(wish),
                }
            };
            match connected {
                Ok(connection) => {
                    metrics().store_connections.add("bus");
                    return connection.split();
                }
                Err(error) => tracing::debug!(%error, "the bus cannot connect"),
            }
            sleep(PAUSE).await;
        }
    }

    /// Until the connection is lost.
    async fn serve(&mut self, sink: PubSubSink, mut messages: PubSubStream) {
        let mut subscribing = Subscribing::new();
        let known: Vec<String> = self.channels.keys().cloned().collect();
        for channels in known.chunks(SUBSCRIBED_AT_ONCE) {
            subscribing.push(subscribe(&sink, channels.to_vec()));
        }
        let mut care = interval(CARE);
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => self.hand_on(&message),
                    None => return,
                },
                Some(wish) = self.wishes.recv() => {
                    let channel = wish.channel.clone();
                    self.wish(wish);
                    if self.is_new(&channel) {
                        subscribing.push(subscribe(&sink, vec![channel]));
                    }
                }
                Some((channels, agreed)) = subscribing.next() => {
                    if !agreed {
                        return;
                    }
                    self.subscribed(&channels);
                }
                _ = care.tick() => if !self.care(&sink).await {
                    return;
                },
            }
        }
    }

    /// Answers at once if the channel is subscribed to, else when it is.
    fn wish(&mut self, Wish { channel, subscribed }: Wish) {
        let channel = match self.channels.entry(channel) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let messages = broadcast::channel(BACKLOG).0;
                place.insert(Channel { messages, waiting: Vec::new(), subscribed: false, idle: false })
            }
        };
        channel.idle = false;
        channel.waiting.retain(|waiting| !waiting.is_closed());
        if channel.subscribed {
            // Who has given up does not listen.
            let _gone = subscribed.send(channel.messages.subscribe());
        } else {
            channel.waiting.push(subscribed);
        }
    }

    /// Whether nobody else has wished for it before: then it has to be subscribed to.
    fn is_new(&self, channel: &str) -> bool {
        self.channels.get(channel).is_some_and(|channel| !channel.subscribed && channel.waiting.len() == 1)
    }

    fn subscribed(&mut self, channels: &[String]) {
        for name in channels {
            let Some(channel) = self.channels.get_mut(name) else { continue };
            channel.subscribed = true;
            for waiting in channel.waiting.drain(..) {
                // Who has given up does not listen.
                let _gone = waiting.send(channel.messages.subscribe());
            }
        }
    }

    fn hand_on(&self, message: &Msg) {
        let Some(channel) = self.channels.get(message.get_channel_name()) else { return };
        match serde_json::from_slice(message.get_payload_bytes()) {
            // Nobody listening is no error.
            Ok(message) => drop(channel.messages.send(message)),
            Err(error) => tracing::warn!(%error, "a message of another version cannot be read"),
        }
    }

    /// Gives up channels nobody listens to, and asks whether the connection lives.
    async fn care(&mut self, sink: &PubSubSink) -> bool {
        let mut unused = Vec::new();
        for (name, channel) in &mut self.channels {
            channel.waiting.retain(|waiting| !waiting.is_closed());
            let used = channel.messages.receiver_count() > 0 || !channel.waiting.is_empty();
            if channel.idle && !used {
                unused.push(name.clone());
            }
            channel.idle = !used;
        }
        for name in &unused {
            self.channels.remove(name);
        }
        let (mut sink, limit) = (sink.clone(), self.redis.settings().command_timeout);
        let work = async {
            if !unused.is_empty() {
                sink.unsubscribe(&unused).await?;
            }
            sink.ping::<()>().await
        };
        matches!(timeout(limit, work).await, Ok(Ok(())))
    }
}

fn subscribe(sink: &PubSubSink, channels: Vec<String>) -> BoxFuture<'static, (Vec<String>, bool)> {
    let mut sink = sink.clone();
    async move {
        let agreed = sink.subscribe(&channels).await.is_ok();
        (channels, agreed)
    }
    .boxed()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use browserfleet_common::{ids::Principal, redis::testing::Server};

    use super::*;
    use crate::bus::suite;

    fn bus(server: &Server, tasks: &Tasks) -> RedisBus {
        RedisBus::start(server.client(), tasks, CancellationToken::new())
    }

    fn key(id: &str) -> Key {
        Key { principal: Principal::anonymous(), id: id.to_owned() }
    }

    /// The next message within a time that a busy machine keeps.
    async fn heard(listener: &mut Listener) -> Option<Message> {
        timeout(Duration::from_secs(10), listener.next()).await.ok().flatten()
    }

    #[tokio::test]
    async fn keeps_the_contract() {
        for server in [Server::start().await, Server::cluster().await] {
            suite::run(Arc::new(bus(&server, &Tasks::new()))).await;
        }
    }

    #[tokio::test]
    async fn a_message_reaches_other_front_ends() {
        let (server, tasks) = (Server::start().await, Tasks::new());
        let (here, there) = (bus(&server, &tasks), bus(&server, &tasks));
        let mut listeners = [here.listen(&key("c")).await.unwrap(), there.listen(&key("c")).await.unwrap()];
        there.publish(&key("c"), Message::Closed).await.unwrap();
        for listener in &mut listeners {
            assert_eq!(heard(listener).await, Some(Message::Closed));
        }
    }

    #[tokio::test]
    async fn listeners_go_on_after_the_connection_was_lost() {
        let (mut server, tasks) = (Server::start().await, Tasks::new());
        let bus = bus(&server, &tasks);
        let mut before = bus.listen(&key("c")).await.unwrap();
        server.kill();
        assert!(bus.publish(&key("c"), Message::Closed).await.is_err());
        server.restart().await;
        // Answered once everything that was listened to is subscribed to again.
        let mut after = bus.listen(&key("c")).await.unwrap();
        while bus.publish(&key("c"), Message::StreamTaken { number: 7 }).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
        for listener in [&mut before, &mut after] {
            assert_eq!(heard(listener).await, Some(Message::StreamTaken { number: 7 }));
        }
    }

    #[tokio::test]
    async fn without_redis_nobody_listens_and_nobody_waits_for_ever() {
        let (mut server, tasks) = (Server::start().await, Tasks::new());
        server.kill();
        let settings = browserfleet_common::redis::Settings {
            command_timeout: Duration::from_millis(300),
            connect_timeout: Duration::from_millis(300),
            ..server.settings()
        };
        let bus = RedisBus::start(Redis::new(settings), &tasks, CancellationToken::new());
        let listened = timeout(Duration::from_secs(5), bus.listen(&key("c"))).await.expect("an answer in time");
        assert!(listened.is_err());
    }

    #[tokio::test]
    async fn channels_nobody_listens_to_are_given_up() {
        let (server, tasks) = (Server::start().await, Tasks::new());
        let bus = bus(&server, &tasks);
        drop(bus.listen(&key("c")).await.unwrap());
        let channels = async || {
            let channels = server.client().query::<Vec<String>>(cmd("PUBSUB").arg("CHANNELS")).await;
            channels.unwrap().len()
        };
        assert_eq!(channels().await, 1);
        let given_up = async {
            while channels().await > 0 {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(CARE * 4, given_up).await.expect("its channel is given up");
    }
}
