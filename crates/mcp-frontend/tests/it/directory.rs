//! Daemons that front ends find in the store: they come, go, and are not always heard.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use browserfleet_common::{
    lifecycle::Tasks,
    redis::{Directory, directory::Entry, testing::Server},
};
use browserfleet_mcp_frontend::{Pools, Wire, testing::FakeDaemon};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::proxy::Proxy;
use crate::world::{Behind, Client, LIMIT, World, failure};

/// Two front ends that are told of no daemon, and two daemons that nobody has announced.
struct Scene {
    world: World,
    directory: Directory,
    addresses: Vec<String>,
    /// What the daemons say of themselves, again and again.
    said: Arc<Mutex<BTreeMap<usize, Entry>>>,
}

impl Scene {
    async fn new() -> Self {
        let (tasks, redis) = (Tasks::new(), Server::start().await);
        let daemons: Vec<_> = (0..2).map(|_| FakeDaemon::new(&tasks)).collect();
        let mut addresses = Vec::new();
        for (number, daemon) in daemons.iter().enumerate() {
            daemon.restart(&format!("pool-{number}"), false);
            addresses.push(format!("http://{}", daemon.listen(None).await.unwrap()));
        }
        let directory = Directory::new(redis.client());
        let (said, announcing) = (Arc::<Mutex<BTreeMap<usize, Entry>>>::default(), directory.clone());
        let saying = Arc::clone(&said);
        tasks.spawn("daemons announce themselves", async move {
            loop {
                let entries: Vec<_> = saying.lock().unwrap().values().cloned().collect();
                for entry in entries {
                    // The store may be away.
                    let _unheard = announcing.announce(&entry).await;
                }
                sleep(Duration::from_millis(200)).await;
            }
        });
        let pools = Pools::default().found_in(directory.clone(), Wire::default());
        let behind = Behind { tasks, daemons, pools, redis: Some(redis) };
        Self { world: World::over(behind, 2, |_| (), |_| (), None).await, directory, addresses, said }
    }

    fn entry(&self, number: usize) -> Entry {
        Entry {
            address: self.addresses[number].clone(),
            pool_id: format!("pool-{number}"),
            incarnation: self.world.daemons[number].incarnation(),
            idle: 1,
            room: 1,
            queued: 0,
            closed: false,
        }
    }

    fn announce(&self, number: usize, entry: Entry) {
        self.said.lock().unwrap().insert(number, entry);
    }

    /// It has ended, or cannot reach the store any more.
    async fn leave(&self, number: usize) {
        self.said.lock().unwrap().remove(&number);
        // The last word that was under way may come after this one; it lapses.
        self.directory.leave(&self.addresses[number]).await.unwrap();
    }

    fn leases(&self) -> [usize; 2] {
        [0, 1].map(|number| self.world.daemons[number].leases().len())
    }

