//! Files: what pages give away, what clients send, and links for programs that have no key. Asked of several front ends in turn.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use browserfleet_mcp_frontend::{keys::command::Create, testing::Event};
use browserfleet_tools::Group;
use http::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    artifacts::{link, read},
    keys::{Keyed, legacy},
    world::{Client, World, failure, text},
};

/// A world whose daemon gives a file away in each call, and says which files it was given.
async fn world(change: impl Fn(&mut browserfleet_mcp_frontend::Config)) -> World {
    let world = World::replicas_with(2, change).await;
    giving(&world);
    world
}

fn giving(world: &World) {
    world.daemon.answer(|call| {
        let given = serde_json::from_slice::<Value>(&call.arguments).unwrap()["files"].to_string();
        vec![Event::started(), Event::text("Result", &given), Event::download("report.pdf", b"%PDF"), Event::end()]
    });
}

async fn open(client: &Client) -> (String, Value) {
    let opened = client.modern_call("browser_navigate", json!({ "url": "x" })).await;
    (opened["structuredContent"]["session_id"].as_str().unwrap().to_owned(), opened)
}

/// What a daemon was given in a call.
fn given(result: &Value) -> Value {
    serde_json::from_str(text(result).lines().nth(1).unwrap()).unwrap_or_else(|_| panic!("{result}"))
}

fn url(result: &Value) -> String {
    let path = text(result).split("http://public/base").nth(1).unwrap_or_else(|| panic!("no link: {result}"));
    path.split_whitespace().next().unwrap().to_owned()
}

#[tokio::test]
async fn what_a_page_gives_away_is_a_resource_and_can_be_given_on() {
    let world = world(|_| {}).await;
    let client = world.legacy().await;
    let clicked = client.call("browser_click", json!({ "target": "e1" })).await;
    let uri = link(&clicked);
    assert!(text(&clicked).contains("report.pdf (image/png, 4 bytes): browserfleet://"), "{clicked}");
    assert!(!text(&clicked).contains("http://"), "nobody has said how this server is reached");
    let blob = read(&client, &uri).await["result"]["contents"][0]["blob"].clone();
    assert_eq!(blob, BASE64_STANDARD.encode("%PDF"));

    let files = json!({ "files": [{ "artifact": uri }, { "name": "b.txt", "content": "b" }, { "artifact": uri, "name": "c" }] });
    let uploaded = client.call("browser_file_upload", files).await;
    let file =
        |name: &str| json!({ "name": name, "content": "JVBERg==", "encoding": "base64", "mimeType": "image/png" });
    let expected = json!([file("report.pdf"), { "name": "b.txt", "content": "b" }, file("c")]);
    assert_eq!(given(&uploaded), expected);

    for (file, words) in [
        (json!({ "artifact": "browserfleet://default/0123" }), "there is no artifact"),
        (json!({ "artifact": "file:///etc/passwd" }), "there is no artifact"),
        (json!({ "artifact": 7 }), "invalid type"),
        (json!({ "artifact": uri, "content": "x" }), "not by both"),
    ] {
        let refused = client.call("browser_file_upload", json!({ "files": [file] })).await;
        assert_eq!(failure(&refused), "invalid_argument");
        assert!(text(&refused).contains(words), "{refused}");
    }
}

#[tokio::test]
async fn a_storage_state_that_was_kept_is_put_in_place_by_its_uri() {
    let world = World::replicas_with(2, |config| config.tools.caps = [Group::Storage].into_iter().collect()).await;
    world.daemon.answer(|call| {
        let given = String::from_utf8_lossy(&call.arguments).into_owned();
        let state = Event::file("storage-state.json", b"{\"cookies\":[]}");
        vec![Event::started(), Event::text("Result", &given), state, Event::end()]
    });
    let client = world.legacy().await;
    let kept = client.call("browser_storage_state", json!({ "filename": "login.json" })).await;
    let put = client.call("browser_set_storage_state", json!({ "filename": link(&kept) })).await;
    assert_eq!(given(&put), json!({ "storage_state": { "cookies": [] } }), "{put}");
    let gone = format!("{}0", link(&kept));
    let refused = client.call("browser_set_storage_state", json!({ "filename": gone })).await;
    assert!(text(&refused).contains("there is no artifact"), "{refused}");
    let path = client.call("browser_set_storage_state", json!({ "filename": "/etc/passwd" })).await;
    assert_eq!(given(&path), json!({ "filename": "/etc/passwd" }), "a daemon refuses paths");
}

