//! What has changed is told to whom it concerns, whichever front end it is raised on.

use std::{fs, sync::Arc, time::Duration};

use async_trait::async_trait;
use browserfleet_common::ids::Principal;
use browserfleet_mcp_frontend::{
    Unavailable,
    bus::{Audience, Bus, Listener, Message},
    changes::Change,
    connection::Key,
    keys::command::{Create, revoke, rotate},
};
use browserfleet_tools::Group;
use http::Method;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::{
    keys::{Keyed, legacy},
    world::{Client, LIMIT, Open, World, modern_params, request},
};

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// The event stream of a legacy client.
async fn stream(client: &Client) -> Open {
    let mut stream = client.open(Method::GET, "/mcp", "").await;
    assert_eq!(stream.event().await.as_deref(), Some(": open"));
    stream
}

/// A modern client's subscription, and what was acknowledged of it.
async fn subscription(client: &Client, wanted: Value) -> (Open, Value) {
    let client = client.again().for_modern("subscriptions/listen", "");
    let message = request("s1", "subscriptions/listen", modern_params(json!({ "notifications": wanted })));
    let mut stream = client.open(Method::POST, &client.path, message.to_string()).await;
    let first = stream.message().await.unwrap();
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged", "{first}");
    assert_eq!(first["params"]["_meta"][SUBSCRIPTION], "s1");
    (stream, first["params"]["notifications"].clone())
}

async fn tools(client: &Client) -> (Open, Value) {
    subscription(client, json!({ "toolsListChanged": true })).await
}

/// What the next notification is about. Comments that keep a stream open are none, so they are no reason to wait on.
async fn method(stream: &mut Open) -> Value {
    let message = timeout(LIMIT, stream.message()).await.expect("a notification in time");
    message.expect("a notification")["method"].clone()
}

#[tokio::test]
async fn a_change_reaches_clients_of_both_eras_whichever_front_end_raises_it() {
    let world = World::replicas(2).await;
    let (mut one, mut other) = (stream(&world.legacy().await).await, stream(&world.legacy().await).await);
    let (mut here, accepted) = tools(&world.client()).await;
    let (mut there, _) = tools(&world.client().at(world.addresses[1])).await;
    assert_eq!(accepted, json!({ "toolsListChanged": true }));
    for app in &world.apps {
        app.changes().raise(&Principal::anonymous(), Change::Tools).await;
        for stream in [&mut one, &mut other, &mut here, &mut there] {
            assert_eq!(method(stream).await, "notifications/tools/list_changed");
        }
    }
}

/// A bus on which listening takes its time.
#[derive(Debug)]
struct Slow(Arc<dyn Bus>);

#[async_trait]
impl Bus for Slow {
    async fn publish(&self, channel: &Key, message: Message) -> Result<Audience, Unavailable> {
        self.0.publish(channel, message).await
    }

    async fn listen(&self, channel: &Key) -> Result<Listener, Unavailable> {
        sleep(Duration::from_millis(200)).await;
        self.0.listen(channel).await
    }
}

#[tokio::test]
async fn nothing_is_missed_once_a_subscription_is_acknowledged() {
    let world = World::keeping(|stores| stores.bus = Arc::new(Slow(Arc::clone(&stores.bus)))).await;
    let (mut stream, _) = tools(&world.client()).await;
    world.apps[0].changes().raise(&Principal::anonymous(), Change::Tools).await;
    assert_eq!(method(&mut stream).await, "notifications/tools/list_changed");
}

#[tokio::test]
async fn a_change_of_another_principal_is_none() {
    let world = World::replicas(2).await;
    let mut legacy = stream(&world.legacy().await).await;
    let (mut modern, _) = tools(&world.client()).await;
    world.apps[0].changes().raise(&Principal::of_key("0123456789ab"), Change::Tools).await;
    world.apps[0].changes().raise(&Principal::anonymous(), Change::Tools).await;
    for stream in [&mut legacy, &mut modern] {
        assert_eq!(method(stream).await, "notifications/tools/list_changed");
        let more = timeout(Duration::from_millis(300), stream.message()).await;
        assert!(more.is_err(), "that one only: {more:?}");
    }
}

