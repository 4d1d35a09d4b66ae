//! What is too large for a reply: pages and cursors, resources, pictures. Asked of several front ends in turn.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use async_trait::async_trait;
use browserfleet_common::{
    artifact::{Artifact, Store},
    session::Owner,
};
use browserfleet_mcp_frontend::{Unavailable, keys::command::Create, testing::Event};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    keys::Keyed,
    world::{Client, World, failure, modern_params, request, text},
};

/// A snapshot of more than 100 KB.
fn snapshot() -> String {
    let mut text = "```yaml\n".to_owned();
    for n in 0..4000 {
        let _infallible = writeln!(text, "- button \"Press é {n}\" [ref=e{n}]");
    }
    text + "```"
}

async fn replicas() -> World {
    let world = World::replicas(2).await;
    let text = snapshot();
    assert!(text.len() > 100_000);
    world.daemon.answer(move |_| {
        vec![
            Event::started(),
            Event::text("Page", "- Page URL: http://h/"),
            Event::text("Snapshot", &text),
            Event::end(),
        ]
    });
    world
}

fn cursor(result: &Value) -> Option<String> {
    result["structuredContent"]["next_cursor"].as_str().map(str::to_owned)
}

/// The lines of a snapshot that a reply shows.
fn nodes(result: &Value) -> Vec<String> {
    text(result).lines().filter(|line| line.starts_with("- button")).map(str::to_owned).collect()
}

/// Reads on to the end.
async fn rest(client: &Client, mut result: Value) -> Vec<String> {
    let mut all = nodes(&result);
    while let Some(cursor) = cursor(&result) {
        result = client.call("browser_read_cursor", json!({ "cursor": cursor })).await;
        assert_eq!((&result["isError"], text(&result).matches("```").count()), (&json!(false), 2), "{result}");
        assert!(text(&result).len() < 42_000);
        all.extend(nodes(&result));
    }
    all
}

pub(crate) fn link(result: &Value) -> String {
    let mut blocks = result["content"].as_array().unwrap().iter();
    blocks.rfind(|block| block["type"] == "resource_link").unwrap_or_else(|| panic!("no link: {result}"))["uri"]
        .as_str()
        .unwrap()
        .to_owned()
}

pub(crate) async fn read(client: &Client, uri: &str) -> Value {
    client.post(&request(1, "resources/read", json!({ "uri": uri }))).await.json()
}

#[tokio::test]
async fn a_large_reply_is_read_page_by_page_at_any_front_end() {
    let world = replicas().await;
    let client = world.legacy().await;
    let first = client.call("browser_snapshot", json!({})).await;
    assert!(text(&first).len() < 41_000 && text(&first).starts_with("### Page\n- Page URL"), "{first}");
    assert_eq!(first["structuredContent"]["total_bytes"], snapshot().len());
    let cut = text(&first).lines().last().unwrap().to_owned();
    assert!(cut.contains("browser_read_cursor") && cut.contains(&cursor(&first).unwrap()), "{cut}");
    let all = rest(&client, first.clone()).await;
    assert_eq!(all, snapshot().lines().filter(|line| line.starts_with("- button")).collect::<Vec<_>>());
    // Smaller steps give the same; a page may be read again.
    let again = json!({ "cursor": cursor(&first).unwrap(), "max_bytes": 1024 });
    let small = client.call("browser_read_cursor", again.clone()).await;
    assert!(text(&small).len() < 1400 && nodes(&small)[0] == all[nodes(&first).len()], "{small}");
    assert_eq!(nodes(&client.call("browser_read_cursor", again).await), nodes(&small));
    // The whole as a resource, from whichever front end.
    for _ in 0..2 {
        let whole = read(&client, &link(&first)).await["result"]["contents"][0].clone();
        assert_eq!((whole["text"].as_str(), &whole["mimeType"]), (Some(snapshot().as_str()), &json!("text/plain")));
    }
    let listed = client.post(&request(1, "resources/list", json!({}))).await.json()["result"]["resources"].clone();
    assert_eq!(listed.as_array().unwrap().iter().filter(|resource| resource["uri"] == link(&first)).count(), 1);
}

