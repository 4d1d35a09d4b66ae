//! Several daemons: where leases go, and what becomes of a daemon that is not well.

use std::time::Duration;

use browserfleet_common::error_code::ErrorCode;
use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::world::{Client, LIMIT, World, failure, request, text, until};

async fn open(client: &Client, session: &str) -> Value {
    client.call("browser_navigate", json!({ "url": "x", "session_id": session })).await
}

async fn click(client: &Client, session: &str) -> Value {
    client.call("browser_click", json!({ "target": "e1", "session_id": session })).await
}

/// Waits until the front end knows how many daemons take new leases.
async fn in_service(client: &Client, count: usize) {
    let started = Instant::now();
    while client.get("/ready").await.json()["daemons"]["in_service"] != count {
        assert!(started.elapsed() < LIMIT, "never {count} in service");
        sleep(Duration::from_millis(20)).await;
    }
}

/// The page for operators. Its levels are of the process: a test beside this one may have set them, so look again.
async fn metrics(client: &Client) -> String {
    String::from_utf8_lossy(&client.get("/metrics").await.body).into_owned()
}

fn leases(world: &World) -> Vec<usize> {
    world.daemons.iter().map(|daemon| daemon.leases().len()).collect()
}

#[tokio::test]
async fn leases_go_where_there_is_room_and_calls_follow_them() {
    let world = World::fleet(3).await;
    for daemon in &world.daemons {
        daemon.capacity(2);
    }
    let client = world.legacy().await;
    in_service(&client, 3).await;
    let names: Vec<_> = (0..6).map(|number| format!("s{number}")).collect();
    for name in &names {
        assert_eq!(open(&client, name).await["isError"], false);
    }
    assert_eq!(leases(&world), [2, 2, 2]);
    for name in &names {
        assert_eq!(click(&client, name).await["isError"], false);
    }
    for daemon in &world.daemons {
        let clicks = daemon.seen().called.iter().filter(|tool| *tool == "browser_click").count();
        assert_eq!(clicks, 2, "a call goes to the daemon of its lease");
    }
}

#[tokio::test]
async fn parallel_first_calls_of_one_session_end_with_one_lease() {
    let world = World::fleet(4).await;
    let client = world.legacy().await;
    in_service(&client, 4).await;
    let results = join_all((0..32).map(|_| click(&client, "same"))).await;
    assert!(results.iter().all(|result| result["isError"] == false), "{results:#?}");
    until("one lease is left", || leases(&world).iter().sum::<usize>() == 1).await;
    let asked = world.daemons.iter().filter(|daemon| daemon.seen().acquired > 0).count();
    assert!(asked <= 2, "all drew the same two, not {asked}");
}

#[tokio::test]
async fn who_waits_takes_a_browser_that_becomes_free_elsewhere() {
    let world = World::fleet(2).await;
    for daemon in &world.daemons {
        daemon.capacity(1);
    }
    let client = world.legacy().await;
    in_service(&client, 2).await;
    for name in ["a", "b"] {
        open(&client, name).await;
    }
    assert_eq!(leases(&world), [1, 1]);
    let params = json!({
        "name": "browser_navigate",
        "arguments": { "url": "x", "session_id": "late" },
        "_meta": { "progressToken": 1 },
    });
    let mut late = client.open(Method::POST, "/mcp", request(5, "tools/call", params).to_string()).await;
    let said = late.message().await.unwrap();
    assert_eq!(said["params"]["message"], "Waiting for a browser: place 1 of 1");
    let waits_at = usize::from(world.daemons[1].waiting() == 1);
    let other = 1 - waits_at;
    for name in ["a", "b"] {
        let before = world.daemons[other].seen().called.len();
        click(&client, name).await;
        if world.daemons[other].seen().called.len() > before {
            client.call("session_close", json!({ "session_id": name })).await;
        }
    }
    let answer = loop {
        let message = late.message().await.unwrap();
        if message["id"] == 5 {
            break message;
        }
    };
    assert_eq!(answer["result"]["isError"], false, "{answer}");
    until("the queue is left", || world.daemons[waits_at].waiting() == 0).await;
    assert_eq!((leases(&world), world.daemons[waits_at].seen().left_queue), (vec![1, 1], 1));
}