#[tokio::test]
async fn a_subscriber_gets_what_he_asked_for_and_we_have() {
    let world = World::replicas(2).await;
    let wanted = json!({ "promptsListChanged": true, "resourceSubscriptions": ["test://x"] });
    let (mut nothing, accepted) = subscription(&world.client(), wanted).await;
    assert_eq!(accepted, json!({}));
    for change in [Change::Prompts, Change::Tools] {
        world.apps[1].changes().raise(&Principal::anonymous(), change).await;
    }
    world.shutdown[0].begin();
    let end = nothing.message().await.unwrap();
    assert_eq!((&end["id"], &end["result"]["resultType"]), (&json!("s1"), &json!("complete")), "{end}");
    assert_eq!(end["result"]["_meta"][SUBSCRIPTION], "s1");
    assert_eq!(nothing.message().await, None);
}

/// Changes the file of keys as an operator would.
fn edit(keyed: &Keyed, name: &str, groups: Value) {
    let mut file: Value = serde_json::from_slice(&fs::read(&keyed.path).unwrap()).unwrap();
    let keys = file["keys"].as_array_mut().unwrap();
    let key = keys.iter_mut().find(|key| key["name"] == name).unwrap();
    key["groups"] = groups;
    fs::write(&keyed.path, file.to_string()).unwrap();
}

#[tokio::test]
async fn clients_are_told_when_their_key_allows_other_tools() {
    let keyed = Keyed::replicas().await;
    let scopes = &["browser:read", "browser:act"];
    let (one, two) =
        (keyed.client(Create::named("one", scopes)).await, keyed.client(Create::named("two", scopes)).await);
    let (mut streams, mut others) = (Vec::new(), Vec::new());
    for address in &keyed.world.addresses {
        let (one, two) = (one.again().at(*address), two.again().at(*address));
        streams.extend([stream(&legacy(&one).await).await, tools(&one).await.0]);
        others.extend([stream(&legacy(&two).await).await, tools(&two).await.0]);
    }
    let count = async || one.modern("tools/list", json!({})).await.json()["result"]["tools"].as_array().unwrap().len();
    let all = count().await;
    for groups in [json!(["core"]), json!(["core", "session"])] {
        edit(&keyed, "one", groups);
        for stream in &mut streams {
            assert_eq!(method(stream).await, "notifications/tools/list_changed", "narrowed, then widened");
        }
    }
    assert_eq!(count().await, all);
    edit(&keyed, "one", json!(["core"]));
    for stream in &mut streams {
        assert_eq!(method(stream).await, "notifications/tools/list_changed");
    }
    assert!(count().await < all);
    // What changes about the other key is none of its tools, until it is revoked.
    rotate(&keyed.path, "two").unwrap();
    revoke(&keyed.path, "two").unwrap();
    for stream in &mut others {
        let last = timeout(LIMIT, stream.message()).await.unwrap();
        assert!(last.as_ref().is_none_or(|last| last["result"]["resultType"] == "complete"), "{last:?}");
    }
}

#[tokio::test]
async fn a_group_that_a_key_gets_is_told_to_those_whose_url_asks_for_it() {
    let keyed = Keyed::replicas().await;
    let new = Create::named("one", &["browser:read", "browser:evaluate"]).for_groups(&[Group::Core]);
    let client = keyed.client(new).await;
    let asking = client.again().asking("storage");
    let mut asked = [stream(&legacy(&asking).await).await, tools(&asking).await.0];
    let mut others = [stream(&legacy(&client).await).await, tools(&client).await.0];
    for groups in [json!(["core", "storage"]), json!(["core", "storage", "session"])] {
        edit(&keyed, "one", groups);
        for stream in &mut asked {
            assert_eq!(method(stream).await, "notifications/tools/list_changed");
        }
    }
    for stream in &mut others {
        assert_eq!(method(stream).await, "notifications/tools/list_changed", "of the group that is always served");
        let more = timeout(Duration::from_millis(300), stream.message()).await;
        assert!(more.is_err(), "and of no other: {more:?}");
    }
}
