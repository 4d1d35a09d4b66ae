//! Groups of tools: served where URL, server and key agree.

use browserfleet_mcp_frontend::{Config, keys::command::Create};
use browserfleet_tools::{CATALOGUE, Group, Groups};
use serde_json::json;

use crate::{
    keys::Keyed,
    world::{Client, Reply, World, failure, request, text},
};

const TOOL: &str = "browser_cookie_list";

fn names(reply: &Reply) -> Vec<String> {
    let tools = reply.json()["result"]["tools"].clone();
    tools.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
}

async fn listed(client: &Client) -> Vec<String> {
    names(&client.modern("tools/list", json!({})).await)
}

/// The tools of core and these groups, as the catalogue has them.
fn of(groups: &[Group]) -> Vec<String> {
    let groups = Groups::ALWAYS.and(groups.iter().copied().collect());
    CATALOGUE.iter().filter(|tool| groups.has(tool.group)).map(|tool| tool.name.to_owned()).collect()
}

async fn calls(client: &Client) -> String {
    let result = client.modern_call(TOOL, json!({ "session_id": "s" })).await;
    assert!(
        failure(&result).is_empty() || text(&result).contains("caps=") || text(&result).contains("operator"),
        "{result}"
    );
    failure(&result).to_owned()
}

#[tokio::test]
async fn a_url_asks_for_groups_and_gets_them_beside_core() {
    let world = World::start().await;
    let plain = world.client();
    assert_eq!(listed(&plain).await, of(&[]));
    assert_eq!(calls(&plain).await, "forbidden");
    let refused = plain.modern_call(TOOL, json!({ "session_id": "s" })).await;
    assert!(text(&refused).contains("connect to /mcp?caps=storage"), "{refused}");
    assert!(world.daemon.seen().called.is_empty(), "nothing has reached a browser");
    let storage = world.client().asking("storage");
    assert_eq!(listed(&storage).await, of(&[Group::Storage]));
    assert_eq!(calls(&storage).await, "");
    assert_eq!(listed(&world.client().asking("core%2Cstorage")).await, of(&[Group::Storage]));
    assert_eq!(listed(&world.client().asking("all")).await.len(), CATALOGUE.len());
    let wrong = world.client().asking("storage,nonsense").modern("tools/list", json!({})).await;
    let told = String::from_utf8_lossy(&wrong.body).into_owned();
    assert!(wrong.status == 400 && told.contains("no such group of tools") && told.contains("testing"), "{told}");
}

#[tokio::test]
async fn a_legacy_connection_has_what_its_handshake_asked_for_at_every_front_end() {
    let world = World::replicas(2).await;
    let list = request(1, "tools/list", json!({}));
    let asked = world.client().asking("storage").shaken_hands().await;
    let (none, connection) = (world.legacy().await, asked.connection());
    for address in &world.addresses {
        let elsewhere = world.client().at(*address).header("mcp-session-id", &connection);
        assert_eq!(names(&elsewhere.post(&list).await), of(&[Group::Storage]), "whatever this request's URL says");
        let result = elsewhere.call(TOOL, json!({})).await;
        assert_eq!(failure(&result), "", "{result}");
        let other = none.again().at(*address).asking("storage");
        assert_eq!(names(&other.post(&list).await), of(&[]));
        assert_eq!(failure(&other.call(TOOL, json!({})).await), "forbidden");
    }
}

#[tokio::test]
async fn a_server_serves_groups_by_itself_and_leaves_others_out() {
    let only = |config: &mut Config| {
        config.tools.caps = [Group::Storage].into_iter().collect();
        config.tools.allowed = [Group::Storage].into_iter().collect();
    };
    let world = World::with(only).await;
    assert_eq!(listed(&world.client()).await, of(&[Group::Storage]));
    assert_eq!(listed(&world.client().asking("core")).await, of(&[]), "the URL decides where it says something");
    assert_eq!(listed(&world.client().asking("all")).await, of(&[Group::Storage]));
    let none = World::with(|config| config.tools.allowed = Groups::default()).await;
    assert_eq!(listed(&none.client().asking("all")).await, of(&[]));
    let refused = none.client().asking("all").modern_call(TOOL, json!({ "session_id": "s" })).await;
    assert!(failure(&refused) == "forbidden" && text(&refused).contains("operator has left"), "{refused}");
}

#[tokio::test]
async fn the_configuration_says_what_matters_to_clients_and_no_more() {
    let world = World::with(|config| config.call.reply_bytes = 12_345).await;
    let result = world.client().asking("config").modern_call("browser_get_config", json!({})).await;
    let config = &result["structuredContent"];
    assert_eq!(config["tools"]["served"], json!(["core", "session", "config"]));
    assert_eq!((&config["call"]["reply_bytes"], &config["session"]["idle_ttl"]), (&json!(12_345), &json!("10m")));
    let said: serde_json::Value = serde_json::from_str(text(&result).trim_start_matches("### Result\n")).unwrap();
    assert_eq!(said, *config);
    let keys: Vec<_> = config.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["call", "server", "session", "tools"], "no address, no file, no secret");
}

#[tokio::test]
async fn a_key_is_limited_to_its_groups_whatever_a_url_asks_for() {
    let keyed = Keyed::start().await;
    let scopes = ["browser:read", "browser:act", "browser:evaluate", "browser:files"];
    let few = Create::named("few", &scopes).for_groups(&[Group::Core, Group::Storage]);
    let few = keyed.client(few).await.asking("all");
    let expected: Vec<_> = of(&[Group::Storage]).into_iter().filter(|name| !name.starts_with("session_")).collect();
    assert_eq!(listed(&few).await, expected);
    let all = keyed.client(Create::named("all", &scopes)).await;
    assert_eq!(listed(&all).await, of(&[]), "a key gives leave, it asks for nothing");
    assert_eq!(listed(&all.asking("all")).await.len(), CATALOGUE.len());
}
