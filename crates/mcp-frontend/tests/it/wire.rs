//! What the network and the daemons' deaths do to calls and leases.

use std::time::Duration;

use browserfleet_common::lifecycle::Tasks;
use browserfleet_mcp_frontend::{
    Config, Pools, Wire,
    testing::{Event, FakeDaemon},
};
use serde_json::{Value, json};
use tonic::transport::Endpoint;

use crate::{
    proxy::Proxy,
    world::{Behind, Client, World, failure, text, until},
};

/// Notices a partition within half a second.
const QUICK: Wire = Wire {
    connect: Duration::from_millis(500),
    keep_alive: Duration::from_millis(200),
    answer: Duration::from_millis(300),
};

/// Notices nothing within a test.
const PATIENT: Wire =
    Wire { connect: Duration::from_secs(2), keep_alive: Duration::from_mins(1), answer: Duration::from_mins(1) };

/// A front end and a daemon, a network between them.
async fn parted_by(wire: Wire, max_age: Option<Duration>, change: impl Fn(&mut Config)) -> (World, Proxy) {
    let tasks = Tasks::new();
    let daemon = FakeDaemon::new(&tasks);
    let proxy = Proxy::to(daemon.listen(max_age).await.unwrap(), &tasks).await;
    let address = Endpoint::from_shared(format!("http://{}", proxy.address)).unwrap();
    let pools = Pools::default().at(address, wire);
    let world = World::over(Behind { tasks, daemons: vec![daemon], pools, redis: None }, 1, change, |_| (), None).await;
    (world, proxy)
}

async fn navigate(client: &Client) -> Value {
    client.call("browser_navigate", json!({ "url": "x" })).await
}

async fn click(client: &Client) -> Value {
    client.call("browser_click", json!({ "target": "e1" })).await
}

fn calls(world: &World, tool: &str) -> usize {
    world.daemon.seen().called.iter().filter(|called| *called == tool).count()
}

#[tokio::test]
async fn a_partition_shorter_than_the_lease_costs_no_page() {
    for (to_daemon, to_front_end) in [(false, false), (false, true), (true, false)] {
        let (world, proxy) = parted_by(QUICK, None, |_| ()).await;
        let client = world.legacy().await;
        navigate(&client).await;
        let before = proxy.accepted();
        proxy.lets_through(to_daemon, to_front_end);
        let result = click(&client).await;
        assert_eq!(failure(&result), "browser_gone", "{result}");
        assert!(text(&result).contains("may or may not have taken effect"), "{result}");
        until("the silent connection is given up", || proxy.accepted() > before).await;
        proxy.lets_through(true, true);
        until("the daemon answers again", || world.daemon.seen().looked > 0).await;
        let result = click(&client).await;
        assert!(text(&result).contains("lease-1") && !text(&result).contains("lost"), "{result}");
        assert_eq!(world.daemon.leases(), ["lease-1"]);
    }
}

#[tokio::test]
async fn an_idle_connection_that_went_silent_is_given_up() {
    let (world, proxy) = parted_by(QUICK, None, |_| ()).await;
    until("there is a connection", || world.daemon.seen().looked > 0).await;
    proxy.lets_through(true, false);
    until("it is replaced", || proxy.accepted() > 1).await;
}

#[tokio::test]
async fn a_call_in_a_partition_ends_at_its_deadline() {
    let (world, proxy) = parted_by(PATIENT, None, |config| {
        config.call.timeout = Duration::from_secs(1);
        config.call.queue_wait = Duration::from_millis(500);
    })
    .await;
    world.daemon.answer(|call| match call.tool.as_str() {
        "browser_click" => vec![Event::started(), Event::WaitForever],
        _ => vec![Event::started(), Event::end()],
    });
    let client = world.legacy().await;
    navigate(&client).await;
    let part = async {
        until("the call runs", || calls(&world, "browser_click") == 1).await;
        proxy.lets_through(false, false);
    };
    let (result, ()) = tokio::join!(click(&client), part);
    assert_eq!((failure(&result), text(&result).contains("did not end within")), ("call_timeout", true), "{result}");
    // One that begins in the partition, too.
    let result = click(&client).await;
    assert_eq!((failure(&result), text(&result).contains("did not end within")), ("call_timeout", true), "{result}");
    proxy.lets_through(true, true);
    assert_eq!(world.daemon.leases(), ["lease-1"]);
}

#[tokio::test]
async fn a_call_under_way_in_a_partition_ends_when_the_connection_is_given_up() {
    let (world, proxy) = parted_by(QUICK, None, |_| ()).await;
    let client = world.legacy().await;
    navigate(&client).await;
    world.daemon.answer(|_| vec![Event::started(), Event::text("Page", "half"), Event::WaitForever]);
    let part = async {
        until("the call runs", || calls(&world, "browser_click") == 1).await;
        proxy.lets_through(true, false);
    };
    let (result, ()) = tokio::join!(click(&client), part);
    assert_eq!((failure(&result), text(&result).contains("may or may not")), ("browser_gone", true), "{result}");
}

