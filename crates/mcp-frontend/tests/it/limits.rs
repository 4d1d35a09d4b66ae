//! Time, size and number: nothing waits for ever, nothing grows without end.

use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::world::{LIMIT, World, initialize, request};

fn times(config: &mut browserfleet_mcp_frontend::Config) {
    config.http.header_timeout = Duration::from_millis(300);
    config.http.body_timeout = Duration::from_millis(300);
    config.http.idle_timeout = Duration::from_millis(900);
}

/// Sends and reads until the server hangs up: what it said, and how long it took.
async fn until_closed(world: &World, pieces: &[(&str, u64)]) -> (String, u64) {
    let mut stream = TcpStream::connect(world.addresses[0]).await.unwrap();
    let started = Instant::now();
    for (piece, wait) in pieces {
        stream.write_all(piece.as_bytes()).await.unwrap();
        sleep(Duration::from_millis(*wait)).await;
    }
    let mut said = Vec::new();
    // A connection that is reset was closed, too.
    let _reset = timeout(LIMIT, stream.read_to_end(&mut said)).await.expect("it hangs up");
    (String::from_utf8_lossy(&said).into_owned(), u64::try_from(started.elapsed().as_millis()).unwrap())
}

#[tokio::test]
async fn slow_clients_are_let_go() {
    let world = World::with(times).await;
    let (said, took) = until_closed(&world, &[]).await;
    assert!(said.is_empty() && (850..1500).contains(&took), "silent: {took} ms {said}");
    let (said, took) = until_closed(&world, &[("GET /health HT", 0)]).await;
    assert!(said.is_empty() && (250..800).contains(&took), "half a header: {took} ms {said}");
    let drip = [("G", 100), ("E", 100), ("T", 100), (" ", 0)];
    let (_, took) = until_closed(&world, &drip).await;
    assert!((250..800).contains(&took), "byte by byte: {took} ms");
    let half =
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    let (said, took) = until_closed(&world, &[(half, 0)]).await;
    assert!(said.starts_with("HTTP/1.1 408 ") && (250..800).contains(&took), "half a body: {took} ms {said}");
    let one = "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let (said, took) = until_closed(&world, &[(one, 0)]).await;
    assert!(said.starts_with("HTTP/1.1 200 ") && (850..1500).contains(&took), "idle after one: {took} ms");
}

#[tokio::test]
async fn a_pause_between_requests_is_not_a_slow_header() {
    let world = World::with(times).await;
    let one = "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let (said, _) = until_closed(&world, &[(one, 500), (one, 500), (one, 0)]).await;
    assert_eq!(said.matches("HTTP/1.1 200 ").count(), 3, "{said}");
}

#[tokio::test]
async fn large_bodies_are_refused_however_they_come() {
    let world = World::with(|config| config.http.max_body = 10_000).await;
    let client = world.legacy().await;
    let fits = request(1, "ping", json!({ "x": "y".repeat(9_000) }));
    assert_eq!(client.post(&fits).await.status, 200);
    let reply = client.send(Method::POST, "/mcp", "x".repeat(10_001)).await;
    assert_eq!((reply.status.as_u16(), &reply.headers["connection"]), (413, &"close".parse().unwrap()));
    let headers = "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let chunked =
        format!("{headers}transfer-encoding: chunked\r\n\r\n{}", "400\r\n".to_owned() + &"x".repeat(1024) + "\r\n");
    let more = "400\r\n".to_owned() + &"x".repeat(1024) + "\r\n";
    let (said, _) = until_closed(&world, &[(&chunked, 0), (&more.repeat(20), 0), ("0\r\n\r\n", 0)]).await;
    assert!(said.starts_with("HTTP/1.1 413 "), "{said}");
    let announced = format!("{headers}content-length: 1000000000\r\n\r\nabc");
    let (said, took) = until_closed(&world, &[(&announced, 0)]).await;
    assert!(said.starts_with("HTTP/1.1 413 ") && took < 3000, "{took} ms {said}");
}

#[tokio::test]
async fn http_that_could_be_read_in_two_ways_is_read_in_none() {
    let world = World::with(times).await;
    let with = |headers: &str| format!("POST /mcp HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
    let cases = [
        with("content-length: 5\r\ncontent-length: 6\r\n") + "hello",
        with("content-length: 5\r\n folded: yes\r\n") + "hello",
        with("bad\0: x\r\n"),
        with("content-length: -1\r\n"),
        with(&"x: y\r\n".repeat(101)),
        with(&format!("x: {}\r\n", "y".repeat(64 << 10))),
        "GET /health HTTP/1.1\r\n\r\n".to_owned(),
    ];
    let tried = join_all(cases.iter().map(async |case| (case, until_closed(&world, &[(case, 0)]).await))).await;
    for (case, (said, _)) in tried {
        let status = said.get(9..12).unwrap_or_default();
        assert!(["400", "431", "", "415"].contains(&status), "{case:.80}: {said}");
        assert!(said.matches("HTTP/1.1 ").count() <= 1, "{case:.80}: {said}");
    }
    // A length beside chunks: the chunks count, and what follows is no second request.
    let both = with("content-length: 5\r\ntransfer-encoding: chunked\r\n")
        + "0\r\n\r\nGET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let (said, _) = until_closed(&world, &[(&both, 0)]).await;
    assert!(!said.contains("uptime_seconds"), "{said}");
}

#[tokio::test]
async fn one_connection_too_many_is_told_to_come_back() {
    let world = World::with(|config| config.http.max_connections = 2).await;
    let held =
        [TcpStream::connect(world.addresses[0]).await.unwrap(), TcpStream::connect(world.addresses[0]).await.unwrap()];
    sleep(Duration::from_millis(100)).await;
    let (said, _) = until_closed(&world, &[]).await;
    assert!(said.starts_with("HTTP/1.1 503 ") && said.contains("retry-after"), "{said}");
    drop(held);
    sleep(Duration::from_millis(100)).await;
    assert_eq!(world.client().get("/health").await.json()["tcp_connections"], 1);
}

#[tokio::test]
async fn handshakes_are_bounded_in_number_and_size() {
    let world = World::with(|config| config.session.max_connections = 2).await;
    let mut large = initialize("2025-11-25");
    large["params"]["capabilities"]["experimental"] = json!({ "x": { "y": "z".repeat(20_000) } });
    assert_eq!(world.client().post(&large).await.code(), -32602);
    for _ in 0..2 {
        assert_eq!(world.client().post(&initialize("2025-11-25")).await.status, 200);
    }
    let reply = world.client().post(&initialize("2025-11-25")).await;
    assert!(reply.status == 429 && reply.headers.contains_key("retry-after"), "{reply:?}");
}
