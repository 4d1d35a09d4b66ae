//! Getting a browser, losing it, and saying so.

use std::time::Duration;

use browserfleet_common::error_code::ErrorCode;
use browserfleet_mcp_frontend::testing::Event;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::world::{Client, World, failure, text};

const GONE: &str = "lost";
const REPLACED: &str = "### Session\n- The previous browser was lost";

async fn navigate(client: &Client) -> Value {
    client.call("browser_navigate", json!({ "url": "x" })).await
}

async fn click(client: &Client) -> Value {
    client.call("browser_click", json!({ "target": "e1" })).await
}

#[tokio::test]
async fn parallel_first_calls_of_one_session_share_one_lease() {
    let world = World::replicas(2).await;
    world.daemon.queue(&[(1, 1)]);
    let client = world.legacy().await;
    let results = join_all((0..64).map(|_| click(&client))).await;
    assert!(results.iter().all(|result| text(result).contains("- Lease: lease-1")), "{results:#?}");
    assert_eq!((world.daemon.leases().len(), world.daemon.seen().released), (1, Vec::new()));
    assert_eq!(world.daemon.seen().called.len(), 64);
}

#[tokio::test]
async fn a_lease_is_confirmed_and_lives_as_long_as_the_session() {
    let world = World::start().await;
    let client = world.legacy().await;
    navigate(&client).await;
    click(&client).await;
    let seen = world.daemon.seen();
    assert_eq!((seen.acquired, seen.renewed, seen.ttl), (1, 1, Some(Duration::from_mins(10))));
}

#[tokio::test]
async fn where_a_session_may_go_is_settled_once_and_survives_its_browser() {
    let world = World::start().await;
    let client = world.legacy().await;
    for (arguments, words) in [
        (json!({ "allowed_origins": ["ftp://x"] }), "allowed_origins: \"ftp://x\" is no origin"),
        (json!({ "blocked_origins": "x" }), "at blocked_origins"),
        (json!({ "proxy_server": "socks5://u:secret@x:1" }), "proxy_server: only proxies that are reached by http"),
    ] {
        let refused = client.call("browser_open", arguments).await;
        let shown = text(&refused);
        assert!(refused["isError"] == true && shown.contains(words) && !shown.contains("secret"), "{shown}");
    }
    assert_eq!(world.daemon.seen().acquired, 0, "nothing was opened");

    let wishes = json!({ "allowed_origins": ["https://a.example"], "proxy_server": "http://u:secret@p:1" });
    assert_eq!(client.call("browser_open", wishes.clone()).await["isError"], false);
    world.daemon.lose_leases();
    assert_eq!(navigate(&client).await["isError"], false);
    let egress = world.daemon.seen().egress;
    assert_eq!((egress.len(), &egress[0]), (2, &egress[1]), "the new browser gets no further");
    assert_eq!(egress[0].allowed_origins, ["https://a.example"]);
    assert_eq!(egress[0].proxy_server.as_deref(), Some("http://u:secret@p:1"));

    assert_eq!(client.call("browser_open", wishes).await["isError"], false, "the same again is no change");
    let changed = client.call("browser_open", json!({ "allowed_origins": ["b.example"] })).await;
    assert!(changed["isError"] == true && text(&changed).contains("session_close"), "{changed}");
    assert_eq!(client.call("browser_open", json!({ "width": 800 })).await["isError"], false);
}

#[tokio::test]
async fn a_full_pool_says_when_to_come_back_and_leaves_nothing_behind() {
    let world = World::start().await;
    world.daemon.refuse(Some(ErrorCode::PoolFull.status_retry("every browser is taken", Duration::from_secs(3))));
    for result in [navigate(&world.legacy().await).await, world.client().modern_call("browser_open", json!({})).await] {
        let error = json!({ "code": "pool_full", "retry_after_ms": 3000 });
        assert_eq!((&result["structuredContent"], &result["isError"]), (&json!({ "error": error }), &json!(true)));
        assert_eq!(text(&result), "### Error\nError: every browser is taken");
    }
    // The modern session would be unknown to everybody. The legacy one is the connection's.
    crate::world::until("the nameless session ends", || world.daemon.seen().acquired == 2).await;
    for _ in 0..100 {
        if world.client().get("/health").await.json()["sessions"] == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("a session that nobody can name stays");
}

#[tokio::test]
async fn a_tool_that_opens_goes_on_with_a_new_browser_and_says_so() {
    let world = World::start().await;
    let client = world.legacy().await;
    navigate(&client).await;
    world.daemon.lose_leases();
    let result = navigate(&client).await;
    assert_eq!(result["isError"], false);
    assert!(text(&result).contains("lease-2") && text(&result).contains(REPLACED), "{result}");
    assert!(text(&result).contains("(the lease has ended)"), "the daemon knows why: {result}");
    assert!(!text(&navigate(&client).await).contains(REPLACED), "said once");
}

#[tokio::test]
async fn other_tools_say_once_what_was_lost_and_work_after_that() {
    let world = World::start().await;
    let client = world.legacy().await;
    navigate(&client).await;
    world.daemon.lose_leases();
    let result = click(&client).await;
    assert_eq!((failure(&result), text(&result).contains("Use browser_navigate")), ("lease_lost", true), "{result}");
    assert!(text(&result).contains(GONE) && text(&result).contains("cookies"));
    let after = click(&client).await;
    assert_eq!(after["isError"], false);
    assert!(text(&after).contains("lease-2") && !text(&after).contains(REPLACED), "{after}");
}

#[tokio::test]
async fn a_browser_that_took_the_memory_while_a_call_waited_is_told_so() {
    let world = World::start().await;
    let client = world.legacy().await;
    navigate(&client).await;
    let dies = |lease: &'static str| {
        let status = ErrorCode::BrowserOutOfMemory.status("it took 2 GiB of memory");
        world.daemon.answer(move |call| match &call.lease_id {
            id if id == lease => vec![Event::queued(1), Event::Die(status.clone())],
            _ => vec![Event::started(), Event::text("Page", "- alive"), Event::end()],
        });
    };
    dies("lease-1");
    let told = click(&client).await;
    assert_eq!((failure(&told), text(&told).contains("it took 2 GiB of memory")), ("browser_out_of_memory", true));
    assert!(text(&told).contains("Use browser_navigate"), "{told}");
    assert_eq!(click(&client).await["isError"], false, "said once");
    dies("lease-2");
    let went_on = navigate(&client).await;
    assert!(went_on["isError"] == false && text(&went_on).contains(REPLACED), "{went_on}");
    assert!(text(&went_on).contains("it took 2 GiB of memory"), "{went_on}");
}