#[tokio::test]
async fn a_daemon_that_always_fails_is_ejected_the_others_carry_and_it_comes_back() {
    let world = World::fleet(3).await;
    let bad = &world.daemons[0];
    bad.refuse(Some(ErrorCode::BrowserGone.status("the browser did not start")));
    for daemon in &world.daemons[1..] {
        // Never as free as the one that fails: whoever draws that one asks it first.
        daemon.capacity(900);
    }
    let client = world.legacy().await;
    in_service(&client, 3).await;
    let started = Instant::now();
    for number in 0..60 {
        assert_eq!(open(&client, &format!("s{number}")).await["isError"], false);
    }
    // Three to be ejected, then one for each time that has passed: the shortest is two seconds.
    let probes = usize::try_from(started.elapsed().as_secs() / 2).unwrap();
    assert!(bad.seen().acquired <= 3 + probes, "{} in {:?}", bad.seen().acquired, started.elapsed());
    assert_eq!(leases(&world).iter().sum::<usize>(), 60);
    let mut number = 60;
    // Another chance may just have begun; the next caller ends it.
    while !metrics(&client).await.contains("browserfleet_daemons{state=\"ejected\"} 1\n") {
        assert!(started.elapsed() < LIMIT, "never shown as ejected");
        assert_eq!(open(&client, &format!("s{number}")).await["isError"], false);
        number += 1;
    }

    bad.refuse(None);
    while bad.leases().is_empty() {
        assert!(started.elapsed() < LIMIT, "it never came back");
        assert_eq!(open(&client, &format!("s{number}")).await["isError"], false);
        number += 1;
        sleep(Duration::from_millis(50)).await;
    }
    in_service(&client, 3).await;
    while !metrics(&client).await.contains("browserfleet_daemons{state=\"ejected\"} 0\n") {
        assert!(started.elapsed() < LIMIT, "it is still shown as ejected");
    }
}

#[tokio::test]
async fn a_draining_daemon_keeps_its_leases_and_gets_no_new_ones() {
    let world = World::fleet(2).await;
    let client = world.legacy().await;
    in_service(&client, 2).await;
    world.daemons[1].capacity(0);
    in_service(&client, 2).await;
    open(&client, "mine").await;
    assert_eq!(leases(&world), [1, 0]);
    world.daemons[0].start_draining();
    world.daemons[1].capacity(100);
    in_service(&client, 1).await;
    let asked = world.daemons[0].seen().acquired;
    for number in 0..10 {
        assert_eq!(open(&client, &format!("s{number}")).await["isError"], false);
    }
    assert_eq!((leases(&world), world.daemons[0].seen().acquired), (vec![1, 10], asked));
    assert_eq!(click(&client, "mine").await["isError"], false);
    world.daemons[1].start_draining();
    in_service(&client, 0).await;
    assert_eq!(client.get("/ready").await.status, 503);
    assert_eq!(failure(&open(&client, "none").await), "draining");
}

#[tokio::test]
async fn a_session_leaves_a_daemon_that_is_out_of_reach_only_by_a_tool_that_opens_pages() {
    let world = World::fleet(2).await;
    let client = world.legacy().await;
    world.daemons[1].capacity(0);
    in_service(&client, 2).await;
    open(&client, "mine").await;
    open(&client, "stays").await;
    assert_eq!(leases(&world), [2, 0]);
    world.daemons[1].capacity(100);
    world.daemons[0].reachable(false);
    in_service(&client, 1).await;
    for _ in 0..2 {
        let result = click(&client, "stays").await;
        assert_eq!(failure(&result), "browser_gone");
        assert!(text(&result).contains("pages may still be there"), "{result}");
    }
    let result = open(&client, "mine").await;
    assert!(result["isError"] == false && text(&result).contains("previous browser was lost"), "{result}");
    assert_eq!(leases(&world), [2, 1]);
    world.daemons[0].reachable(true);
    let result = click(&client, "stays").await;
    assert!(result["isError"] == false && !text(&result).contains("lost"), "nothing was lost: {result}");
    assert_eq!(leases(&world), [2, 1]);
}
