//! Names and roles of snapshots against Chromium's own accessibility tree, element by element, over the whole corpus.
//!
//! The rules are the same, ARIA's and those for accessible names, and where they leave room we read as Playwright MCP's
//! users know it. Every place where Chromium reads otherwise is written down in `corpus/accessibility.txt`: a new one is
//! an error of ours until somebody has looked at it.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use anyhow::Context as _;
use browserfleet_cdp::Session;
use browserfleet_common::egress::EgressRules;
use browserfleet_tests::{browsers::Browsers, pages::Pages};
use serde_json::{Value, json};
use tokio::time::Instant;

/// Our rules, and a list of what they say of every element of the document, by the order of the elements.
const OURS: &str = concat!(
    "(() => { 'use strict';\n",
    include_str!("../../crates/pool-daemon/src/page/inject/dom.js"),
    include_str!("../../crates/pool-daemon/src/page/inject/aria.js"),
    "globalThis.ours = (element) => ({ role: roleOf(element) ?? '', name: nameOf(element).text, html: preview(element) }); })()"
);

/// What Chromium's tree adds to the elements, or does not name by the rules.
const NOT_ELEMENTS: [&str; 8] =
    ["StaticText", "InlineTextBox", "LineBreak", "ListMarker", "RootWebArea", "none", "Iframe", "MenuListPopup"];

async fn call(session: &Session, method: &'static str, params: Value) -> anyhow::Result<Value> {
    let answer = session.call_raw(method, &params, Instant::now() + Duration::from_secs(30)).await?;
    Ok(serde_json::from_str(answer.get())?)
}

/// The differences of one page: ours and Chromium's name of an element.
async fn differences(session: &Session, url: &str, compared: &mut usize) -> anyhow::Result<Vec<String>> {
    call(session, "Page.navigate", json!({ "url": url })).await?;
    let loaded = "new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', done))";
    call(session, "Runtime.evaluate", json!({ "expression": loaded, "awaitPromise": true })).await?;
    call(session, "Runtime.evaluate", json!({ "expression": OURS })).await?;
    let tree = call(session, "Accessibility.getFullAXTree", json!({})).await?;
    let mut found = Vec::new();
    for node in tree["nodes"].as_array().context("a tree")? {
        let role = node["role"]["value"].as_str().unwrap_or_default();
        let Some(id) = node["backendDOMNodeId"].as_i64() else { continue };
        if node["ignored"] == true || NOT_ELEMENTS.contains(&role) {
            continue;
        }
        let object = call(session, "DOM.resolveNode", json!({ "backendNodeId": id })).await?;
        // The parts that inputs and players are made of are nobody's to see.
        let ask = "function () { return this instanceof Element && !/^(INPUT|AUDIO|VIDEO)$/.test(this.getRootNode().host?.tagName) ? ours(this) : null }";
        let object = &object["object"]["objectId"];
        let said = json!({ "objectId": object, "functionDeclaration": ask, "returnByValue": true });
        let said = call(session, "Runtime.callFunctionOn", said).await?["result"]["value"].clone();
        if said.is_null() {
            continue;
        }
        *compared += 1;
        let theirs =
            node["name"]["value"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        let ours = said["name"].as_str().unwrap_or_default();
        if ours != theirs {
            let html = said["html"].as_str().unwrap_or_default();
            found.push(format!("{html} {role}: ours {ours:?} Chromium {theirs:?}"));
        }
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_those_of_chromiums_accessibility_tree() -> anyhow::Result<()> {
    let (browsers, pages) = (Browsers::start(|_| {})?, Pages::start().await?);
    let browser = browsers.launch().await?;
    // Nobody's browser reaches nothing.
    let ready = browser.take_ready().context("a browser that is ready")?;
    ready.context.gate().context("its way out")?.lease(EgressRules::default());
    let root = browser.connection.browser();
    let target = call(&root, "Target.createTarget", json!({ "url": "about:blank" })).await?["targetId"].clone();
    let attached = call(&root, "Target.attachToTarget", json!({ "targetId": target, "flatten": true })).await?;
    let session = browser.connection.session(attached["sessionId"].as_str().context("a session")?);
    call(&session, "Page.enable", json!({})).await?;
    call(&session, "Accessibility.enable", json!({})).await?;
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let (mut found, mut compared) = (BTreeSet::new(), 0);
    for entry in fs::read_dir(&corpus)?.flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        if let Some(name) = name.strip_suffix(".html") {
            let url = pages.at(&format!("/corpus/{name}.html"));
            let lines = differences(&session, &url, &mut compared).await?;
            found.extend(lines.into_iter().map(|line| format!("{name}: {line}")));
        }
    }
    let known = fs::read_to_string(corpus.join("accessibility.txt"))?;
    let known: BTreeSet<String> =
        known.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect();
    let new: Vec<_> = found.difference(&known).collect();
    let over: Vec<_> = known.difference(&found).collect();
    assert!(compared > 3_000, "{compared} elements");
    assert!(new.is_empty() && over.is_empty(), "new: {new:#?}\nno more: {over:#?}");
    assert_eq!(browser.tree.end().await, 0);
    drop(browser);
    browsers.end().await
}
