//! Sessions whose browser is gone and that have a checkpoint: they go on, whatever the call. What a checkpoint brings back is
//! the daemon's; here it is whether somebody gets to bring it back.

use std::time::Duration;

use browserfleet_common::session::{Owner, Record};
use browserfleet_mcp_frontend::session::Scope;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::world::{Client, World, failure, text};

const IDLE: Duration = Duration::from_millis(400);

async fn only(world: &World) -> Record {
    let mut all = world.stores.sessions.list(Scope::All).await.unwrap();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

/// What the daemon does after a call that acts.
async fn save(world: &World) -> Owner {
    let record = only(world).await;
    let lease = record.lease.lease.clone().expect("it has a browser");
    assert!(
        world.stores.checkpoints.save_checkpoint(&record.owner(), &lease.lease_id, b"sealed".to_vec()).await.unwrap()
    );
    record.owner()
}

async fn snapshot(client: &Client) -> Value {
    client.call("browser_snapshot", json!({ "session_id": "mine" })).await
}

#[tokio::test]
async fn with_a_checkpoint_every_tool_goes_on_and_tells_what_happened() {
    for world in [World::start().await, World::replicas(2).await] {
        let client = world.legacy().await;
        snapshot(&client).await;
        let owner = save(&world).await;
        world.daemon.lose_leases();
        let result = snapshot(&client).await;
        assert_eq!((failure(&result), text(&result).contains("lease-2")), ("", true), "{result}");
        let told = text(&result).contains("The previous browser was lost (the lease has ended)");
        assert!(told && !text(&result).contains("cookies"), "what is kept the daemon says: {result}");
        assert_eq!(only(&world).await.birth, owner.birth);
        assert!(!text(&snapshot(&client).await).contains("previous"), "said once");
    }
}

#[tokio::test]
async fn a_session_that_lapsed_comes_back_when_it_is_named() {
    let world = World::with(|config| (config.session.idle_ttl, config.session.per_principal) = (IDLE, 1)).await;
    let client = world.legacy().await;
    let opened = world.client().modern_call("browser_navigate", json!({ "url": "x" })).await;
    let handle = opened["structuredContent"]["session_id"].as_str().unwrap().to_owned();
    let owner = save(&world).await;
    sleep(IDLE * 3 / 2).await;
    assert!(world.stores.sessions.list(Scope::All).await.unwrap().is_empty(), "its browser is free");
    let named = json!({ "session_id": handle });
    // It takes a place like any other.
    assert_eq!(snapshot(&client).await["isError"], false);
    assert_eq!(failure(&client.call("browser_snapshot", named.clone()).await), "quota_exceeded");
    client.call("session_close", json!({ "session_id": "mine" })).await;
    assert_eq!(failure(&client.call("browser_snapshot", named.clone()).await), "");
    assert_eq!(only(&world).await.owner(), owner);
    // Ended while it sleeps, it is gone for good.
    sleep(IDLE * 3 / 2).await;
    assert_eq!(client.call("session_close", named.clone()).await["isError"], false);
    assert_eq!(failure(&client.call("browser_snapshot", named).await), "handle_unknown_or_expired");
    assert_eq!(world.stores.checkpoints.load_checkpoint(&owner).await.unwrap(), None);
}

#[tokio::test]
async fn what_was_closed_is_not_brought_back() {
    let world = World::start().await;
    let client = world.legacy().await;
    snapshot(&client).await;
    let owner = save(&world).await;
    client.call("browser_close", json!({ "session_id": "mine" })).await;
    assert_eq!(world.stores.checkpoints.load_checkpoint(&owner).await.unwrap(), None);
    assert!(world.stores.sessions.touch(&owner.key).await.unwrap().is_some_and(|record| !record.restorable));
    // The daemon was about to save once more.
    let late = world.stores.checkpoints.save_checkpoint(&owner, "lease-1", b"late".to_vec()).await.unwrap();
    assert!(!late);
}