    /// Waits until every front end knows of so many daemons.
    async fn known(&self, client: &Client, count: usize) {
        let started = Instant::now();
        for address in &self.world.addresses {
            let mut one = client.again();
            one.addresses = vec![*address];
            while one.get("/ready").await.json()["daemons"]["in_service"] != count {
                assert!(started.elapsed() < LIMIT, "never {count} in service");
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

async fn open(client: &Client, session: &str) -> Value {
    client.call("browser_navigate", json!({ "url": "x", "session_id": session })).await
}

async fn click(client: &Client, session: &str) -> Value {
    client.call("browser_click", json!({ "target": "e1", "session_id": session })).await
}

#[tokio::test]
async fn a_daemon_is_used_as_long_as_it_is_announced_and_its_leases_longer() {
    let scene = Scene::new().await;
    let client = scene.world.legacy().await;
    assert_eq!(client.get("/ready").await.status, 503);
    assert_eq!(failure(&open(&client, "nowhere").await), "browser_gone");
    scene.announce(0, scene.entry(0));
    scene.known(&client, 1).await;
    assert_eq!(open(&client, "one").await["isError"], false);
    assert_eq!(scene.leases(), [1, 0]);
    // The other one comes, and says that it has more to give.
    let more = Entry { idle: 5, ..scene.entry(1) };
    scene.announce(1, more.clone());
    scene.known(&client, 2).await;
    assert_eq!(open(&client, "two").await["isError"], false);
    assert_eq!(scene.leases(), [1, 1]);
    // It shuts down, and later it has gone.
    scene.announce(1, Entry { closed: true, ..more });
    scene.known(&client, 1).await;
    assert_eq!(open(&client, "three").await["isError"], false);
    assert_eq!(scene.leases(), [2, 1]);
    scene.leave(1).await;
    let started = Instant::now();
    while client.get("/ready").await.json()["daemons"]["total"] != 1 {
        assert!(started.elapsed() < LIMIT, "it is still there");
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(click(&client, "two").await["isError"], false, "a lease is where it is, listed or not");
}

#[tokio::test]
async fn a_front_end_reaches_a_lease_of_which_it_has_not_heard() {
    let scene = Scene::new().await;
    let client = scene.world.legacy().await;
    scene.announce(0, scene.entry(0));
    scene.known(&client, 1).await;
    assert_eq!(open(&client, "s").await["isError"], false);
    scene.leave(0).await;
    // One that starts now has never seen the daemon listed.
    let redis = scene.world.redis.as_ref().unwrap();
    let pools = Pools::default().found_in(Directory::new(redis.client()), Wire::default());
    let settings = redis.settings();
    let tasks = Tasks::new();
    let behind = Behind { tasks: tasks.clone(), daemons: vec![FakeDaemon::new(&tasks)], pools, redis: None };
    let late = World::over(behind, 1, move |config| config.store = Some(settings.clone()), |_| (), None).await;
    let mut there = client.again();
    there.addresses.clone_from(&late.addresses);
    assert_eq!(click(&there, "s").await["isError"], false);
    assert_eq!(scene.world.daemons[0].seen().called, ["browser_navigate", "browser_click"]);
}

#[tokio::test]
async fn a_daemon_that_is_announced_but_out_of_reach_costs_no_caller_anything() {
    let scene = Scene::new().await;
    let client = scene.world.legacy().await;
    let far = Proxy::to(scene.addresses[1].strip_prefix("http://").unwrap().parse().unwrap(), &scene.world.tasks).await;
    far.cut(false);
    scene.announce(0, scene.entry(0));
    // It has more to give, so callers would be sent there first.
    let address = format!("http://{}", far.address);
    scene.announce(1, Entry { address: address.clone(), idle: 5, ..scene.entry(1) });
    let started = Instant::now();
    while client.get("/ready").await.json()["daemons"]["total"] != 2 {
        assert!(started.elapsed() < LIMIT, "never two");
        sleep(Duration::from_millis(20)).await;
    }
    scene.known(&client, 1).await;
    // Its word is heard several times more, and changes nothing.
    sleep(Duration::from_millis(1500)).await;
    let (asked, ()) = (far.refused(), scene.known(&client, 1).await);
    for number in 0..4 {
        assert_eq!(open(&client, &format!("s{number}")).await["isError"], false);
    }
    assert_eq!(scene.leases(), [4, 0]);
    assert!(far.refused() <= asked + 4, "only the front ends themselves try, once a second each");
    far.mend();
    scene.known(&client, 2).await;
    assert_eq!(open(&client, "there").await["isError"], false);
    assert_eq!(scene.leases(), [4, 1]);
}

#[tokio::test]
async fn without_its_store_a_front_end_goes_on_with_the_daemons_it_knows() {
    let mut scene = Scene::new().await;
    let client = scene.world.legacy().await;
    scene.announce(0, scene.entry(0));
    scene.known(&client, 1).await;
    let Some(redis) = scene.world.redis.as_mut() else { panic!("there is one") };
    redis.kill();
    scene.said.lock().unwrap().clear();
    // Several looks later.
    sleep(Duration::from_millis(2500)).await;
    assert_eq!(client.get("/ready").await.json()["daemons"]["in_service"], 1);
    redis.restart().await;
    // Nothing is listed in an empty directory.
    scene.known(&client, 0).await;
    scene.announce(0, scene.entry(0));
    scene.known(&client, 1).await;
}
