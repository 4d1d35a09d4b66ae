//! Several front ends over one Redis: nobody can tell which of them has answered.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use browserfleet_common::{ids::Principal, lifecycle::Tasks, redis::testing::Server, session::inside_name};
use browserfleet_mcp_frontend::{
    Pools,
    keys::command::Create,
    testing::{Event, FakeDaemon},
    usage::{Kind, Place},
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::{
    keys::Keyed,
    world::{Behind, Client, LIMIT, World, failure, initialize, text, until},
};

/// The client at one front end only.
fn at(client: &Client, address: SocketAddr) -> Client {
    client.again().at(address)
}

fn sessions(result: &Value) -> Vec<String> {
    let listed = result["structuredContent"]["sessions"].as_array().unwrap_or_else(|| panic!("no list: {result}"));
    listed.iter().map(|session| session["session_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_one_has_ended_is_unknown_to_the_others_at_once() {
    let world = World::replicas(2).await;
    let client = world.legacy().await;
    let (one, other) = (at(&client, world.addresses[0]), at(&client, world.addresses[1]));
    assert_eq!(other.call("browser_navigate", json!({ "url": "x" })).await["isError"], false);
    assert_eq!(one.delete().await.status, 204);
    assert_eq!(other.post(&crate::world::call(1, "browser_snapshot", json!({}))).await.status, 404);
    assert_eq!(other.delete().await.status, 404);
}

#[tokio::test]
async fn initialize_with_a_stale_id_starts_afresh_whoever_gave_it() {
    let world = World::replicas(2).await;
    let client = world.legacy().await;
    let stale = client.connection();
    assert_eq!(at(&client, world.addresses[0]).delete().await.status, 204);
    let reply = at(&client, world.addresses[1]).post(&initialize("2025-11-25")).await;
    assert_eq!(reply.status, 200);
    assert_ne!(reply.headers["mcp-session-id"].to_str().unwrap(), stale);
}

#[tokio::test]
async fn every_front_end_lists_the_same_sessions() {
    let world = World::replicas(3).await;
    let client = world.legacy().await;
    for name in ["first", "second", "third"] {
        client.call("browser_navigate", json!({ "url": "x", "session_id": name })).await;
        // Listed by their age, which Redis tells in milliseconds.
        sleep(Duration::from_millis(2)).await;
    }
    let of_connection = json!({ "sessions": 3, "max_sessions": 10, "active_calls": 1 });
    for address in &world.addresses {
        let here = at(&client, *address);
        assert_eq!(sessions(&here.call("session_list", json!({})).await), ["first", "second", "third"]);
        assert_eq!(here.call("session_stats", json!({})).await["structuredContent"], of_connection);
        assert_eq!(here.get("/sessions").await.json()["total"], 3);
        assert_eq!(here.get("/health").await.json()["sessions"], 3);
    }
    assert_eq!(
        failure(&at(&client, world.addresses[1]).call("session_close", json!({ "session_id": "second" })).await),
        ""
    );
    for address in &world.addresses {
        assert_eq!(sessions(&at(&client, *address).call("session_list", json!({})).await), ["first", "third"]);
    }
}

#[tokio::test]
async fn limits_of_sessions_hold_for_all_front_ends_together() {
    let world = World::replicas_with(2, |config| config.session.per_principal = 3).await;
    let client = world.client();
    let opened = join_all((0..8).map(|_| async { client.modern_call("browser_open", json!({})).await })).await;
    let refused = opened.iter().filter(|result| failure(result) == "quota_exceeded").count();
    assert_eq!(refused, 5, "{opened:?}");
}

#[tokio::test]
async fn a_session_lapses_for_every_front_end() {
    let world = World::replicas_with(2, |config| config.session.idle_ttl = Duration::from_millis(700)).await;
    let client = world.client();
    let opened = client.modern_call("browser_open", json!({})).await;
    let handle = opened["structuredContent"]["session_id"].clone();
    for _ in 0..4 {
        sleep(Duration::from_millis(350)).await;
        let result = client.modern_call("browser_snapshot", json!({ "session_id": handle })).await;
        assert_eq!(failure(&result), "", "a call through any of them prolongs it");
    }
    sleep(Duration::from_millis(900)).await;
    for _ in 0..2 {
        let result = client.modern_call("browser_snapshot", json!({ "session_id": handle })).await;
        assert_eq!(failure(&result), "handle_unknown_or_expired");
    }
}

#[tokio::test]
async fn an_emptied_redis_costs_a_handshake_and_a_moment() {
    let world = World::replicas(2).await;
    let client = world.legacy().await;
    client.call("browser_navigate", json!({ "url": "x" })).await;
    let redis = world.redis.as_ref().unwrap().client();
    redis.query::<()>(&redis::cmd("FLUSHALL")).await.unwrap();
    for _ in 0..2 {
        assert_eq!(client.post(&crate::world::call(1, "browser_snapshot", json!({}))).await.status, 404);
    }
    let again = world.legacy().await;
    // For some seconds nobody knows which sessions come back, and callers are told to.
    let started = Instant::now();
    let mut result = again.call("browser_navigate", json!({ "url": "x" })).await;
    while failure(&result) == "store_unavailable" && started.elapsed() < LIMIT {
        sleep(Duration::from_millis(200)).await;
        result = again.call("browser_navigate", json!({ "url": "x" })).await;
    }
    assert_eq!(failure(&result), "");
}

#[tokio::test]
async fn without_redis_nobody_is_ready_and_everybody_is_again_when_it_is_back() {
    let redis = Server::with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let quick = |config: &mut browserfleet_mcp_frontend::Config| {
        let store = config.store.as_mut().unwrap();
        (store.connect_timeout, store.command_timeout) = (Duration::from_millis(300), Duration::from_millis(600));
    };
    let behind = Behind { redis: Some(redis), ..Behind::one() };
    let mut world = World::over(behind, 2, quick, |_| (), None).await;
    let client = world.legacy().await;
    let opened = world.client().modern_call("browser_open", json!({})).await;
    let handle = opened["structuredContent"]["session_id"].clone();
    let ready = async |world: &World| {
        let mut answers = Vec::new();
        for address in &world.addresses {
            let ready = at(&world.client(), *address).get("/ready").await;
            answers.push((ready.status.as_u16(), ready.json()["store"].clone()));
        }
        answers
    };
    assert_eq!(ready(&world).await, [(200, json!(true)), (200, json!(true))]);
    // A server that says nothing is as good as none, and nobody waits long for it.
    world.redis.as_ref().unwrap().freeze(true);
    let started = Instant::now();
    let result = world.client().modern_call("browser_snapshot", json!({ "session_id": handle })).await;
    assert_eq!(failure(&result), "store_unavailable");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    world.redis.as_ref().unwrap().freeze(false);
    world.redis.as_mut().unwrap().kill();
    assert_eq!(ready(&world).await, [(503, json!(false)), (503, json!(false))]);
    assert_eq!(client.post(&crate::world::call(1, "browser_snapshot", json!({}))).await.status, 503);
    assert_eq!(world.client().get("/health").await.status, 200, "the process itself is well");
    world.redis.as_mut().unwrap().restart().await;
    let back = async {
        while ready(&world).await != [(200, json!(true)), (200, json!(true))] {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, back).await.expect("they find it again");
    for _ in 0..2 {
        let result = world.client().modern_call("browser_snapshot", json!({ "session_id": handle })).await;
        assert!(failure(&result).is_empty() && text(&result).contains("lease-1"), "no session was lost: {result}");
    }
    assert_eq!(world.daemon.leases(), ["lease-1"]);
}

#[tokio::test]
async fn a_front_end_that_stops_costs_no_call() {
    let mut world = World::replicas_with(2, |config| config.session.per_principal = 20).await;
    world.daemon.answer(|_| vec![Event::started(), Event::Wait(Duration::from_millis(20)), Event::end()]);
    let client = world.client();
    let calls = AtomicUsize::new(0);
    let (one, both) = (vec![world.addresses[1]], world.addresses.clone());
    let stops = Instant::now() + Duration::from_millis(400);
    let load = join_all((0..20).map(|number| {
        let (client, one, both, calls) = (&client, &one, &both, &calls);
        async move {
            let name = format!("worker-{number}");
            while calls.load(Ordering::Relaxed) < 800 {
                let mut client = client.again();
                // What is in front of them sends nobody to one that is about to stop.
                client.addresses = if Instant::now() < stops { both.clone() } else { one.clone() };
                client.next_address();
                let result = client.modern_call("browser_click", json!({ "target": "e1", "session_id": name })).await;
                assert_eq!(failure(&result), "", "{result}");
                calls.fetch_add(1, Ordering::Relaxed);
            }
        }
    }));
    let (stopping, served) = (world.shutdown[0].clone(), world.served.remove(0));
    let stop = async {
        tokio::time::sleep_until(stops).await;
        stopping.begin();
        timeout(LIMIT, served).await.unwrap().unwrap();
    };
    tokio::join!(load, stop);
    until("every session has kept its browser", || world.daemon.leases().len() == 20).await;
}

/// What runs, as one front end tells it.
async fn running(client: &Client) -> Vec<Value> {
    client.get("/sessions").await.json()["calls"].as_array().unwrap().clone()
}

#[tokio::test]
async fn every_front_end_lists_what_runs_and_has_it_stopped() {
    let world = World::replicas(2).await;
    world.daemon.answer(|call| match call.tool.as_str() {
        "browser_wait_for" => vec![Event::started(), Event::WaitForever],
        _ => vec![Event::started(), Event::end()],
    });
    let client = world.client();
    let (one, other) = (at(&client, world.addresses[0]), at(&client, world.addresses[1]));
    let waits = one.again();
    let call = waits.modern_call("browser_wait_for", json!({ "session_id": "a" }));
    let stop = async {
        let mut seen = Vec::new();
        let started = Instant::now();
        while seen.is_empty() {
            assert!(started.elapsed() < LIMIT, "the other one never sees it");
            sleep(Duration::from_millis(50)).await;
            seen = running(&other).await;
        }
        assert_eq!(seen.len(), 1, "{seen:?}");
        let (here, there) = (running(&one).await, &seen[0]);
        assert_eq!((&here[0]["call"], &here[0]["front_end"]), (&there["call"], &there["front_end"]));
        assert_eq!((&there["tool"], there["session"].as_str().unwrap().len()), (&json!("browser_wait_for"), 12));
        let active = other.modern_call("session_stats", json!({})).await["structuredContent"]["active_calls"].clone();
        assert_eq!(active, 2, "with the one that asks");
        let path = format!("/calls/{}", there["call"].as_str().unwrap());
        assert_eq!(other.send(http::Method::DELETE, &path, "").await.status, 202);
        path
    };
    let (result, path) = tokio::join!(call, stop);
    assert!(failure(&result) == "cancelled" && text(&result).contains("by its owner or an operator"), "{result}");
    until("the browser is told", || world.daemon.seen().abandoned == 1).await;
    for front_end in [&one, &other] {
        assert_eq!(running(front_end).await, Vec::<Value>::new());
        assert_eq!(front_end.send(http::Method::DELETE, &path, "").await.status, 404);
    }
}

#[tokio::test]
async fn programs_with_a_daemon_inside_tell_their_leases_apart() {
    let (redis, tasks) = (Server::start().await, Tasks::new());
    let program = async |door: &str, lives: usize| {
        let daemon = FakeDaemon::new(&tasks);
        (0..lives).for_each(|_| daemon.restart("host", false));
        let pools = Pools::inside(inside_name("host", door), daemon.channel());
        let behind = Behind { tasks: tasks.clone(), daemons: vec![daemon], pools, redis: None };
        let settings = redis.settings();
        World::over(behind, 1, move |config| config.store = Some(settings.clone()), |_| (), None).await
    };
    let (one, other) = (program("127.0.0.1:1", 1).await, program("127.0.0.1:2", 2).await);
    let open = |world: &World| {
        let client = world.client();
        async move { client.modern_call("browser_navigate", json!({ "session_id": "s", "url": "x" })).await }
    };
    let click = |world: &World| {
        let client = world.client();
        async move { client.modern_call("browser_click", json!({ "session_id": "s", "target": "e1" })).await }
    };
    assert_eq!(open(&one).await["isError"], false);
    let there = click(&other).await;
    assert!(failure(&there) == "browser_gone" && text(&there).contains("another program"), "{there}");
    let here = click(&one).await;
    assert!(here["isError"] == false && !text(&here).contains("lost"), "nothing was lost: {here}");
    assert_eq!(open(&other).await["isError"], false, "who opens a page goes on with a browser here");
    assert_eq!((one.daemon.leases().len(), other.daemon.leases().len()), (1, 1));
}

#[tokio::test]
async fn who_wants_a_call_stopped_that_runs_on_a_silent_front_end_is_told_so() {
    let world = World::replicas(1).await;
    let place = Place {
        id: Uuid::new_v4(),
        principal: Principal::anonymous(),
        tool: "browser_click".to_owned(),
        session: None,
        front_end: "another".to_owned(),
        since: Duration::ZERO,
    };
    assert!(world.stores.usage.take(Kind::Call, &place, Some(1)).await.unwrap());
    // Who has no session has no calls either, as operators see it.
    assert_eq!(world.client().modern_call("browser_open", json!({})).await["isError"], false);
    let path = format!("/calls/{}", place.id);
    let reply = world.client().send(http::Method::DELETE, &path, "").await;
    assert_eq!((reply.status.as_u16(), &reply.json()["error"]), (503, &json!("front_end_silent")));
    assert!(reply.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn calls_of_others_are_neither_listed_nor_stopped() {
    let keyed = Keyed::replicas().await;
    keyed.world.daemon.answer(|_| vec![Event::started(), Event::WaitForever]);
    let scopes = &["browser:read", "browser:act"];
    let (owner, stranger) =
        (keyed.client(Create::named("owner", scopes)).await, keyed.client(Create::named("stranger", scopes)).await);
    let operator = keyed.client(Create::named("operator", &["admin", "browser:read"])).await;
    let waits = owner.again();
    let call = waits.modern_call("browser_click", json!({ "target": "e1", "session_id": "a" }));
    let others = async {
        until("it runs", || keyed.world.daemon.seen().called.len() == 1).await;
        sleep(Duration::from_millis(1200)).await;
        let own = running(&owner).await;
        let path = format!("/calls/{}", own[0]["call"].as_str().unwrap());
        for _ in 0..2 {
            assert_eq!((running(&stranger).await.len(), running(&operator).await.len()), (0, 1));
            assert_eq!(stranger.send(http::Method::DELETE, &path, "").await.status, 404);
            let stats = stranger.modern_call("session_stats", json!({})).await["structuredContent"].clone();
            assert_eq!(stats["active_calls"], 1, "its own: {stats}");
        }
        let stats = owner.modern_call("session_stats", json!({})).await["structuredContent"].clone();
        assert_eq!((&stats["active_calls"], stats["calls"].as_array().unwrap().len()), (&json!(2), 2), "{stats}");
        assert_eq!(keyed.world.daemon.seen().abandoned, 0);
        assert_eq!(operator.send(http::Method::DELETE, &path, "").await.status, 202);
    };
    let (result, ()) = tokio::join!(call, others);
    assert_eq!(failure(&result), "cancelled");
}
