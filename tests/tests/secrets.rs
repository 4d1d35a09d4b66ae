//! Where secrets are typed, through gRPC.

use browserfleet_tests::{
    daemon::{Answer, Daemon, Lease},
    pages::Pages,
};
use serde_json::{Value, json};

type Outcome = anyhow::Result<()>;

/// Long enough that a page has gone elsewhere before it is typed.
const KEYS: usize = 500;

/// What the page around whoever listens has heard, or the page that listens itself.
async fn heard(lease: &Lease) -> anyhow::Result<String> {
    let answer = lease.ok("browser_evaluate", json!({ "function": "() => heard" })).await?;
    let (_, said) = answer.fenced.first().cloned().unwrap_or_default();
    Ok(serde_json::from_str::<Value>(&said)?.as_str().unwrap_or_default().to_owned())
}

/// Types the secret into the field of this name, key by key.
async fn typed(lease: &Lease, field: &str) -> anyhow::Result<Answer> {
    let shown = lease.ok("browser_snapshot", json!({})).await?;
    let field = shown.find_ref(field)?;
    let arguments = json!({ "target": field, "text": "${secret:CODE}", "slowly": true });
    Ok(lease.call("browser_type", arguments).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_of_a_secret_is_not_typed_into_the_next_document() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let other = pages.url.replace("127.0.0.1", "localhost");
    let secret = "7".repeat(KEYS);
    let ours = daemon.lease("ours").await?.with_secret("CODE", &secret, &pages.url);
    // The page itself goes elsewhere.
    ours.ok("browser_navigate", json!({ "url": format!("{}?to={other}/listening", pages.at("/code")) })).await?;
    let stopped = typed(&ours, "textbox \"Code\"").await?;
    assert_eq!(stopped.outcome(), "element_not_actionable", "{stopped:?}");
    ours.ok("browser_wait_for", json!({ "text": "Listening" })).await?;
    // A key that was on its way may arrive.
    assert!(heard(&ours).await?.len() <= 1, "{}", heard(&ours).await?);
    // The page gives the focus to a frame.
    let framing = format!("{}?frame={other}/listening", pages.at("/framing"));
    ours.ok("browser_navigate", json!({ "url": framing })).await?;
    let stopped = typed(&ours, "textbox \"Own\"").await?;
    assert_eq!(stopped.outcome(), "element_not_actionable", "{stopped:?}");
    assert!(stopped.error.is_some_and(|error| error.message.contains("no more of the secret was typed")));
    assert_eq!(heard(&ours).await?, "");
    daemon.pool().release(ours.released()).await?;

    let theirs = daemon.lease("theirs").await?.with_secret("CODE", &secret, &other);
    // A frame goes elsewhere, and the page around it does not.
    let framing = format!("{}?frame={other}/code?to={}", pages.at("/framing"), pages.at("/listening"));
    theirs.ok("browser_navigate", json!({ "url": framing })).await?;
    let stopped = typed(&theirs, "textbox \"Code\"").await?;
    assert_eq!(stopped.outcome(), "element_not_actionable", "{stopped:?}");
    assert!(heard(&theirs).await?.len() <= 1, "{}", heard(&theirs).await?);
    // One that stays gets all of it.
    let framing = format!("{}?frame={other}/code", pages.at("/framing"));
    theirs.ok("browser_navigate", json!({ "url": framing })).await?;
    let done = typed(&theirs, "textbox \"Code\"").await?;
    assert_eq!(done.outcome(), "ok", "{done:?}");
    let shown = theirs.ok("browser_snapshot", json!({})).await?;
    assert!(shown.text.contains(&secret), "{}", shown.text);
    daemon.end().await
}
