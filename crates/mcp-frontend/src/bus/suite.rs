//! What every [`Bus`] must pass.

use std::{sync::Arc, time::Duration};

use browserfleet_common::ids::{Principal, random_hex};
use serde_json::json;
use tokio::time::timeout;
use uuid::Uuid;

use super::{Audience, Bus, Listener, Message};
use crate::{changes::Change, connection::Key};

/// How long a message may take, or is waited for in vain.
const SOON: Duration = Duration::from_millis(500);

/// Runs everything.
///
/// # Panics
/// When the bus breaks its contract.
pub async fn run(bus: Arc<dyn Bus>) {
    every_listener_hears_everything_in_order(&*bus).await;
    nobody_hears_what_is_not_for_him(&*bus).await;
    a_silent_listener_holds_nobody_up(&*bus).await;
    every_message_survives(&*bus).await;
}

fn key() -> Key {
    Key { principal: Principal::named(random_hex()), id: random_hex() }
}

async fn listen(bus: &dyn Bus, key: &Key) -> Listener {
    bus.listen(key).await.expect("the bus works")
}

async fn publish(bus: &dyn Bus, key: &Key, message: Message) -> Audience {
    bus.publish(key, message).await.expect("the bus works")
}

async fn heard(listener: &mut Listener) -> Option<Message> {
    timeout(SOON, listener.next()).await.ok().flatten()
}

async fn every_listener_hears_everything_in_order(bus: &dyn Bus) {
    let key = key();
    assert_ne!(publish(bus, &key, Message::Closed).await, Audience::Somebody);
    let mut listeners = [listen(bus, &key).await, listen(bus, &key).await];
    for number in 0..50 {
        assert_ne!(publish(bus, &key, Message::StreamTaken { number }).await, Audience::Nobody);
    }
    for listener in &mut listeners {
        for number in 0..50 {
            assert_eq!(heard(listener).await, Some(Message::StreamTaken { number }), "nothing from before, all after");
        }
        assert_eq!(heard(listener).await, None, "each once");
    }
}

async fn nobody_hears_what_is_not_for_him(bus: &dyn Bus) {
    let mine = key();
    let other_connection = Key { id: random_hex(), ..mine.clone() };
    let other_principal = Key { principal: Principal::named(random_hex()), ..mine.clone() };
    let mut listener = listen(bus, &mine).await;
    for key in [&other_connection, &other_principal] {
        publish(bus, key, Message::Closed).await;
    }
    assert_eq!(heard(&mut listener).await, None);
}

async fn a_silent_listener_holds_nobody_up(bus: &dyn Bus) {
    let key = key();
    let mut silent = listen(bus, &key).await;
    let mut awake = listen(bus, &key).await;
    for number in 0..2000 {
        publish(bus, &key, Message::StreamTaken { number }).await;
        assert_eq!(heard(&mut awake).await, Some(Message::StreamTaken { number }));
    }
    drop(awake);
    publish(bus, &key, Message::Closed).await;
    let mut last = None;
    while let Some(message) = heard(&mut silent).await {
        last = Some(message);
    }
    assert_eq!(last, Some(Message::Closed), "it may miss some, and goes on");
}

async fn every_message_survives(bus: &dyn Bus) {
    let key = key();
    let mut listener = listen(bus, &key).await;
    let messages = [
        Message::Cancel { request: json!("a") },
        Message::Cancel { request: json!(1) },
        Message::Response { response: json!({ "id": "x", "result": { "text": "é\n" } }) },
        Message::Notify { notification: json!({ "method": "notifications/message" }) },
        Message::StreamTaken { number: u64::MAX },
        Message::Stop { call: Uuid::new_v4() },
        Message::Changed { change: Change::Tools },
        Message::Changed { change: Change::Resources },
        Message::Closed,
    ];
    for message in &messages {
        publish(bus, &key, message.clone()).await;
        assert_eq!(heard(&mut listener).await.as_ref(), Some(message));
    }
}