#[tokio::test]
async fn modern_clients_read_on_by_cursor_alone() {
    let world = replicas().await;
    let client = world.client();
    let first = client.modern_call("browser_navigate", json!({ "url": "http://h/" })).await;
    let next = client
        .modern_call("browser_read_cursor", json!({ "cursor": cursor(&first).unwrap(), "session_id": "any" }))
        .await;
    assert_eq!(next["isError"], false, "{next}");
    let uri = link(&first);
    let reader = client.again().for_modern("resources/read", &uri);
    let read = reader.post(&request(1, "resources/read", modern_params(json!({ "uri": uri })))).await.json();
    assert_eq!(read["result"]["contents"][0]["text"], snapshot(), "{read}");
    assert_eq!((&read["result"]["ttlMs"], &read["result"]["cacheScope"]), (&json!(0), &json!("private")));
    // Without a key a call is nobody's in particular: nothing is listed.
    let listed = client.modern("resources/list", json!({})).await.json();
    assert_eq!(listed["result"]["resources"], json!([]), "{listed}");
    let unknown = json!({ "uri": "browserfleet://bs_0/1" });
    let reader = client.again().for_modern("resources/read", "browserfleet://bs_0/1");
    assert_eq!(reader.post(&request(1, "resources/read", modern_params(unknown))).await.code(), -32602);
}

#[tokio::test]
async fn cursors_that_are_forged_foreign_or_late_mean_nothing() {
    let world = replicas().await;
    let client = world.legacy().await;
    let first = client.call("browser_snapshot", json!({ "session_id": "mine" })).await;
    let good = cursor(&first).unwrap();
    let mut answers = Vec::new();
    let forged = format!("{}x", &good[..good.len() - 1]);
    // Where another one leads, under the signature of this one.
    let other =
        cursor(&client.call("browser_read_cursor", json!({ "cursor": good, "max_bytes": 1024 })).await).unwrap();
    let part = |cursor: &str, at: usize| cursor.split('.').nth(at).unwrap().to_owned();
    let mixed = [part(&good, 0), part(&good, 1), part(&other, 2), part(&good, 3)].join(".");
    assert!(mixed != good && mixed != other);
    for bad in ["", "x", &forged, &mixed, &good[..good.len() / 2], &"x".repeat(100_000)] {
        answers.push(client.call("browser_read_cursor", json!({ "cursor": bad })).await);
    }
    client.call("session_close", json!({ "session_id": "mine" })).await;
    answers.push(client.call("browser_read_cursor", json!({ "cursor": good })).await);
    // A session of the same name is another one.
    client.call("browser_snapshot", json!({ "session_id": "mine" })).await;
    answers.push(client.call("browser_read_cursor", json!({ "cursor": good })).await);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "not even the text differs");
    assert_eq!(failure(&answers[0]), "handle_unknown_or_expired");
    assert_eq!(read(&client, &link(&first)).await["error"]["code"], -32002);
    for bad in ["", "file:///etc/passwd", "browserfleet://mine/../x", "browserfleet://other/1"] {
        assert_eq!(read(&client, bad).await["error"]["code"], -32002, "{bad}");
    }
}

#[tokio::test]
async fn a_session_that_lapses_takes_its_pages_along() {
    let world = World::with(|config| config.session.idle_ttl = Duration::from_millis(400)).await;
    let text = snapshot();
    world.daemon.answer(move |_| vec![Event::started(), Event::text("Snapshot", &text), Event::end()]);
    let client = world.legacy().await;
    let first = client.call("browser_snapshot", json!({})).await;
    for _ in 0..4 {
        sleep(Duration::from_millis(200)).await;
        let page = client.call("browser_read_cursor", json!({ "cursor": cursor(&first) })).await;
        assert_eq!(page["isError"], false, "reading is use: {page}");
    }
    sleep(Duration::from_millis(600)).await;
    let late = client.call("browser_read_cursor", json!({ "cursor": cursor(&first) })).await;
    assert_eq!(failure(&late), "handle_unknown_or_expired");
}