#[tokio::test]
async fn a_browser_that_dies_during_a_call_is_remembered() {
    let world = World::start().await;
    let client = world.legacy().await;
    navigate(&client).await;
    let dies = |world: &World| {
        world.daemon.lose_leases();
        world.daemon.answer(|_| {
            vec![
                Event::started(),
                Event::text("Page", "- Page URL: x"),
                Event::failed(ErrorCode::BrowserGone, "the browser process ended"),
            ]
        });
    };
    let lives = |world: &World| world.daemon.answer(|_| vec![Event::started(), Event::end()]);
    world.daemon.answer(|_| vec![Event::started(), Event::failed(ErrorCode::BrowserGone, "the browser process ended")]);
    let result = click(&client).await;
    assert_eq!((failure(&result), text(&result)), ("browser_gone", "### Error\nError: the browser process ended"));
    world.daemon.lose_leases();
    lives(&world);
    let told = click(&client).await;
    assert_eq!((failure(&told), text(&told).contains("its process ended")), ("lease_lost", true), "{told}");
    assert_eq!(click(&client).await["isError"], false);

    world.daemon.answer(|_| {
        vec![
            Event::started(),
            Event::text("Page", "- Page URL: x"),
            Event::failed(ErrorCode::BrowserGone, "the browser process ended"),
        ]
    });
    let result = click(&client).await;
    assert_eq!(text(&result), "### Error\nError: the browser process ended\n### Page\n- Page URL: x");
    dies(&world);
    lives(&world);
    let result = navigate(&client).await;
    assert!(result["isError"] == false && text(&result).contains(REPLACED), "{result}");
}

#[tokio::test]
async fn a_call_that_has_started_is_never_repeated() {
    let world = World::start().await;
    let client = world.legacy().await;
    navigate(&client).await;
    world.daemon.answer(|_| vec![Event::started(), Event::text("Page", "half"), Event::Vanish]);
    let result = click(&client).await;
    assert_eq!((failure(&result), text(&result).contains("may or may not")), ("browser_gone", true), "{result}");
    assert!(text(&result).ends_with("### Page\nhalf"), "{result}");
    assert_eq!(world.daemon.seen().called, ["browser_navigate", "browser_click"]);
    // The daemon still has the browser: nothing was lost, and nothing is said.
    world.daemon.answer(|_| vec![Event::started(), Event::text("Result", "fine"), Event::end()]);
    assert_eq!(text(&click(&client).await), "### Result\nfine");
    assert_eq!(world.daemon.leases(), ["lease-1"]);
}

#[tokio::test]
async fn a_call_that_has_not_started_is_tried_again() {
    let world = World::start().await;
    let client = world.legacy().await;
    navigate(&client).await;
    let failures = std::sync::atomic::AtomicUsize::new(1);
    world.daemon.answer(move |_| {
        if failures.swap(0, std::sync::atomic::Ordering::SeqCst) == 1 {
            return vec![Event::queued(1), Event::Vanish];
        }
        vec![Event::started(), Event::text("Result", "fine"), Event::end()]
    });
    assert_eq!(text(&click(&client).await), "### Result\nfine");
    // A refusal that is the daemon's last word is not.
    world.daemon.answer(|_| vec![Event::Fail(ErrorCode::QuotaExceeded.status("too many calls of this session wait"))]);
    let calls = world.daemon.seen().called.len();
    assert_eq!(failure(&click(&client).await), "quota_exceeded");
    assert_eq!(world.daemon.seen().called.len(), calls + 1);
}

#[tokio::test]
async fn an_unreachable_daemon_is_an_answer_and_not_the_end() {
    let world = World::start().await;
    let client = world.legacy().await;
    world.daemon.reachable(false);
    let result = navigate(&client).await;
    assert_eq!(result["structuredContent"]["error"], json!({ "code": "browser_gone", "retry_after_ms": 1000 }));
    let ready = client.get("/ready").await;
    assert_eq!((ready.status.as_u16(), &ready.json()["pool"]), (503, &json!(false)));
    assert_eq!(client.get("/health").await.status, 200);
    world.daemon.reachable(true);
    assert_eq!(navigate(&client).await["isError"], false);
    assert_eq!(client.get("/ready").await.status, 200);
}

#[tokio::test]
async fn pictures_and_structure_come_through() {
    let world = World::start().await;
    world.daemon.answer(|_| {
        vec![
            Event::started(),
            Event::text("Result", "a picture"),
            Event::image(b"\x89PNG"),
            Event::structured("{\"width\":1}"),
            Event::end(),
        ]
    });
    let result = world.client().modern_call("browser_open", json!({})).await;
    assert_eq!(result["content"][1], json!({ "type": "image", "data": "iVBORw==", "mimeType": "image/png" }));
    assert_eq!(result["structuredContent"]["width"], 1);
    assert!(result["structuredContent"]["session_id"].is_string(), "{result}");
}
