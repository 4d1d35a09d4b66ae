//! Stores that fail, and stores in which somebody else was faster.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use browserfleet_common::{
    ids::Principal,
    lifecycle::Tasks,
    redis::{Redis, Settings, testing::Server},
};
use browserfleet_mcp_frontend::{
    Unavailable,
    session::{Counts, Created, Key, LeaseRef, LeaseState, Limits, NewSession, Record, Scope, Store, Swapped},
};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::{
    proxy::Proxy,
    world::{LIMIT, World, failure, request, text},
};

/// Passes on to a store that works, unless told otherwise.
#[derive(Debug)]
struct Meddling {
    works: Arc<dyn Store>,
    /// Answers nothing.
    down: Arc<AtomicBool>,
    /// Lets another front end bind its lease just before the next binding.
    faster: AtomicBool,
    /// Does not say what it has created.
    mute: AtomicBool,
}

impl Meddling {
    fn with(works: Arc<dyn Store>) -> Self {
        Self { works, down: Arc::default(), faster: AtomicBool::default(), mute: AtomicBool::default() }
    }

    fn up(&self) -> Result<&dyn Store, Unavailable> {
        if self.down.load(Ordering::SeqCst) {
            return Err(Unavailable { what: "the session store", cause: Some("10.0.0.7 refused".into()) });
        }
        Ok(&*self.works)
    }
}

#[async_trait]
impl Store for Meddling {
    async fn create(&self, new: NewSession, limits: Limits) -> Result<Created, Unavailable> {
        let created = self.up()?.create(new, limits).await;
        if self.mute.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        created
    }

    async fn touch(&self, key: &Key) -> Result<Option<Record>, Unavailable> {
        self.up()?.touch(key).await
    }

    async fn revive(&self, key: &Key, limits: Limits, longest: Duration) -> Result<Option<Created>, Unavailable> {
        self.up()?.revive(key, limits, longest).await
    }

    async fn swap_lease(
        &self,
        key: &Key,
        birth: &str,
        expected: Option<&str>,
        next: LeaseState,
    ) -> Result<Swapped, Unavailable> {
        if next.lease.is_some() && self.faster.swap(false, Ordering::SeqCst) {
            let (lease_id, token, daemon) = ("elsewhere".to_owned(), "token".to_owned(), "local".to_owned());
            let other = LeaseState { lease: Some(LeaseRef { lease_id, token, daemon }), lost: None };
            self.up()?.swap_lease(key, birth, None, other).await?;
        }
        self.up()?.swap_lease(key, birth, expected, next).await
    }

    async fn end(&self, key: &Key, birth: Option<&str>) -> Result<Option<Record>, Unavailable> {
        self.up()?.end(key, birth).await
    }

    async fn list(&self, scope: Scope<'_>) -> Result<Vec<Record>, Unavailable> {
        self.up()?.list(scope).await
    }

    async fn counts(&self, principal: &Principal) -> Result<Counts, Unavailable> {
        self.up()?.counts(principal).await
    }

    async fn sweep(&self) -> Result<Vec<Record>, Unavailable> {
        self.up()?.sweep().await
    }
}

#[tokio::test]
async fn whoever_loses_the_race_returns_its_own_lease_only() {
    let world = World::keeping(|stores| {
        let works = Arc::clone(&stores.sessions);
        stores.sessions = Arc::new(Meddling { faster: AtomicBool::new(true), ..Meddling::with(works) });
    })
    .await;
    // The other lease is one this daemon does not know: it is given up for a new one in the same call.
    let result = world.legacy().await.call("browser_snapshot", json!({})).await;
    assert!(result["isError"] == false && text(&result).contains("- Lease: lease-2"), "{result}");
    assert_eq!(
        (world.daemon.seen().released, world.daemon.leases()),
        (vec!["lease-1".to_owned()], vec!["lease-2".to_owned()])
    );
}

#[tokio::test]
async fn without_its_store_a_front_end_says_so_and_recovers() {
    let down = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&down);
    let world = World::keeping(move |stores| {
        let works = Arc::clone(&stores.sessions);
        stores.sessions = Arc::new(Meddling { down: Arc::clone(&switch), ..Meddling::with(works) });
    })
    .await;
    let client = world.legacy().await;
    client.call("browser_snapshot", json!({})).await;
    down.store(true, Ordering::SeqCst);
    for result in [
        client.call("browser_click", json!({ "target": "e1" })).await,
        client.call("session_list", json!({})).await,
        world.client().modern_call("browser_open", json!({})).await,
    ] {
        let error = json!({ "error": { "code": "store_unavailable", "retry_after_ms": 1000 } });
        assert_eq!(result["structuredContent"], error);
        assert!(!text(&result).contains("10.0.0.7"), "{result}");
    }
    assert_eq!(client.get("/sessions").await.status, 503);
    let health = client.get("/health").await;
    assert_eq!((health.status.as_u16(), &health.json()["sessions"]), (200, &json!(null)));
    assert_eq!(client.post(&request(1, "tools/list", json!({}))).await.status, 200, "what needs no store goes on");
    down.store(false, Ordering::SeqCst);
    let after = client.call("browser_click", json!({ "target": "e1" })).await;
    assert!(failure(&after).is_empty() && text(&after).contains("lease-1"), "no session was lost: {after}");
}

#[tokio::test]
async fn a_session_whose_creation_is_not_heard_of_is_not_left_to_nobody() {
    let kept = Arc::new(std::sync::OnceLock::new());
    let keep = Arc::clone(&kept);
    let world = World::keeping(move |stores| {
        let works = keep.get_or_init(|| Arc::clone(&stores.sessions));
        stores.sessions = Arc::new(Meddling { mute: AtomicBool::new(true), ..Meddling::with(Arc::clone(works)) });
    })
    .await;
    let sessions: &Arc<dyn Store> = kept.get().unwrap();
    let open = async || sessions.list(Scope::All).await.unwrap().len();
    let client = world.client();
    let created = async {
        while open().await == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        reply = client.modern_call("browser_open", json!({})) => panic!("the store says nothing: {reply}"),
        created = timeout(LIMIT, created) => created.unwrap(),
    }
    // The client has hung up.
    let ended = async {
        while open().await > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, ended).await.expect("nobody can name it, so it ends");
}

#[tokio::test]
async fn a_connection_to_redis_that_went_silent_is_given_up() {
    let (server, tasks) = (Server::start().await, Tasks::new());
    let proxy = Proxy::to(SocketAddr::from(([127, 0, 0, 1], server.port())), &tasks).await;
    let limit = Duration::from_millis(300);
    let address = format!("redis://{}", proxy.address).parse().unwrap();
    let redis = Redis::new(Settings { command_timeout: limit, connect_timeout: limit, ..Settings::at(address) });
    assert!(redis.is_reachable().await);
    proxy.lets_through(false, false);
    assert!(!redis.is_reachable().await);
    proxy.lets_through(true, true);
    assert!(redis.is_reachable().await);
    assert_eq!(proxy.accepted(), 2, "over a new connection: the old one may be dead for ever");
}