#[tokio::test]
async fn what_may_have_happened_is_not_done_twice() {
    let (world, proxy) = parted_by(QUICK, None, |_| ()).await;
    let client = world.legacy().await;
    navigate(&client).await;
    // The daemon has the call, and its word about that is lost.
    world.daemon.answer(|_| vec![Event::Wait(Duration::from_secs(5)), Event::started(), Event::end()]);
    let cut = async |tool: &str| {
        until("the call arrives", || calls(&world, tool) == 1).await;
        world.daemon.answer(|_| vec![Event::started(), Event::text("Result", "fine"), Event::end()]);
        proxy.cut(true);
    };
    let (result, ()) = tokio::join!(click(&client), cut("browser_click"));
    assert_eq!((failure(&result), text(&result).contains("may or may not")), ("browser_gone", true), "{result}");
    assert_eq!((calls(&world, "browser_click"), world.daemon.leases().len()), (1, 1));
    // Looking twice does no harm.
    world.daemon.answer(|_| vec![Event::Wait(Duration::from_secs(5)), Event::started(), Event::end()]);
    let snapshot = client.call("browser_snapshot", json!({}));
    let (result, ()) = tokio::join!(snapshot, cut("browser_snapshot"));
    assert_eq!((text(&result), calls(&world, "browser_snapshot")), ("### Result\nfine", 2));
}

#[tokio::test]
async fn a_connection_that_is_told_to_go_away_finishes_its_calls() {
    let age = Duration::from_millis(300);
    let (world, proxy) = parted_by(Wire::default(), Some(age), |_| ()).await;
    let client = world.legacy().await;
    navigate(&client).await;
    world.daemon.answer(|_| vec![Event::started(), Event::Wait(Duration::from_secs(2)), Event::end()]);
    // Whichever connection the call is on, it grows old during the call.
    let late = async {
        until("the call runs", || calls(&world, "browser_click") == 1).await;
        let before = proxy.accepted();
        until("others go on a new connection", || proxy.accepted() > before).await;
        assert_eq!(client.again().get("/ready").await.status, 200);
    };
    let (result, ()) = tokio::join!(click(&client), late);
    assert_eq!((result["isError"].as_bool(), calls(&world, "browser_click")), (Some(false), 1), "{result}");
    world.daemon.answer(|_| vec![Event::started(), Event::text("Result", "fine"), Event::end()]);
    for _ in 0..20 {
        assert_eq!(text(&click(&client).await), "### Result\nfine");
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    assert_eq!((calls(&world, "browser_click"), world.daemon.leases()), (21, vec!["lease-1".to_owned()]));
}

#[tokio::test]
async fn a_daemon_that_dies_is_told_and_replaced_when_it_is_back() {
    let (world, proxy) = parted_by(Wire::default(), None, |_| ()).await;
    let client = world.legacy().await;
    navigate(&client).await;
    world.daemon.answer(|call| match call.tool.as_str() {
        "browser_click" => vec![Event::started(), Event::WaitForever],
        _ => vec![Event::started(), Event::text("Result", "fine"), Event::end()],
    });
    let die = async {
        until("the call runs", || calls(&world, "browser_click") == 1).await;
        world.daemon.restart("fake", false);
        proxy.cut(false);
    };
    let (result, ()) = tokio::join!(click(&client), die);
    assert_eq!((failure(&result), text(&result).contains("may or may not")), ("browser_gone", true), "{result}");
    let result = client.call("browser_snapshot", json!({})).await;
    assert_eq!(failure(&result), "browser_gone", "{result}");
    proxy.mend();
    let result = client.call("browser_snapshot", json!({})).await;
    assert_eq!((failure(&result), text(&result).contains("was lost")), ("lease_lost", true), "{result}");
    assert_eq!(text(&client.call("browser_snapshot", json!({})).await), "### Result\nfine");

    // A call that had not started goes on by itself, where an empty page is no surprise.
    world.daemon.restart("fake", false);
    proxy.cut(true);
    let result = navigate(&client).await;
    assert!(result["isError"] == false && text(&result).contains("previous browser was lost"), "{result}");
    assert_eq!(world.daemon.leases(), ["lease-3"]);
}

#[tokio::test]
async fn leases_of_who_was_at_an_address_before_are_never_used() {
    for successor in ["fake", "somebody-else"] {
        let world = World::start().await;
        let client = world.legacy().await;
        navigate(&client).await;
        world.daemon.restart(successor, true);
        let looked = world.daemon.seen().looked;
        until("the front end has seen who is there now", || world.daemon.seen().looked > looked + 1).await;
        let result = click(&client).await;
        assert_eq!((failure(&result), text(&result).contains("has been replaced")), ("lease_lost", true), "{result}");
        assert_eq!(calls(&world, "browser_click"), 0, "{successor} would have taken it for its own");
        let result = click(&client).await;
        assert!(text(&result).contains("lease-2"), "{result}");
    }
}

#[tokio::test]
async fn a_front_end_that_remembers_an_earlier_daemon_asks_before_it_calls_a_lease_lost() {
    let world = World::replicas(2).await;
    let client = world.legacy().await;
    navigate(&client).await;
    navigate(&client).await;
    for _ in 0..5 {
        world.daemon.restart("fake", false);
        // In turn: one front end gets the new lease, the other one meets it with what it remembers.
        assert_eq!(navigate(&client).await["isError"], false);
        let result = click(&client).await;
        assert_eq!(result["isError"], false, "{result}");
        click(&client).await;
    }
}
