//! Who gets in with a key, and what it allows.

use std::{path::PathBuf, time::Duration};

use browserfleet_common::redis::testing::Server;
use browserfleet_mcp_frontend::{
    Config,
    keys::{
        ApiKeys, Limits,
        command::{Create, create, revoke},
    },
    testing::Event,
};
use browserfleet_tools::Group;
use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::world::{Behind, Client, LIMIT, Reply, World, call, failure, initialize, request, text, until};

const ALL: &[&str] = &["browser:read", "browser:act", "browser:evaluate", "browser:files"];

/// A front end that asks for keys.
pub(crate) struct Keyed {
    pub(crate) world: World,
    pub(crate) path: PathBuf,
    _directory: TempDir,
}

impl Keyed {
    pub(crate) async fn start() -> Self {
        Self::with(|_| ()).await
    }

    /// Two of them, asked in turn.
    pub(crate) async fn replicas() -> Self {
        Self::over(Behind { redis: Some(Server::start().await), ..Behind::one() }, 2, |_| ()).await
    }

    async fn with(change: impl Fn(&mut Config)) -> Self {
        Self::over(Behind::one(), 1, change).await
    }

    async fn over(behind: Behind, count: usize, change: impl Fn(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.json");
        create(&path, &Create::named("first", &["admin"]), now()).unwrap();
        let keys = ApiKeys::open(&path).unwrap();
        let change = |config: &mut Config| {
            config.auth = Some(keys.clone());
            change(config);
        };
        let world = World::over(behind, count, change, |_| (), None).await;
        Self { world, path, _directory: directory }
    }

    /// A client with a new key.
    pub(crate) async fn client(&self, new: Create) -> Client {
        let text = create(&self.path, &new, now()).unwrap().text;
        let client = self.bearer(&text);
        // The file is read again within a second.
        self.until_status(&client, 200).await;
        client
    }

    fn bearer(&self, token: &str) -> Client {
        self.world.client().header("authorization", &format!("Bearer {token}"))
    }

    /// Until each front end answers so.
    async fn until_status(&self, client: &Client, status: u16) {
        let started = tokio::time::Instant::now();
        for address in &self.world.addresses {
            let mut here = client.again();
            here.addresses = vec![*address];
            while here.get("/sessions").await.status != status {
                assert!(started.elapsed() < LIMIT, "never {status}");
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

fn now() -> Duration {
    use browserfleet_common::clock::{Clock as _, SystemClock};
    SystemClock.now()
}

/// Shakes hands as a legacy client.
pub(crate) async fn legacy(client: &Client) -> Client {
    let reply = client.post(&initialize("2025-11-25")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let id = reply.headers["mcp-session-id"].to_str().unwrap().to_owned();
    client.again().header("mcp-session-id", &id).header("mcp-protocol-version", "2025-11-25")
}

/// Everything of an answer that tells one from another.
pub(crate) fn seen(reply: &Reply) -> (u16, String, Option<String>) {
    let challenge = reply.headers.get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
    (reply.status.as_u16(), String::from_utf8_lossy(&reply.body).into_owned(), challenge)
}

#[tokio::test]
async fn without_a_good_key_every_request_gets_the_same_answer() {
    let keyed = Keyed::start().await;
    let short = Create::named("short", ALL).for_time(Duration::from_secs(1));
    let expired = create(&keyed.path, &short, now().saturating_sub(Duration::from_mins(1))).unwrap().text;
    // The id of a key is no secret.
    let guessed =
        create(&keyed.path, &Create::named("guessed", ALL), now()).unwrap().text[..16].to_owned() + &"0".repeat(32);
    let revoked = keyed.client(Create::named("gone", ALL)).await;
    revoke(&keyed.path, "gone").unwrap();
    keyed.until_status(&revoked, 401).await;
    let unknown = "bf_0123456789ab_0123456789abcdef0123456789abcdef".to_owned();
    let wrong = [expired, guessed, unknown, "nonsense".to_owned(), "x".repeat(5000)];
    let nobody = keyed.world.client();
    let clients: Vec<_> = wrong.iter().map(|token| keyed.bearer(token)).chain([revoked]).collect();
    let body = initialize("2025-11-25").to_string();
    for (method, path, body) in [
        (Method::POST, "/mcp", body.as_str()),
        (Method::POST, "/mcp", "{ no json"),
        (Method::GET, "/mcp", ""),
        (Method::DELETE, "/mcp", ""),
        (Method::PUT, "/mcp", ""),
        (Method::OPTIONS, "/mcp", ""),
        (Method::GET, "/sessions", ""),
        (Method::GET, "/metrics", ""),
        (Method::GET, "/nowhere", ""),
        (Method::POST, "/health/../mcp", ""),
    ] {
        let without = seen(&nobody.send(method.clone(), path, body.to_owned()).await);
        assert_eq!((without.0, without.2.as_deref()), (401, Some("Bearer realm=\"browserfleet\"")), "{method} {path}");
        for client in &clients {
            let with = seen(&client.send(method.clone(), path, body.to_owned()).await);
            assert_eq!((with.0, &with.1), (401, &without.1), "{method} {path}");
            assert_eq!(with.2.as_deref(), Some("Bearer realm=\"browserfleet\", error=\"invalid_token\""));
        }
    }
    assert_eq!(keyed.world.daemon.seen().acquired, 0);
}

#[tokio::test]
async fn host_and_origin_are_checked_whatever_a_request_brings() {
    let keyed = Keyed::start().await;
    let client = keyed.client(Create::named("ci", ALL)).await;
    for client in [keyed.world.client(), client] {
        assert_eq!(client.again().header("origin", "https://evil.example").get("/mcp").await.status, 403);
        assert_eq!(client.header("host", "evil.example").get("/sessions").await.status, 403);
    }
}

#[tokio::test]
async fn probes_need_no_key_and_get_no_details() {
    let keyed = Keyed::start().await;
    let (nobody, stranger) = (keyed.world.client(), keyed.bearer("nonsense"));
    let user = keyed.client(Create::named("user", ALL)).await;
    for client in [&nobody, &stranger, &user] {
        assert_eq!(client.get("/health").await.json(), json!({ "status": "ok" }));
        assert_eq!(client.get("/ready").await.json(), json!({ "ready": true }));
    }
    let operator = keyed.client(Create::named("operator", &["admin"])).await;
    assert!(operator.get("/health").await.json()["sessions"].is_number());
    assert_eq!(operator.get("/ready").await.json()["daemons"]["total"], 1);
    assert_eq!((user.get("/pool").await.status.as_u16(), operator.get("/pool").await.status.as_u16()), (403, 200));
}

#[tokio::test]
async fn a_key_in_a_url_is_refused_even_with_a_good_one_beside_it() {
    let keyed = Keyed::start().await;
    let client = keyed.client(Create::named("ci", ALL)).await;
    for query in ["access_token=x", "token=x", "q=bf_0123456789ab_0123456789abcdef0123456789abcdef"] {
        for client in [&keyed.world.client(), &client] {
            let reply = client.get(&format!("/sessions?{query}")).await;
            let told = String::from_utf8_lossy(&reply.body).into_owned();
            assert!(
                reply.status == 400 && told.contains("Authorization: Bearer") && !told.contains("012345"),
                "{told}"
            );
        }
    }
    assert_eq!(client.get("/sessions?client=x").await.status, 200);
}

#[tokio::test]
async fn a_key_sees_its_own_sessions_and_an_operator_all() {
    let keyed = Keyed::start().await;
    let (one, other) = (keyed.client(Create::named("one", ALL)).await, keyed.client(Create::named("other", ALL)).await);
    let operator = keyed.client(Create::named("operator", &["admin"])).await;
    let opened = one.modern_call("browser_open", json!({})).await;
    let handle = opened["structuredContent"]["session_id"].as_str().unwrap().to_owned();
    other.modern_call("browser_open", json!({ "session_id": "mine" })).await;
    let total = async |client: &Client| client.get("/sessions").await.json()["total"].clone();
    assert_eq!((total(&one).await, total(&other).await, total(&operator).await), (json!(1), json!(1), json!(2)));
    let listed = one.modern_call("session_list", json!({})).await;
    assert_eq!(listed["structuredContent"]["sessions"][0]["session_id"], json!(handle));
    let listed = other.modern_call("session_list", json!({})).await;
    assert!(listed["structuredContent"]["sessions"][0]["session_id"] == "mine" && !text(&listed).contains(&handle));
    let refused = seen(&one.get("/metrics").await);
    assert_eq!(refused.0, 403);
    assert!(refused.2.is_some_and(|challenge| challenge.contains("insufficient_scope") && challenge.contains("admin")));
    assert_eq!(operator.get("/metrics").await.status, 200);
}

#[tokio::test]
async fn scopes_and_groups_decide_what_is_shown_and_what_runs() {
    let keyed = Keyed::start().await;
    let reader = keyed.client(Create::named("reader", &["browser:read"])).await;
    let core = keyed.client(Create::named("core", &["browser:read", "browser:act"]).for_groups(&[Group::Core])).await;
    let names = |reply: Reply| -> Vec<String> {
        let tools = reply.json()["result"]["tools"].clone();
        tools.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    };
    for (client, has, lacks) in [
        (&reader, "session_list", ["browser_click", "browser_evaluate", "browser_file_upload"].as_slice()),
        (&core, "browser_click", ["session_list", "browser_evaluate"].as_slice()),
    ] {
        let modern = names(client.modern("tools/list", json!({})).await);
        let connected = legacy(client).await;
        assert_eq!(names(connected.post(&request(1, "tools/list", json!({}))).await), modern, "the same in both eras");
        assert!(modern.iter().any(|name| name == has), "{modern:?}");
        for &tool in lacks {
            assert!(!modern.iter().any(|name| name == tool), "{tool} in {modern:?}");
            for result in [client.modern_call(tool, json!({})).await, connected.call(tool, json!({})).await] {
                assert_eq!(failure(&result), "forbidden", "{result}");
            }
        }
    }
    let refused = reader.modern_call("browser_evaluate", json!({ "session_id": "s" })).await;
    assert!(text(&refused).contains("it needs the scope browser:evaluate."), "{refused}");
    let refused = core.modern_call("session_list", json!({})).await;
    assert!(text(&refused).contains("it needs the tool group session."), "{refused}");
    assert!(keyed.world.daemon.seen().called.is_empty(), "nothing has reached a browser");
}

#[tokio::test]
async fn sessions_are_limited_by_key() {
    let keyed = Keyed::with(|config| config.session.per_principal = 1).await;
    let two = Create::named("two", ALL).within(Limits { sessions: Some(2), ..Limits::default() });
    let (two, one) = (keyed.client(two).await, keyed.client(Create::named("one", ALL)).await);
    for (client, most) in [(&two, 2), (&one, 1)] {
        for _ in 0..most {
            assert_eq!(failure(&client.modern_call("browser_open", json!({})).await), "");
        }
        let refused = client.modern_call("browser_open", json!({})).await;
        assert!(failure(&refused) == "quota_exceeded" && text(&refused).contains("session_close"), "{refused}");
        assert_eq!(client.modern_call("session_stats", json!({})).await["structuredContent"]["max_sessions"], most);
    }
}

#[tokio::test]
async fn calls_are_limited_by_key() {
    calls_are_limited(Keyed::start().await).await;
}

#[tokio::test]
async fn calls_are_limited_by_key_on_all_front_ends_together() {
    calls_are_limited(Keyed::replicas().await).await;
}

async fn calls_are_limited(keyed: Keyed) {
    keyed.world.daemon.answer(|call| {
        let waits = call.tool == "browser_wait_for";
        let last = if waits { Event::WaitForever } else { Event::end() };
        vec![Event::started(), last]
    });
    let limited = Create::named("limited", ALL).within(Limits { calls: Some(1), ..Limits::default() });
    let (client, other) = (keyed.client(limited).await, keyed.client(Create::named("other", ALL)).await);
    let running = client.again();
    let waiting = running.modern_call("browser_wait_for", json!({ "session_id": "a" }));
    let meanwhile = async {
        until("it runs", || keyed.world.daemon.seen().called.len() == 1).await;
        let refused = client.modern_call("browser_snapshot", json!({ "session_id": "b" })).await;
        assert!(failure(&refused) == "quota_exceeded" && text(&refused).contains("Wait for one"), "{refused}");
        assert_eq!(failure(&other.modern_call("browser_snapshot", json!({ "session_id": "b" })).await), "");
    };
    tokio::select! {
        ended = waiting => panic!("{ended}"),
        () = meanwhile => {}
    }
    // The caller has gone away: its call ends, and with it its place.
    let started = tokio::time::Instant::now();
    while !failure(&client.modern_call("browser_snapshot", json!({ "session_id": "b" })).await).is_empty() {
        assert!(started.elapsed() < LIMIT);
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn requests_per_second_are_limited_by_key_on_all_front_ends_together() {
    let keyed = Keyed::replicas().await;
    let limited = Create::named("limited", ALL).within(Limits { rate: Some(5), ..Limits::default() });
    let text = create(&keyed.path, &limited, now()).unwrap().text;
    // Once a later one lets in, both front ends know the earlier one.
    let other = keyed.client(Create::named("other", ALL)).await;
    let client = keyed.bearer(&text);
    let asked = join_all((0..20).map(|_| async { client.get("/sessions").await })).await;
    let (passed, refused): (Vec<_>, Vec<_>) = asked.into_iter().partition(|reply| reply.status == 200);
    // Five at once, and perhaps one that became due meanwhile.
    assert!((5..=8).contains(&passed.len()), "{} have passed", passed.len());
    for reply in &refused {
        assert_eq!((reply.status.as_u16(), &reply.json()["error"]), (429, &json!("quota_exceeded")));
        assert_eq!(reply.headers["retry-after"], "1");
    }
    assert_eq!(other.get("/sessions").await.status, 200, "others have their own pace");
    assert_eq!(client.get("/health").await.status, 200, "probes are not counted");
    sleep(Duration::from_millis(1100)).await;
    assert_eq!(client.get("/sessions").await.status, 200);
}

#[tokio::test]
async fn places_in_the_queue_are_limited_by_key() {
    places_in_the_queue_are_limited(Keyed::start().await).await;
}

#[tokio::test]
async fn places_in_the_queue_are_limited_by_key_on_all_front_ends_together() {
    places_in_the_queue_are_limited(Keyed::replicas().await).await;
}

async fn places_in_the_queue_are_limited(keyed: Keyed) {
    keyed.world.daemon.capacity(1);
    let limited = Create::named("limited", ALL).within(Limits { queue: Some(1), ..Limits::default() });
    let (client, other) = (keyed.client(limited).await, keyed.client(Create::named("other", ALL)).await);
    assert_eq!(failure(&client.modern_call("browser_open", json!({ "session_id": "has-it" })).await), "");
    let (first, another) = (client.again(), other.again());
    tokio::select! {
        ended = first.modern_call("browser_open", json!({ "session_id": "waits" })) => panic!("{ended}"),
        () = until("it waits", || keyed.world.daemon.waiting() == 1) => {}
    }
    until("it has gone", || keyed.world.daemon.waiting() == 0).await;
    let first = first.modern_call("browser_open", json!({ "session_id": "waits" }));
    let another = another.modern_call("browser_open", json!({ "session_id": "theirs" }));
    tokio::select! {
        ended = first => panic!("{ended}"),
        ended = another => panic!("{ended}"),
        () = async {
            until("both wait", || keyed.world.daemon.waiting() == 2).await;
            let refused = client.modern_call("browser_open", json!({ "session_id": "one-more" })).await;
            assert!(failure(&refused) == "quota_exceeded" && text(&refused).contains("try again"), "{refused}");
            until("it has left", || keyed.world.daemon.waiting() == 2).await;
        } => {}
    }
}

#[tokio::test]
async fn without_keys_everything_is_as_it_was() {
    let world = World::start().await;
    let client = world.client().header("authorization", "Bearer nonsense");
    assert_eq!(failure(&client.modern_call("browser_open", json!({})).await), "");
    assert_eq!(client.get("/health?token=x").await.status, 200);
    assert!(client.get("/health").await.json()["sessions"].is_number());
    let unknown: Value = client.post(&call(1, "x", json!({}))).await.json();
    assert!(unknown["error"].is_object());
}
