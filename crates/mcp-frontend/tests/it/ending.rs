//! How a front end stops, and how sessions end by themselves.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream as Blocking},
    thread,
    time::Duration,
};

use browserfleet_mcp_frontend::testing::Event;
use futures_util::future::join_all;
use http::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::world::{LIMIT, World, call, failure, text, until};

#[tokio::test]
async fn running_calls_finish_then_streams_end_and_every_session_is_returned() {
    let mut world = World::start().await;
    world.daemon.answer(|call| match call.tool.as_str() {
        "browser_click" => vec![
            Event::started(),
            Event::Wait(Duration::from_millis(500)),
            Event::text("Result", "finished"),
            Event::end(),
        ],
        _ => vec![Event::started(), Event::end()],
    });
    let client = world.legacy().await;
    client.call("browser_navigate", json!({ "url": "x", "session_id": "left-open" })).await;
    let mut stream = client.open(Method::GET, "/mcp", "").await;
    let (shutdown, daemon) = (world.shutdown[0].clone(), world.daemon.clone());
    let stop = async {
        until("the call runs", || daemon.seen().called.contains(&"browser_click".to_owned())).await;
        shutdown.begin();
    };
    let (result, ()) = tokio::join!(client.call("browser_click", json!({ "target": "e1" })), stop);
    assert_eq!(text(&result), "### Result\nfinished");
    assert_eq!(stream.message().await, None);
    timeout(LIMIT, world.served.remove(0)).await.unwrap().unwrap();
    assert_eq!((world.daemon.leases(), world.daemon.seen().released.len()), (Vec::new(), 2));
    assert!(TcpStream::connect(world.addresses[0]).await.is_err());
}

#[tokio::test]
async fn a_client_that_connected_just_before_the_end_is_heard() {
    let mut world = World::start().await;
    let address = world.addresses[0];
    let mut connected = TcpStream::connect(address).await.unwrap();
    world.shutdown[0].begin();
    let refused = async { while TcpStream::connect(address).await.is_ok() {} };
    timeout(LIMIT, refused).await.expect("nobody else is let in");
    // A busy proxy takes its time.
    sleep(Duration::from_secs(2)).await;
    connected.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(LIMIT, connected.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
    timeout(LIMIT, world.served.remove(0)).await.unwrap().unwrap();
}

/// Whoever connects has an answer coming: what was sent and then reset may have run or not, and nobody could send it again.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_while_it_stops_is_refused_or_answered() {
    let answered: usize = join_all((0..20).map(|_| answered_until_the_end())).await.into_iter().sum();
    assert!(answered > 0);
}

/// A front end of its own stops under the load of clients. Answers how often they were answered.
async fn answered_until_the_end() -> usize {
    let mut world = World::start().await;
    let address = world.addresses[0];
    let clients: Vec<_> = (0..2).map(|_| thread::spawn(move || ask_until_refused(address))).collect();
    sleep(Duration::from_millis(50)).await;
    world.shutdown[0].begin();
    timeout(LIMIT, world.served.remove(0)).await.unwrap().unwrap();
    clients.into_iter().map(|client| client.join().unwrap()).sum()
}

/// Asks over one new connection after the other until connecting fails. Answers how often there was an answer.
fn ask_until_refused(address: SocketAddr) -> usize {
    let mut answered = 0;
    while let Ok(mut stream) = Blocking::connect_timeout(&address, LIMIT) {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let asked = stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let mut answer = String::new();
        asked.and_then(|()| stream.read_to_string(&mut answer)).expect("who was let in is not reset");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
        answered += 1;
    }
    answered
}

#[tokio::test]
async fn a_call_that_does_not_finish_is_stopped_and_answered() {
    let mut world = World::with(|config| config.http.drain_timeout = Duration::from_millis(200)).await;
    world.daemon.answer(|_| vec![Event::started(), Event::WaitForever]);
    let client = world.legacy().await;
    let (shutdown, daemon) = (world.shutdown[0].clone(), world.daemon.clone());
    let stop = async {
        until("the call runs", || !daemon.seen().called.is_empty()).await;
        shutdown.begin();
    };
    let (result, ()) = tokio::join!(client.call("browser_navigate", json!({ "url": "x" })), stop);
    assert_eq!(failure(&result), "draining", "{result}");
    timeout(LIMIT, world.served.remove(0)).await.unwrap().unwrap();
    assert_eq!(world.daemon.leases(), Vec::<String>::new());
}

#[tokio::test]
async fn a_client_that_reads_nothing_does_not_hold_up_the_end() {
    let mut world = World::with(|config| config.http.drain_timeout = Duration::from_millis(200)).await;
    world.daemon.answer(|_| vec![Event::started(), Event::text("Result", &"x".repeat(1 << 20)), Event::end()]);
    let client = world.legacy().await;
    let _unread = client.open(Method::POST, "/mcp", call(1, "browser_snapshot", json!({})).to_string()).await;
    world.shutdown[0].begin();
    let started = Instant::now();
    timeout(LIMIT, world.served.remove(0)).await.unwrap().unwrap();
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn sessions_outlive_a_front_end_when_their_store_does() {
    let mut world = World::replicas(2).await;
    let mut client = world.legacy().await;
    client.call("browser_snapshot", json!({})).await;
    let modern = world.client().modern_call("browser_open", json!({})).await;
    let handle = modern["structuredContent"]["session_id"].clone();
    world.shutdown[0].begin();
    timeout(LIMIT, world.served.remove(0)).await.unwrap().unwrap();
    assert_eq!(world.daemon.seen().released, Vec::<String>::new());
    client.addresses.remove(0);
    assert!(text(&client.call("browser_snapshot", json!({})).await).contains("lease-1"));
    assert!(text(&client.modern_call("browser_snapshot", json!({ "session_id": handle })).await).contains("lease-2"));
    assert_eq!(client.delete().await.status, 204);
    assert_eq!(world.daemon.seen().released, ["lease-1"]);
}

#[tokio::test]
async fn stores_that_end_with_their_process_return_every_lease_once() {
    let mut world = World::start().await;
    world.legacy().await.call("browser_snapshot", json!({})).await;
    for shutdown in &world.shutdown {
        shutdown.begin();
    }
    for served in world.served.drain(..) {
        timeout(LIMIT, served).await.unwrap().unwrap();
    }
    assert_eq!(world.daemon.seen().released, ["lease-1"]);
}

#[tokio::test]
async fn an_expired_session_returns_its_lease() {
    let world = World::with(|config| config.session.idle_ttl = Duration::from_millis(400)).await;
    let client = world.legacy().await;
    client.call("browser_snapshot", json!({})).await;
    assert_eq!(world.daemon.leases().len(), 1);
    until("the lease is returned", || world.daemon.leases().is_empty()).await;
    // The connection outlives its session, and gets a new one.
    let after = client.call("browser_snapshot", json!({})).await;
    assert!(text(&after).contains("lease-2"), "{after}");
}

#[tokio::test]
async fn a_session_does_not_expire_under_a_running_call() {
    let world = World::with(|config| config.session.idle_ttl = Duration::from_millis(300)).await;
    world.daemon.answer(|_| vec![Event::started(), Event::Wait(Duration::from_millis(1200)), Event::end()]);
    let client = world.legacy().await;
    let result = client.call("browser_navigate", json!({ "url": "x", "session_id": "busy" })).await;
    assert_eq!(result["isError"], false);
    sleep(Duration::from_millis(100)).await;
    assert_eq!(world.daemon.leases(), ["lease-1"]);
}
