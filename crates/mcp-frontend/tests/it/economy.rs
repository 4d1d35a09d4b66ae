//! How much replies say: what the server is set to, and what a call asks for.

use browserfleet_common::pb::SnapshotMode as Wire;
use browserfleet_mcp_frontend::testing::Event;
use browserfleet_tools::SnapshotMode;
use serde_json::json;

use crate::world::{World, text};

#[tokio::test]
async fn daemons_hear_how_much_of_pages_the_server_shows() {
    for (set, told) in [(SnapshotMode::Full, Wire::Full), (SnapshotMode::Diff, Wire::Diff)] {
        let world = World::with(|config| config.call.snapshot = set).await;
        world.daemon.answer(|request| {
            let heard = format!("{:?} {}", request.snapshot(), String::from_utf8_lossy(&request.arguments));
            vec![Event::started(), Event::text("Page", &heard), Event::end()]
        });
        let reply =
            world.client().modern_call("browser_navigate", json!({ "url": "http://h/", "snapshot": "none" })).await;
        let heard = text(&reply).to_owned();
        assert!(heard.contains(&format!("{told:?} {{")), "{heard}");
        assert!(heard.contains("\"snapshot\":\"none\""), "what the call says is its own affair: {heard}");
    }
}

#[tokio::test]
async fn a_call_says_how_much_text_it_wants() {
    let world = World::start().await;
    let lines: Vec<_> = (0..1000).map(|n| format!("- button \"Press {n}\" [ref=e{n}]")).collect();
    let snapshot = format!("```yaml\n{}\n```", lines.join("\n"));
    let sent = snapshot.clone();
    world.daemon.answer(move |request| {
        assert!(!String::from_utf8_lossy(&request.arguments).contains("max_bytes"));
        vec![Event::started(), Event::text("Snapshot", &sent), Event::end()]
    });
    let client = world.legacy().await;
    let whole = client.call("browser_snapshot", json!({})).await;
    assert!(text(&whole).contains("Press 999"));
    let cut = client.call("browser_snapshot", json!({ "max_bytes": 2000 })).await;
    let said = text(&cut);
    assert!(said.len() <= 2000 && said.len() > 1200, "{} bytes", said.len());
    let shown = said.lines().filter(|line| line.starts_with("- button")).count();
    assert!(
        said.contains(&format!(
            "of {}, {} of 1002 lines; for the rest call browser_read_cursor",
            snapshot.len(),
            shown + 1
        )),
        "{said}"
    );
    let cursor = cut["structuredContent"]["next_cursor"].as_str().unwrap();
    let rest = client.call("browser_read_cursor", json!({ "cursor": cursor, "max_bytes": 100_000 })).await;
    assert!(text(&rest).contains(&format!("Press {shown}\"")) && text(&rest).contains("Press 999"), "{rest}");
    for wrong in [json!(1023), json!(2_000_000), json!("many"), json!(-1)] {
        let refused = client.call("browser_snapshot", json!({ "max_bytes": wrong })).await;
        assert_eq!(refused["structuredContent"]["error"]["code"], "invalid_argument", "{wrong}");
        assert!(text(&refused).contains("a number from 1024 to 1048576 is expected"), "{refused}");
    }
}

/// Of a list of tools `o200k_base` makes a token of 4.3 bytes (`tokens-list` in the benchmark counts them).
const BYTES_PER_TOKEN: f64 = 4.25;

#[tokio::test]
async fn lists_of_tools_are_short() {
    let world = World::start().await;
    for (caps, tools, tokens) in [("core", 39, 6000.0), ("slim", 10, 500.0)] {
        let answer = world.client().asking(caps).modern("tools/list", json!({})).await.json();
        let listed = &answer["result"]["tools"];
        assert!(listed.as_array().is_some_and(|listed| listed.len() >= tools), "{caps}: {listed}");
        let (bytes, most) = (u32::try_from(listed.to_string().len()).unwrap(), tokens * BYTES_PER_TOKEN);
        assert!(f64::from(bytes) <= most, "{caps}: {bytes} bytes, at most {most}");
    }
}
