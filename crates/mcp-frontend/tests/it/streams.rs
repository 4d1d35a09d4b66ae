//! The client's event stream of the legacy era.

use std::time::Duration;

use browserfleet_common::ids::Principal;
use browserfleet_mcp_frontend::{bus, connection};
use http::Method;
use serde_json::{Value, json};

use crate::world::{Client, Open, World};

async fn open(client: &Client) -> Open {
    let mut stream = client.open(Method::GET, "/mcp", "").await;
    assert_eq!((stream.status.as_u16(), stream.headers["content-type"].as_bytes()), (200, &b"text/event-stream"[..]));
    assert_eq!(stream.event().await.as_deref(), Some(": open"), "a comment at once");
    stream
}

async fn notify(world: &World, client: &Client, text: &str) -> Value {
    let key = connection::Key { principal: Principal::anonymous(), id: client.connection() };
    let notification = json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": { "data": text } });
    world.stores.bus.publish(&key, bus::Message::Notify { notification: notification.clone() }).await.unwrap();
    notification
}

#[tokio::test]
async fn notifications_arrive_whichever_front_end_holds_the_stream() {
    let world = World::replicas(2).await;
    let (client, other) = (world.legacy().await, world.legacy().await);
    let (mut stream, mut others) = (open(&client).await, open(&other).await);
    let sent = notify(&world, &client, "line\nbreak").await;
    assert_eq!(stream.message().await, Some(sent));
    let sent = notify(&world, &other, "theirs").await;
    assert_eq!(others.message().await, Some(sent), "and nothing of the other connection before");
}

#[tokio::test]
async fn the_newest_stream_is_the_only_one() {
    let world = World::replicas(2).await;
    let client = world.legacy().await;
    let mut first = open(&client).await;
    let mut second = open(&client).await;
    assert_eq!(first.message().await, None, "the second replaced it, on another front end");
    let sent = notify(&world, &client, "to the second").await;
    assert_eq!(second.message().await, Some(sent));
    let mut third = open(&client).await;
    assert_eq!(second.message().await, None);
    let sent = notify(&world, &client, "to the third").await;
    assert_eq!(third.message().await, Some(sent));
}

#[tokio::test]
async fn a_stream_ends_with_its_connection() {
    let world = World::replicas(2).await;
    let client = world.legacy().await;
    let mut stream = open(&client).await;
    assert_eq!(client.delete().await.status, 204);
    assert_eq!(stream.message().await, None);
    assert_eq!(client.get("/mcp").await.status, 404);
}

#[tokio::test]
async fn a_silent_stream_is_kept_open_with_comments() {
    let world = World::with(|config| {
        config.http.keep_alive = Duration::from_millis(50);
        config.http.idle_timeout = Duration::from_millis(200);
    })
    .await;
    let client = world.legacy().await;
    let mut stream = open(&client).await;
    for _ in 0..10 {
        assert_eq!(stream.event().await.as_deref(), Some(": keep-alive"));
    }
    let sent = notify(&world, &client, "still here").await;
    assert_eq!(stream.message().await, Some(sent));
}

#[tokio::test]
async fn only_event_streams_can_be_got() {
    let world = World::start().await;
    let client = world.legacy().await;
    assert_eq!(client.again().header("accept", "application/json").get("/mcp").await.status, 406);
    let mut stream = open(&client.again().header("last-event-id", "0/0")).await;
    let sent = notify(&world, &client, "new").await;
    assert_eq!(stream.message().await, Some(sent), "nothing is replayed");
}