#[tokio::test]
async fn a_file_sent_by_http_is_named_in_a_call() {
    let world = world(|_| {}).await;
    let client = world.client();
    let (session, _) = open(&client).await;
    let sender = client.again().header("x-session-id", &session).header("content-type", "text/plain");
    for method in [Method::PUT, Method::POST] {
        let sent = sender.send(method, "/artifacts/cv%20%C3%A9.txt", "my life").await;
        assert_eq!(sent.status, 201, "{sent:?}");
        assert_eq!((&sent.json()["name"], &sent.json()["size"]), (&json!("cv é.txt"), &json!(7)));
        let files = json!([{ "artifact": sent.json()["uri"] }]);
        let uploaded =
            client.modern_call("browser_file_upload", json!({ "session_id": session, "files": files })).await;
        assert_eq!(
            (&given(&uploaded)[0]["name"], &given(&uploaded)[0]["content"]),
            (&json!("cv é.txt"), &json!("bXkgbGlmZQ=="))
        );
    }
    let elsewhere = sender.send(Method::PUT, "/artifacts/a%2Fb", "x").await;
    assert_eq!((elsewhere.status.as_u16(), &elsewhere.json()["error"]), (400, &json!("invalid_argument")));
    let large = vec![0; (8 << 20) + 1];
    let stranger = client.again().header("x-session-id", "bs_00000000000000000000000000000000");
    for (sender, body, status, code) in [
        (&client, vec![], 400, "invalid_argument"),
        (&stranger, vec![1], 404, "handle_unknown_or_expired"),
        (&sender, large, 413, "quota_exceeded"),
    ] {
        let refused = sender.send(Method::POST, "/artifacts/a", body).await;
        assert_eq!((refused.status.as_u16(), &refused.json()["error"]), (status, &json!(code)));
    }
}

#[tokio::test]
async fn a_link_is_read_without_a_key_until_it_expires_or_its_session_ends() {
    let world = world(|config| {
        config.http.public_url = Some("http://public/base".to_owned());
        config.http.link_ttl = Duration::from_mins(1);
    })
    .await;
    let client = world.client();
    let (session, opened) = open(&client).await;
    let path = url(&opened);
    let got = client.get(&path).await;
    assert_eq!((got.status.as_u16(), &got.body[..]), (200, &b"%PDF"[..]));
    assert_eq!(client.send(Method::HEAD, &path, "").await.status, 200);
    let header = |name: &str| got.headers[name].to_str().unwrap();
    assert_eq!((header("content-type"), header("x-content-type-options")), ("image/png", "nosniff"));
    assert_eq!(header("content-disposition"), "attachment; filename*=UTF-8''report%2Epdf");
    assert_eq!(header("content-security-policy"), "sandbox; default-src 'none'");
    assert!(!path.contains(&session), "a link shows nothing of whose it is");
    for at in (12..path.len()).step_by(7) {
        let mut forged = path.clone().into_bytes();
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        let refused = client.get(&String::from_utf8(forged).unwrap()).await;
        assert_eq!(refused.status, 404, "byte {at}");
    }
    client.modern_call("session_close", json!({ "session_id": session })).await;
    assert_eq!(client.get(&path).await.status, 404);

    let hurried = self::world(|config| {
        config.http.public_url = Some("http://public/base".to_owned());
        config.http.link_ttl = Duration::from_millis(500);
    })
    .await;
    let client = hurried.client();
    let path = url(&open(&client).await.1);
    let patience = Instant::now() + Duration::from_secs(30);
    while client.get(&path).await.status != 404 {
        assert!(Instant::now() < patience, "it never expires");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn files_are_their_keys_own() {
    let keyed = Keyed::replicas().await;
    giving(&keyed.world);
    let one = keyed.client(Create::named("one", &["browser:read", "browser:act", "browser:files"])).await;
    let two = keyed.client(Create::named("two", &["browser:read", "browser:act", "browser:files"])).await;
    let reader = keyed.client(Create::named("reader", &["browser:read"])).await;
    let (session, opened) = open(&one).await;
    let mine = one.again().header("x-session-id", &session);
    let kept = mine.send(Method::PUT, "/artifacts/a", "a").await;
    assert_eq!(kept.status, 201, "{kept:?}");
    let theirs = two.again().header("x-session-id", &session);
    assert_eq!(theirs.send(Method::PUT, "/artifacts/a", "a").await.status, 404);
    let reading = reader.again().header("x-session-id", &session);
    assert_eq!(reading.send(Method::PUT, "/artifacts/a", "a").await.status, 403);
    let nobody = keyed.world.client().header("x-session-id", &session);
    assert_eq!(nobody.send(Method::PUT, "/artifacts/a", "a").await.status, 401);

    let other = legacy(&two).await;
    for uri in [link(&opened), kept.json()["uri"].as_str().unwrap().to_owned()] {
        let files = json!({ "files": [{ "artifact": uri }] });
        assert_eq!(failure(&other.call("browser_file_upload", files).await), "invalid_argument");
    }
}

#[tokio::test]
async fn a_session_begins_with_logins_if_its_caller_may_bring_some() {
    let keyed = Keyed::replicas().await;
    giving(&keyed.world);
    let state = json!({ "storage_state": { "cookies": [] } });
    for (name, scopes, code) in
        [("reader", &["browser:read"][..], "forbidden"), ("writer", &["browser:read", "browser:evaluate"][..], "")]
    {
        let client = keyed.client(Create::named(name, scopes)).await;
        let opened = client.modern_call("browser_open", state.clone()).await;
        assert_eq!(failure(&opened), code, "{opened}");
        let without = client.modern_call("browser_open", json!({})).await;
        assert_eq!(failure(&without), "", "{without}");
    }
}
