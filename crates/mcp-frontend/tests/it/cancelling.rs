//! Who stops a call, and who does not.

use std::time::Duration;

use browserfleet_common::ids::Principal;
use browserfleet_mcp_frontend::{bus, connection, testing::Event};
use http::Method;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::world::{World, call, failure, modern_params, request, text, until};

fn hangs(world: &World) {
    world.daemon.answer(|call| match call.tool.as_str() {
        "browser_click" => vec![Event::started(), Event::text("Page", "half"), Event::WaitForever],
        _ => vec![Event::started(), Event::end()],
    });
}

async fn started(world: &World) {
    until("the call reaches the daemon", || world.daemon.seen().called.contains(&"browser_click".to_owned())).await;
}

async fn stopped(world: &World) {
    until("the daemon is told", || world.daemon.seen().abandoned == 1).await;
}

#[tokio::test]
async fn a_notification_to_another_front_end_cancels_a_legacy_call() {
    let world = World::replicas(2).await;
    hangs(&world);
    let client = world.legacy().await;
    let notifier = client.again();
    // Whatever front end it is: one of two notifications reaches the other one.
    let cancel = async {
        started(&world).await;
        for _ in 0..2 {
            let wrong = request_cancel("8");
            assert_eq!(notifier.post(&wrong).await.status, 202);
        }
        assert_eq!(world.daemon.seen().abandoned, 0, "another request of the connection was meant");
        notifier.next_address();
        assert_eq!(notifier.post(&request_cancel("7")).await.status, 202);
        stopped(&world).await;
    };
    let message = call("7", "browser_click", json!({ "target": "e1" }));
    let (reply, ()) = tokio::join!(client.post(&message), cancel);
    assert_eq!((reply.status.as_u16(), reply.body.len()), (202, 0), "nobody wants the answer");
    assert_eq!(client.call("browser_snapshot", json!({})).await["isError"], false, "the browser is still there");
    assert_eq!(world.daemon.leases().len(), 1);
}

fn request_cancel(id: &str) -> serde_json::Value {
    json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": id, "reason": "test" } })
}

#[tokio::test]
async fn a_cancellation_does_not_reach_another_connection() {
    let world = World::start().await;
    hangs(&world);
    let (client, other) = (world.legacy().await, world.legacy().await);
    let cancel = async {
        started(&world).await;
        assert_eq!(other.post(&request_cancel("7")).await.status, 202);
        sleep(Duration::from_millis(200)).await;
        assert_eq!(world.daemon.seen().abandoned, 0);
        assert_eq!(client.again().delete().await.status, 204);
        stopped(&world).await;
    };
    let message = call("7", "browser_click", json!({ "target": "e1" }));
    let (reply, ()) = tokio::join!(client.post(&message), cancel);
    assert_eq!(reply.status, 202, "the connection's end ends its calls");
    until("the lease is returned", || world.daemon.leases().is_empty()).await;
}

#[tokio::test]
async fn a_modern_client_that_hangs_up_cancels() {
    let world = World::start().await;
    hangs(&world);
    let client = world.client();
    let opened = client.modern_call("browser_open", json!({})).await;
    let handle = opened["structuredContent"]["session_id"].clone();
    let params = json!({ "name": "browser_click", "arguments": { "target": "e1", "session_id": handle } });
    let call = client.modern("tools/call", params);
    tokio::select! {
        reply = call => panic!("it never answers: {reply:?}"),
        () = started(&world) => {}
    }
    stopped(&world).await;
    assert_eq!(client.get("/health").await.json()["active_calls"], 0);
}

