//! What pages say on their console and ask of the network, as agents read it.

use browserfleet_tests::{
    daemon::{Answer, Daemon, Lease},
    pages::Pages,
};
use serde_json::json;

type Outcome = anyhow::Result<()>;

async fn begin(path: &str, until: &str) -> anyhow::Result<(Daemon, Pages, Lease)> {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("observing").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at(path) })).await?;
    if !until.is_empty() {
        lease.ok("browser_wait_for", json!({ "text": until })).await?;
    }
    Ok((daemon, pages, lease))
}

/// The reply's result, without its heading.
fn result(answer: &Answer) -> &str {
    let text = answer.text.strip_prefix("### Result\n").unwrap_or(&answer.text);
    text.trim_end()
}

/// Names of what every JavaScript object has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_may_call_its_elements_what_it_likes() -> Outcome {
    let (_daemon, _pages, lease) = begin("/", "").await?;
    let function = "() => { document.body.innerHTML = '<constructor>Named so</constructor><button>Go</button>';
        document.body.append(document.createElementNS('http://www.w3.org/1999/xhtml', 'toString')); }";
    lease.ok("browser_evaluate", json!({ "function": function })).await?;
    let shown = lease.ok("browser_snapshot", json!({})).await?;
    assert!(shown.text.contains("Named so") && shown.text.contains("button \"Go\""), "{}", shown.text);
    assert!(!shown.text.contains("native code"), "{}", shown.text);
    let missing = lease.call("browser_click", json!({ "target": "getByRole('constructor')" })).await?;
    let why = missing.error.map(|error| error.message).unwrap_or_default();
    assert!(why.contains("constructor") && !why.contains("native code"), "{why}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_browser_shows_nothing_of_its_rehearsal() -> Outcome {
    let daemon = Daemon::start(|_| {})?;
    let lease = daemon.lease("observing").await?;
    let function = "() => [document.documentElement.outerHTML, location.href, history.length,
        performance.getEntriesByType('resource').length, document.activeElement.localName].join(' ')";
    let found = lease.ok("browser_evaluate", json!({ "function": function })).await?;
    let blank = "\"<html><head></head><body></body></html> about:blank 1 0 body\"";
    assert_eq!(found.fenced.first().map(|(_, words)| words.trim()), Some(blank), "{}", found.text);
    let shown = lease.ok("browser_snapshot", json!({})).await?;
    assert!(!shown.text.contains("ref="), "{}", shown.text);
    for tool in ["browser_console_messages", "browser_network_requests"] {
        let said = lease.ok(tool, json!({})).await?;
        assert!(said.fenced.is_empty(), "{tool}: {}", said.text);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_console_is_kept_by_level_and_page() -> Outcome {
    let (daemon, pages, lease) = begin("/console", "").await?;
    // The last of them are told when the page has been idle for a moment.
    let mut messages = Answer::default();
    for _ in 0..50 {
        messages = lease.ok("browser_console_messages", json!({})).await?;
        if messages.text.contains("nor this") && messages.text.contains("404") && messages.text.contains("nobody") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let at = pages.at("/console");
    for line in [
        "Total messages: 9 (Errors: 4, Warnings: 1)\nReturning 8 messages for level \"info\"\n\n".to_owned(),
        format!("[LOG] hello {{a: 1, b: Array(2)}} [1, x] null undefined NaN @ {at}:2\n"),
        format!("[INFO] for your information @ {at}:3\n"),
        format!("[WARNING] look out @ {at}:4\n"),
        format!("[ERROR] on purpose @ {at}:5\n"),
        format!("[ASSERT] it does not hold @ {at}:7\n"),
        format!(
            "[ERROR] Failed to load resource: the server responded with a status of 404 (Not Found) @ {}",
            pages.at("/api/missing")
        ),
        "TypeError: nobody caught this\n    at ".to_owned(),
        "Error: nor this\n    at ".to_owned(),
    ] {
        assert!(messages.text.contains(&line), "{line}\nin {}", messages.text);
    }
    assert!(!messages.text.contains("details"), "{}", messages.text);
    let errors = lease.ok("browser_console_messages", json!({ "level": "error" })).await?;
    assert!(errors.text.contains("on purpose") && !errors.text.contains("look out"), "{}", errors.text);
    let debug = lease.ok("browser_console_messages", json!({ "level": "debug" })).await?;
    assert!(debug.text.contains("[DEBUG] details") && !debug.text.contains("Returning"), "{}", debug.text);

    let page = lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    assert!(!page.text.contains("- Console:"), "{}", page.text);
    let fresh = lease.ok("browser_console_messages", json!({})).await?;
    assert_eq!(result(&fresh), "Total messages: 0 (Errors: 0, Warnings: 0)");
    let all = lease.ok("browser_console_messages", json!({ "all": true, "level": "warning" })).await?;
    assert!(all.text.contains("look out") && !all.text.contains("hello"), "{}", all.text);
    lease.ok("browser_console_clear", json!({})).await?;
    let cleared = lease.ok("browser_console_messages", json!({ "all": true })).await?;
    assert_eq!(result(&cleared), "Total messages: 0 (Errors: 0, Warnings: 0)");
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_listed_with_their_numbers() -> Outcome {
    let (daemon, pages, lease) = begin("/requests", "all asked").await?;
    let at = |path: &str| pages.at(path);
    let listed = lease.ok("browser_network_requests", json!({})).await?;
    let expected = format!(
        "3. [GET] {} => [404] Not Found\n4. [GET] {} => [200] OK\n5. [POST] {} => [200] OK\n6. [GET] {} => [307] Temporary Redirect\n\
         7. [GET] {} => [200] OK\n8. [GET] {} => [404] Not Found\n9. [GET] {} => [200] OK\n10. [GET] {} => [200] OK\n\
         11. [GET] http://127.0.0.1:1/ => [FAILED] net::ERR_UNSAFE_PORT\n\n\
         Note: 2 static requests not shown, run with \"static\" option to see them.",
        at("/missing.png"),
        at("/api/data"),
        at("/api/data?q=1"),
        at("/api/moved"),
        at("/api/data"),
        at("/api/missing"),
        at("/api/large"),
        at("/api/binary"),
    );
    assert_eq!(result(&listed), expected);
    let everything =
        lease.ok("browser_network_requests", json!({ "static": true, "filter": "pixel|requests$" })).await?;
    let expected = format!("1. [GET] {} => [200] OK\n2. [GET] {} => [200] OK", at("/requests"), at("/pixel.png"));
    assert_eq!(result(&everything), expected);
    let wrong = lease.call("browser_network_requests", json!({ "filter": "([" })).await?;
    assert_eq!(wrong.outcome(), "invalid_argument", "{wrong:?}");
    lease.ok("browser_network_clear", json!({})).await?;
    assert_eq!(result(&lease.ok("browser_network_requests", json!({ "static": true })).await?), "");
    lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    let fresh = lease.ok("browser_network_requests", json!({ "static": true })).await?;
    assert!(result(&fresh).starts_with(&format!("1. [GET] {}", at("/"))), "{}", fresh.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_is_shown_in_full_or_in_part() -> Outcome {
    let (daemon, pages, lease) = begin("/requests", "all asked").await?;
    let show = |index: usize, part: &'static str| {
        let arguments =
            if part.is_empty() { json!({ "index": index }) } else { json!({ "index": index, "part": part }) };
        lease.call("browser_network_request", arguments)
    };
    let post = show(5, "").await?;
    for line in [
        format!(
            "### Result\n#5 [POST] {}\n\n  General\n    status:    [200] OK\n    duration:  ",
            pages.at("/api/data?q=1")
        ),
        "    type:      fetch\n    mimeType:  application/json\n\n  Request headers\n".to_owned(),
        "    x-mine: yes\n".to_owned(),
        "\n\n  Response headers\n".to_owned(),
        "    server: test\n".to_owned(),
        "Call browser_network_request with part=\"request-body\" to read the request body.\n".to_owned(),
        "Call browser_network_request with part=\"response-body\" to read the response body.".to_owned(),
    ] {
        assert!(post.text.contains(&line), "{line}\nin {}", post.text);
    }
    assert_eq!(result(&show(5, "request-body").await?), "{\"n\":1}");
    assert_eq!(result(&show(5, "response-body").await?), "{\"method\":\"POST\"}");
    assert!(result(&show(5, "response-headers").await?).contains("content-type: application/json"));
    assert!(result(&show(5, "request-headers").await?).contains("content-type: application/json"));
    assert_eq!(result(&show(4, "request-body").await?), "The request has no body.");
    assert_eq!(result(&show(6, "response-body").await?), "The response has no body.");
    assert_eq!(result(&show(8, "response-body").await?), "nothing here");
    assert!(result(&show(9, "response-body").await?).ends_with("[cut here: 262144 of 1048576 bytes are shown]"));
    assert_eq!(result(&show(10, "response-body").await?), "The body is not text: 3 bytes of application/octet-stream");
    let picture = show(2, "response-body").await?;
    assert_eq!(picture.images.len(), 1, "{picture:?}");
    let unknown = show(99, "").await?;
    assert!(unknown.error.unwrap_or_default().message.contains("Request #99 not found"));
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn part_of_a_frame_is_shown_as_part_of_its_page() -> Outcome {
    let (daemon, pages, lease) = begin("/frame", "").await?;
    let whole = lease.ok("browser_snapshot", json!({})).await?;
    let target = whole.find_ref("button \"In the frame\"")?;
    let part = lease.ok("browser_snapshot", json!({ "target": target })).await?;
    let header = format!("- Page URL: {}\n- Page Title: Outer\n", pages.at("/frame"));
    assert!(part.text.contains(&header) && part.text.contains("In the frame"), "{}", part.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_requests_are_exported_as_an_archive() -> Outcome {
    let (daemon, pages, lease) = begin("/requests", "all asked").await?;
    let saved = lease.ok("browser_har_export", json!({ "bodies": true })).await?;
    let file = &saved.files[0];
    assert_eq!((file.name.as_str(), file.mime_type.as_str()), ("requests.har", "application/json"));
    let archive: serde_json::Value = serde_json::from_slice(&file.bytes)?;
    assert_eq!(archive["log"]["version"], "1.2");
    let entries = archive["log"]["entries"].as_array().map_or(&[][..], Vec::as_slice);
    let of = |path: &str| entries.iter().find(|entry| entry["request"]["url"] == pages.at(path).as_str());
    let posted = of("/api/data?q=1").unwrap_or(&serde_json::Value::Null);
    assert_eq!(
        (&posted["request"]["method"], &posted["response"]["status"]),
        (&json!("POST"), &json!(200)),
        "{posted}"
    );
    assert_eq!(posted["request"]["queryString"], json!([{ "name": "q", "value": "1" }]));
    assert_eq!(posted["response"]["content"]["text"], "{\"method\":\"POST\"}");
    assert!(posted["startedDateTime"].as_str().is_some_and(|at| at.starts_with("20") && at.ends_with('Z')), "{posted}");
    let moved = of("/api/moved").unwrap_or(&serde_json::Value::Null);
    assert!(moved["response"]["redirectURL"].as_str().is_some_and(|to| to.ends_with("/api/data")), "{moved}");
    assert!(of("/api/large").is_some_and(|large| large["response"]["content"]["text"].is_null()), "too large");
    assert!(entries.iter().any(|entry| entry["response"]["_error"].is_string()), "one has failed");
    let told = saved.structured.unwrap_or_default();
    assert_eq!(
        (&told["requests"], told["bodies_left_out"].as_u64() > Some(0)),
        (&json!(entries.len()), true),
        "{told}"
    );
    daemon.end().await
}
