//! What is recorded from one call to another: calls, what the browser does, what is seen. Through gRPC.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use browserfleet_tests::{
    checkpoints::Kept,
    daemon::{Answer, Daemon, File, Lease},
    pages::Pages,
};
use serde_json::{Value, json};

type Outcome = anyhow::Result<()>;

async fn go(lease: &Lease, url: &str) -> anyhow::Result<Answer> {
    lease.ok("browser_navigate", json!({ "url": url })).await
}

fn structured(answer: &Answer) -> Value {
    answer.structured.clone().unwrap_or_default()
}

fn message(answer: &Answer) -> &str {
    answer.error.as_ref().map_or("", |error| error.message.as_str())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_done_is_done_again_by_the_steps_of_its_recording() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("first").await?;
    let none = lease.call("browser_stop_recording", json!({})).await?;
    assert_eq!(message(&none), "No recording in progress, use browser_start_recording to start one.");
    go(&lease, &pages.at("/frame")).await?;
    let started = lease.ok("browser_start_recording", json!({})).await?;
    assert!(started.text.contains("Recording started. Call browser_stop_recording"), "{}", started.text);
    assert!(message(&lease.call("browser_start_recording", json!({})).await?).contains("is in progress"));

    let shown = go(&lease, &pages.at("/")).await?;
    lease
        .ok("browser_type", json!({ "target": shown.find_ref("textbox")?, "text": "Ada", "snapshot": "none" }))
        .await?;
    lease.ok("browser_snapshot", json!({})).await?;
    lease.ok("browser_tabs", json!({ "action": "list" })).await?;
    let missed = lease.call("browser_click", json!({ "target": "#nothing" })).await?;
    assert_eq!(missed.outcome(), "element_not_actionable");
    let steps = json!([
        { "tool": "browser_click", "arguments": { "target": shown.find_ref("Go")?, "element": "the button" } },
        { "tool": "browser_wait_for", "arguments": { "text": "thank you" } },
    ]);
    lease.ok("browser_batch", json!({ "steps": steps })).await?;

    let stopped = lease.ok("browser_stop_recording", json!({})).await?;
    let told = structured(&stopped);
    let tools: Vec<_> = told["steps"].as_array().into_iter().flatten().map(|step| step["tool"].clone()).collect();
    assert_eq!(tools, ["browser_navigate", "browser_type", "browser_click", "browser_wait_for"], "{told}");
    assert_eq!(told["steps"][1]["arguments"]["text"], "Ada");
    assert!(told["steps"][1]["arguments"].get("snapshot").is_none(), "of the reply, not of the step: {told}");
    assert_eq!(told["steps"][2]["arguments"]["target"], "getByRole('button', { name: 'Go' })");
    assert_eq!((told["code"].as_array().map(Vec::len), &told["left_out"]), (Some(4), &json!([])));
    assert!(stopped.text.contains("Recorded actions:\n\n```js\nawait page.goto('"), "{}", stopped.text);
    assert!(
        stopped.text.contains(".fill('Ada');\n") && stopped.text.contains("### Steps\n```json\n"),
        "{}",
        stopped.text
    );

    let other = daemon.lease("second").await?;
    let again = other.ok("browser_batch", json!({ "steps": told["steps"] })).await?;
    assert!(again.text.contains("4 of 4 steps ok") && again.text.contains("/done?name=Ada"), "{}", again.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn actions_that_are_no_steps_are_in_the_code_and_named() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("frames").await?;
    let shown = go(&lease, &pages.at("/frame")).await?;
    lease.ok("browser_start_recording", json!({})).await?;
    lease.ok("browser_click", json!({ "target": shown.find_ref("In the frame")? })).await?;
    let dialogs = go(&lease, &pages.at("/dialogs")).await?;
    lease.ok("browser_click", json!({ "target": dialogs.find_ref("button")? })).await?;
    while lease.call("browser_handle_dialog", json!({ "accept": true })).await?.outcome() == "ok" {}
    let told = structured(&lease.ok("browser_stop_recording", json!({})).await?);
    assert_eq!(
        told["left_out"],
        json!(["action 1 (browser_click): its element is in a frame, where steps reach by refs only"])
    );
    assert!(told["code"][0].as_str().unwrap_or_default().ends_with(".click();"), "{told}");
    let tools: Vec<_> = told["steps"].as_array().into_iter().flatten().map(|step| &step["tool"]).collect();
    assert!(
        tools.starts_with(&[&json!("browser_navigate"), &json!("browser_click"), &json!("browser_handle_dialog")]),
        "{told}"
    );
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_has_what_the_browser_did_and_leaves_nothing_on() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("trace").await?;
    assert!(message(&lease.call("browser_stop_tracing", json!({})).await?).starts_with("Tracing is not started"));
    for round in 0..2 {
        assert!(lease.ok("browser_start_tracing", json!({})).await?.text.contains("Trace recording started"));
        assert!(message(&lease.call("browser_start_tracing", json!({})).await?).contains("is being recorded"));
        go(&lease, &pages.at("/")).await?;
        lease
            .ok("browser_evaluate", json!({ "function": "() => performance.mark('a mark of ours').startTime" }))
            .await?;
        let stopped = lease.ok("browser_stop_tracing", json!({})).await?;
        let [File { name, mime_type: kind, bytes }] = stopped.files.as_slice() else { panic!("{stopped:?}") };
        assert_eq!((name.as_str(), kind.as_str()), ("trace.json", "application/json"));
        let told = structured(&stopped);
        assert_eq!((&told["bytes"], &told["cut"]), (&json!(bytes.len()), &json!(false)));
        let trace: Value = serde_json::from_slice(bytes)?;
        let events = trace["traceEvents"].as_array().cloned().unwrap_or_default();
        let has = |name: &str| events.iter().any(|event| event["name"] == name);
        assert!(
            ["a mark of ours", "ResourceSendRequest", "Layout", "process_name", "TracingStartedInBrowser"]
                .iter()
                .all(|name| has(name)),
            "round {round}"
        );
        assert!(events.iter().any(|event| event["args"]["data"]["url"] == pages.at("/").as_str()), "of this page");
    }
    // Chromium records one at a time: the second round shows that nothing was left of the first.
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_trace_is_cut_and_can_still_be_read() -> Outcome {
    let daemon = Daemon::start(|_| {})?;
    let lease = daemon.lease("busy").await?;
    go(&lease, "about:blank").await?;
    lease.ok("browser_start_tracing", json!({})).await?;
    let busy = "() => { for (let n = 0; n < 150000; n++) performance.mark('mark ' + n, { detail: 'x'.repeat(100) }); return 0 }";
    lease.ok("browser_evaluate", json!({ "function": busy })).await?;
    let stopped = lease.ok("browser_stop_tracing", json!({})).await?;
    let told = structured(&stopped);
    assert!(told["cut"] == true && stopped.text.contains("Its end is missing"), "{told} {}", stopped.text);
    let bytes = &stopped.files[0].bytes;
    assert!(bytes.len() <= (8 << 20) + 10 && bytes.len() > 1 << 20, "{} bytes", bytes.len());
    let trace: Value = serde_json::from_slice(bytes)?;
    assert!(trace["traceEvents"].as_array().is_some_and(|events| events.len() > 10_000));
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn browsers_that_are_shared_are_not_traced() -> Outcome {
    let daemon = Daemon::start(|config| config.limits.contexts_per_browser = 2)?;
    let lease = daemon.lease("shared").await?;
    let refused = lease.call("browser_start_tracing", json!({})).await?;
    assert!(refused.outcome() == "unsupported" && message(&refused).contains("share browsers"), "{refused:?}");
    daemon.end().await
}

/// Fills the page with a colour.
async fn paint(lease: &Lease, colour: &str) -> anyhow::Result<()> {
    let paint = format!(
        "async () => {{ document.documentElement.style.background = '{colour}'; await new Promise(ok => setTimeout(ok, 700)); return 0 }}"
    );
    lease.ok("browser_evaluate", json!({ "function": paint })).await?;
    Ok(())
}

/// What a browser plays: duration and size, the colour in the middle of the picture at its beginning and its end.
async fn played(lease: &Lease, webm: &[u8]) -> anyhow::Result<Value> {
    let play = format!(
        "async () => {{
          const video = document.createElement('video');
          video.src = 'data:video/webm;base64,{}';
          const happens = (name) => new Promise((ok, no) => {{
            video.addEventListener(name, ok, {{ once: true }});
            video.onerror = () => no(new Error(video.error.message));
          }});
          await happens('loadeddata');
          const colour = async (time) => {{
            // Of two pictures the earlier one is drawn until the later one is shown, which is after its place is found. Where
            // the same one stays nothing new is shown.
            const shown = new Promise(ok => video.requestVideoFrameCallback(ok));
            const there = happens('seeked');
            video.currentTime = time;
            await there;
            await Promise.race([shown, new Promise(ok => setTimeout(ok, 2000))]);
            const canvas = Object.assign(document.createElement('canvas'), {{ width: video.videoWidth, height: video.videoHeight }});
            const paper = canvas.getContext('2d');
            paper.drawImage(video, 0, 0);
            const [r, g, b] = paper.getImageData(video.videoWidth / 2, video.videoHeight / 2, 1, 1).data;
            return r > 150 && g < 100 && b < 100 ? 'red' : b > 150 && r < 100 && g < 100 ? 'blue' : [r, g, b].join(' ');
          }};
          return [video.duration, video.videoWidth, video.videoHeight, await colour(0.01), await colour(video.duration - 0.05)];
        }}",
        STANDARD.encode(webm)
    );
    let answer = lease.ok("browser_evaluate", json!({ "function": play })).await?;
    Ok(structured(&answer)["result"].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_video_shows_what_was_seen_and_plays_in_a_browser() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("video").await?;
    assert!(lease.ok("browser_stop_video", json!({})).await?.text.contains("No videos were recorded."));
    lease.ok("browser_resize", json!({ "width": 320, "height": 240 })).await?;
    go(&lease, &pages.at("/red")).await?;
    paint(&lease, "rgb(255, 0, 0)").await?;
    let (size, name) = (json!({ "width": 640, "height": 480 }), "film.webm");
    let started = lease.ok("browser_start_video", json!({ "filename": name, "size": size, "fps": 10 })).await?;
    assert!(started.text.contains("Video recording started. It has the size of the viewport"), "{}", started.text);
    assert!(message(&lease.call("browser_start_video", json!({})).await?).contains("is being recorded"));
    paint(&lease, "rgb(255, 0, 0)").await?;
    lease.ok("browser_tabs", json!({ "action": "new" })).await?;
    paint(&lease, "rgb(0, 0, 255)").await?;
    let stopped = lease.ok("browser_stop_video", json!({})).await?;
    let [File { name: kept, mime_type: kind, bytes }] = stopped.files.as_slice() else { panic!("{stopped:?}") };
    assert_eq!((kept.as_str(), kind.as_str()), (name, "video/webm"));
    let told = structured(&stopped);
    assert_eq!((&told["width"], &told["height"], &told["cut"]), (&json!(320), &json!(240), &json!(false)));
    assert!(
        told["frames"].as_u64().is_some_and(|frames| (2..30).contains(&frames)),
        "the same is not kept twice: {told}"
    );
    let [duration, width, height, first, last] =
        <[Value; 5]>::try_from(played(&lease, bytes).await?.as_array().cloned().unwrap_or_default())
            .map_err(|all| anyhow::anyhow!("{all:?}"))?;
    assert_eq!((width, height), (json!(320), json!(240)));
    let wanted = told["duration_ms"].as_f64().unwrap_or_default() / 1000.0;
    assert!(
        duration.as_f64().is_some_and(|length| (length - wanted).abs() < 0.1 && length > 1.3),
        "{duration} {wanted}"
    );
    assert_eq!((first, last), (json!("red"), json!("blue")), "and the tab that came later");
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_video_of_a_device_has_the_size_of_its_viewport() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("device").await?;
    lease.ok("browser_emulate", json!({ "device": "iphone", "width": 320, "height": 240 })).await?;
    go(&lease, &pages.at("/scrolled")).await?;
    // Far down the page is blue.
    let down = "() => { scrollTo(0, 2500); window.changes = 0; addEventListener('resize', () => changes++); \
                matchMedia('(resolution: 3dppx)').addEventListener('change', () => changes++); return 0 }";
    lease.ok("browser_evaluate", json!({ "function": down })).await?;
    lease.ok("browser_start_video", json!({ "fps": 10 })).await?;
    lease.ok("browser_wait_for", json!({ "time": 1 })).await?;
    let stopped = lease.ok("browser_stop_video", json!({})).await?;
    let told = structured(&stopped);
    assert_eq!((&told["width"], &told["height"]), (&json!(320), &json!(240)));
    let seen =
        lease.ok("browser_evaluate", json!({ "function": "() => [changes, scrollY, devicePixelRatio]" })).await?;
    assert_eq!(structured(&seen)["result"], json!([0, 2500, 3]), "nothing of it is felt in the page");
    let film = played(&lease, &stopped.files[0].bytes).await?;
    assert_eq!((&film[3], &film[4]), (&json!("blue"), &json!("blue")), "{film}");
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chapter_is_seen_in_the_video_and_by_nobody_else() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("chapter").await?;
    let before = go(&lease, &pages.at("/")).await?;
    let none = lease.call("browser_video_chapter", json!({ "title": "One" })).await?;
    assert!(message(&none).contains("no video is being recorded"), "{none:?}");
    for (bad, code) in [(json!({ "cursor": true }), "unsupported"), (json!({ "fps": 0 }), "invalid_argument")] {
        assert_eq!(lease.call("browser_start_video", bad).await?.outcome(), code);
    }
    lease.ok("browser_start_video", json!({ "fps": 10 })).await?;
    for (bad, why) in
        [(json!({ "title": "x".repeat(501) }), "500"), (json!({ "title": "x", "duration": 1 }), "100 to 10000")]
    {
        assert!(message(&lease.call("browser_video_chapter", bad).await?).contains(why));
    }
    let card = json!({ "title": "Signing in", "description": "With a name", "duration": 600 });
    let added = lease.ok("browser_video_chapter", card).await?;
    assert!(added.text.contains("Chapter 'Signing in' added."), "{}", added.text);
    let after = lease.ok("browser_snapshot", json!({})).await?;
    assert_eq!(after.find_ref("Go")?, before.find_ref("Go")?);
    assert!(!after.text.contains("Signing in"), "{}", after.text);
    let stopped = lease.ok("browser_stop_video", json!({})).await?;
    assert!(structured(&stopped)["frames"].as_u64().is_some_and(|frames| frames >= 2), "with and without the card");
    assert!(stopped.files[0].bytes.windows(10).any(|words| words == b"Signing in"), "players know of it");
    assert_eq!(stopped.files[0].name, "video.webm");
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_recorded_ends_with_its_lease_and_the_next_browser_says_so() -> Outcome {
    let kept = Kept::default();
    let pages = Pages::start().await?;
    let daemon = Daemon::start_with(Some(kept.checkpoints.clone()), |config| {
        config.checkpoints.interval = Duration::from_millis(100);
    })?;
    let lease = daemon.lease("s").await?;
    go(&lease, &pages.at("/kept")).await?;
    for begins in ["browser_start_recording", "browser_start_tracing", "browser_start_video"] {
        lease.ok(begins, json!({})).await?;
    }
    go(&lease, &pages.at("/kept")).await?;
    kept.until("s", |content| content["lost"].as_array().is_some_and(|lost| lost.len() == 3)).await?;
    daemon.pool().release(lease.released()).await?;
    let lease = daemon.lease("s").await?;
    let restored = lease.call("browser_stop_recording", json!({})).await?;
    assert!(message(&restored).starts_with("No recording in progress"), "{restored:?}");
    for lost in ["a recording, of ", "a trace that was being recorded", "a video that was being recorded"] {
        assert!(restored.text.contains(lost), "{lost}: {}", restored.text);
    }
    go(&lease, &pages.at("/kept")).await?;
    kept.until("s", |content| content["lost"].as_array().is_some_and(Vec::is_empty)).await?;
    daemon.end().await
}