#[tokio::test]
async fn a_modern_client_that_leaves_the_queue_starts_no_browser() {
    let world = World::start().await;
    world.daemon.queue(&[(1, 1); 100]);
    let call = async { world.client().modern_call("browser_open", json!({})).await };
    assert!(timeout(Duration::from_millis(300), call).await.is_err());
    until("it leaves the queue", || world.daemon.seen().left_queue == 1).await;
    assert_eq!(world.daemon.leases().len(), 0);
    let health = || async { world.client().get("/health").await.json()["sessions"].clone() };
    for _ in 0..100 {
        if health().await == 0 {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("a session that nobody can name stays");
}

#[tokio::test]
async fn a_legacy_client_that_hangs_up_does_not_cancel() {
    let world = World::start().await;
    world.daemon.answer(|_| vec![Event::started(), Event::Wait(Duration::from_millis(500)), Event::end()]);
    let client = world.legacy().await;
    client.call("browser_snapshot", json!({})).await;
    let message = call(7, "browser_click", json!({ "target": "e1" }));
    tokio::select! {
        reply = client.post(&message) => panic!("too early: {reply:?}"),
        () = started(&world) => {}
    }
    sleep(Duration::from_millis(200)).await;
    assert_eq!(client.get("/health").await.json()["active_calls"], 1);
    sleep(Duration::from_millis(600)).await;
    assert_eq!(
        (client.get("/health").await.json()["active_calls"].clone(), world.daemon.seen().abandoned),
        (json!(0), 0)
    );
}

#[tokio::test]
async fn a_call_ends_at_its_deadline() {
    let world = World::with(|config| config.call.timeout = Duration::from_millis(300)).await;
    hangs(&world);
    let result = world.legacy().await.call("browser_click", json!({ "target": "e1" })).await;
    assert_eq!(failure(&result), "call_timeout", "{result}");
    stopped(&world).await;
}

#[tokio::test]
async fn progress_is_streamed_to_those_who_ask() {
    let world = World::start().await;
    world.daemon.queue(&[(2, 2), (1, 2)]);
    world.daemon.answer(|_| {
        vec![
            Event::queued(1),
            Event::started(),
            Event::progress("halfway"),
            Event::text("Result", "done"),
            Event::end(),
        ]
    });
    let params = json!({ "name": "browser_open", "arguments": {}, "_meta": { "progressToken": "p" } });
    let legacy = world.legacy().await;
    let modern = world.client().for_modern("tools/call", "browser_open");
    for (client, params) in [(legacy, params.clone()), (modern, modern_params(params))] {
        let body = request(5, "tools/call", params).to_string();
        let mut stream = client.open(Method::POST, "/mcp", body).await;
        assert_eq!(stream.headers["content-type"], "text/event-stream");
        assert_eq!(stream.headers["x-accel-buffering"], "no");
        let mut last = 0.0;
        for expected in ["place 2 of 2", "place 1 of 2", "1 earlier call", "halfway"] {
            let message = stream.message().await.unwrap();
            assert_eq!(
                (&message["method"], &message["params"]["progressToken"]),
                (&json!("notifications/progress"), &json!("p"))
            );
            assert!(message["params"]["message"].as_str().unwrap().contains(expected), "{message}");
            let progress = message["params"]["progress"].as_f64().unwrap();
            assert!(progress > last);
            last = progress;
        }
        let answer = stream.message().await.unwrap();
        assert_eq!((&answer["id"], text(&answer["result"]).starts_with("### Result\ndone")), (&json!(5), true));
        assert_eq!(stream.message().await, None);
    }
}

#[tokio::test]
async fn cancellations_of_nothing_are_ignored() {
    let world = World::start().await;
    let client = world.legacy().await;
    let key = connection::Key { principal: Principal::anonymous(), id: client.connection() };
    world.stores.bus.publish(&key, bus::Message::Cancel { request: json!("x") }).await.unwrap();
    for params in [json!({ "requestId": "nobody" }), json!({}), json!({ "requestId": null })] {
        let message = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params });
        assert_eq!(client.post(&message).await.status, 202);
    }
    assert_eq!(client.call("browser_snapshot", json!({})).await["isError"], false);
}