#[tokio::test]
async fn pictures_that_are_large_or_have_a_name_are_resources() {
    let world = World::with(|config| config.call.inline_bytes = 1000).await;
    world.daemon.answer(|call| {
        let size = if String::from_utf8_lossy(&call.arguments).contains("large") { 5000 } else { 10 };
        vec![Event::started(), Event::text("Result", "done"), Event::image(&vec![7; size]), Event::end()]
    });
    let client = world.legacy().await;
    let types = |result: &Value| {
        let blocks = result["content"].as_array().unwrap();
        blocks.iter().map(|block| block["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let small = client.call("browser_take_screenshot", json!({})).await;
    assert_eq!(types(&small), ["text", "image"]);
    let named = client.call("browser_take_screenshot", json!({ "filename": "shot.png" })).await;
    assert_eq!(types(&named), ["text", "image", "resource_link"]);
    assert!(text(&named).contains(&link(&named)) && named["content"][2]["name"] == "shot.png", "{named}");
    let large = client.call("browser_take_screenshot", json!({ "element": "large" })).await;
    assert_eq!(types(&large), ["text", "resource_link"]);
    let contents = read(&client, &link(&large)).await["result"]["contents"][0].clone();
    assert_eq!((contents["blob"].as_str().unwrap().len(), &contents["mimeType"]), (6668, &json!("image/png")));
    // A text with a name is kept as well.
    world.daemon.answer(|_| vec![Event::started(), Event::text("Snapshot", "- button"), Event::end()]);
    let kept = client.call("browser_snapshot", json!({ "filename": "page.yaml" })).await;
    assert!(text(&kept).contains("- button"), "{kept}");
    assert_eq!(read(&client, &link(&kept)).await["result"]["contents"][0]["text"], "- button");
}

/// Keeps nothing, as a store that is away.
#[derive(Debug)]
struct Away;

#[async_trait]
impl Store for Away {
    async fn keep_artifact(&self, _: &Owner, _: &Artifact, _: Vec<u8>, _: usize) -> Result<bool, Unavailable> {
        Err(Unavailable { what: "the store of artifacts", cause: None })
    }

    async fn artifact(&self, _: &Owner, _: &str) -> Result<Option<(Artifact, Vec<u8>)>, Unavailable> {
        Err(Unavailable { what: "the store of artifacts", cause: None })
    }

    async fn artifacts(&self, _: &Owner) -> Result<Vec<Artifact>, Unavailable> {
        Err(Unavailable { what: "the store of artifacts", cause: None })
    }
}

#[tokio::test]
async fn what_a_tool_has_done_is_told_even_if_it_cannot_be_kept() {
    let world = World::keeping(|stores| stores.artifacts = Arc::new(Away)).await;
    let text = snapshot();
    world.daemon.answer(move |_| {
        vec![Event::started(), Event::text("Snapshot", &text), Event::image(&vec![7; 2 << 20]), Event::end()]
    });
    let opened = world.client().modern_call("browser_navigate", json!({ "url": "x" })).await;
    assert_eq!(opened["isError"], false, "{}", text_start(&opened));
    assert_eq!((nodes(&opened).len(), &opened["content"][1]["type"]), (4000, &json!("image")));
    let handle = opened["structuredContent"]["session_id"].as_str().unwrap();
    let again = world.client().modern_call("browser_snapshot", json!({ "session_id": handle })).await;
    assert_eq!(again["isError"], false, "its session lives");
    // What a page gave away is lost, and it is said.
    world.daemon.answer(|_| vec![Event::started(), Event::download("report.pdf", b"%PDF"), Event::end()]);
    let given = world.client().modern_call("browser_snapshot", json!({ "session_id": handle })).await;
    assert!(
        given["isError"] == false && text_start(&given).contains("report.pdf (4 bytes) could not be kept"),
        "{given}"
    );
}

fn text_start(result: &Value) -> String {
    text(result).chars().take(200).collect()
}

#[tokio::test]
async fn what_has_a_name_is_what_was_asked_for() {
    let world = World::start().await;
    let code = "x".repeat(1000);
    world.daemon.answer(move |_| {
        vec![Event::started(), Event::text("Result", "42"), Event::text("Ran Playwright code", &code), Event::end()]
    });
    let client = world.legacy().await;
    let kept = client.call("browser_evaluate", json!({ "function": "() => 42", "filename": "answer.json" })).await;
    assert_eq!(read(&client, &link(&kept)).await["result"]["contents"][0]["text"], "42");
}

#[tokio::test]
async fn nobody_reads_what_is_another_keys() {
    let keyed = Keyed::replicas().await;
    let text = snapshot();
    keyed.world.daemon.answer(move |_| vec![Event::started(), Event::text("Snapshot", &text), Event::end()]);
    let one = keyed.client(Create::named("one", &["browser:read"])).await;
    let two = keyed.client(Create::named("two", &["browser:read"])).await;
    let first = one.modern_call("browser_navigate", json!({ "url": "x", "session_id": "same" })).await;
    two.modern_call("browser_navigate", json!({ "url": "x", "session_id": "same" })).await;
    let read = json!({ "cursor": cursor(&first) });
    assert_eq!(one.modern_call("browser_read_cursor", read.clone()).await["isError"], false);
    let foreign = two.modern_call("browser_read_cursor", read).await;
    let nonsense = two.modern_call("browser_read_cursor", json!({ "cursor": "nonsense" })).await;
    assert_eq!((failure(&foreign), &foreign), ("handle_unknown_or_expired", &nonsense));
    let listed = |client: Client| async move {
        client.modern("resources/list", json!({})).await.json()["result"]["resources"].as_array().unwrap().clone()
    };
    let (ones, twos) = (listed(one).await, listed(two.again()).await);
    assert!(ones.iter().any(|resource| resource["uri"] == link(&first)));
    assert_eq!(twos.len(), 1);
    assert!(twos.iter().all(|resource| ones.iter().all(|other| other["uri"] != resource["uri"])));
    let uri = link(&first);
    let reader = two.again().for_modern("resources/read", &uri);
    assert_eq!(reader.post(&request(1, "resources/read", modern_params(json!({ "uri": uri })))).await.code(), -32602);
}

#[tokio::test]
async fn a_file_is_kept_and_not_shown_under_the_callers_name_or_its_own() {
    let world = World::replicas(2).await;
    world.daemon.answer(|_| {
        vec![
            Event::started(),
            Event::text("Result", "- Page as pdf"),
            Event::file("page.pdf", b"%PDF-1.7"),
            Event::end(),
        ]
    });
    let client = world.legacy().await;
    for (arguments, name) in [(json!({}), "page.pdf"), (json!({ "filename": "mine.pdf" }), "mine.pdf")] {
        let result = client.call("browser_snapshot", arguments).await;
        let content = result["content"].as_array().unwrap();
        let links: Vec<_> = content.iter().filter(|block| block["type"] == "resource_link").collect();
        assert_eq!((links.len(), content.len()), (1, 2), "once, and nothing else: {result}");
        assert_eq!(links[0]["name"], name);
        assert!(text(&result).contains(&format!("- {name} (image/png, 8 bytes): browserfleet://")), "{result}");
        let read = client.post(&request(1, "resources/read", json!({ "uri": links[0]["uri"] }))).await.json();
        assert_eq!(read["result"]["contents"][0]["blob"], "JVBERi0xLjc=");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_kept_is_a_failure() {
    let world = World::keeping(|stores| stores.artifacts = Arc::new(Away)).await;
    world.daemon.answer(|_| vec![Event::started(), Event::file("page.pdf", b"%PDF-1.7"), Event::end()]);
    let result = world.legacy().await.call("browser_snapshot", json!({})).await;
    assert_eq!(failure(&result), "store_unavailable");
}
