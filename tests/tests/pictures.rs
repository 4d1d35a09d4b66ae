//! Pictures: formats, sizes, labels, and leaving out what was seen before, through gRPC.

use anyhow::Context as _;
use browserfleet_tests::{
    daemon::{Answer, Daemon, Lease},
    pages::Pages,
};
use serde_json::{Value, json};

type Outcome = anyhow::Result<()>;

async fn begin(path: &str) -> anyhow::Result<(Daemon, Pages, Lease)> {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("pictures").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at(path) })).await?;
    Ok((daemon, pages, lease))
}

async fn shot(lease: &Lease, arguments: Value) -> anyhow::Result<Answer> {
    lease.ok("browser_take_screenshot", arguments).await
}

fn bytes(answer: &Answer) -> anyhow::Result<&[u8]> {
    Ok(&answer.images.first().with_context(|| answer.text.clone())?.1)
}

/// Width and height, as a PNG says in its first chunk.
fn size(answer: &Answer) -> anyhow::Result<(u32, u32)> {
    let png = bytes(answer)?;
    anyhow::ensure!(png.starts_with(b"\x89PNG"), "a PNG");
    let number =
        |at: usize| png.get(at..at + 4).map(|bytes| bytes.iter().fold(0, |sum, &byte| (sum << 8) | u32::from(byte)));
    number(16).zip(number(20)).context("a header")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lossy_pictures_have_a_quality_and_others_have_none() -> Outcome {
    let (daemon, _pages, lease) = begin("/corpus/shop.html").await?;
    let fine = shot(&lease, json!({ "type": "jpeg" })).await?;
    let coarse = shot(&lease, json!({ "type": "jpeg", "quality": 5 })).await?;
    assert!(bytes(&coarse)?.len() < bytes(&fine)?.len() / 2 && bytes(&coarse)?.starts_with(b"\xff\xd8"));
    assert!(fine.text.contains("  quality: 90") && coarse.text.contains("  quality: 5"), "{}", coarse.text);
    let webp = shot(&lease, json!({ "type": "webp", "quality": 30 })).await?;
    assert!(bytes(&webp)?.starts_with(b"RIFF"));
    let refused = lease.call("browser_take_screenshot", json!({ "quality": 30 })).await?;
    assert!(refused.error.is_some_and(|error| error.message.contains("a png has no quality")));
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_are_no_larger_than_they_may_be() -> Outcome {
    let (daemon, _pages, lease) = begin("/scrolled").await?;
    assert_eq!(size(&shot(&lease, json!({})).await?)?, (1280, 720));
    assert_eq!(size(&shot(&lease, json!({ "scale": "device" })).await?)?, (1280, 720));
    assert_eq!(size(&shot(&lease, json!({ "maxSize": 640 })).await?)?, (640, 360));
    let (width, height) = size(&shot(&lease, json!({ "fullPage": true })).await?)?;
    assert!(height > 720 && width == 1280, "{width} {height}");
    let small = size(&shot(&lease, json!({ "fullPage": true, "maxSize": 500 })).await?)?;
    assert!(small.1.abs_diff(500) <= 1 && small.0 < 500, "{small:?}");
    // Scaled, it is still what is seen: the same place of a page that has been scrolled.
    lease.ok("browser_evaluate", json!({ "function": "() => scrollTo(0, 400)" })).await?;
    let (plain, scaled) = (shot(&lease, json!({})).await?, shot(&lease, json!({ "maxSize": 1279 })).await?);
    assert_eq!(size(&scaled)?.0, 1279);
    assert!(bytes(&plain)?.len().abs_diff(bytes(&scaled)?.len()) < bytes(&plain)?.len(), "the same, but for a pixel");
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_that_was_seen_before_is_left_out_if_asked() -> Outcome {
    let (daemon, _pages, lease) = begin("/fields").await?;
    let asked = json!({ "ifChanged": true, "type": "png" });
    assert_eq!(shot(&lease, asked.clone()).await?.images.len(), 1, "there is no earlier one");
    let same = shot(&lease, asked.clone()).await?;
    assert!(same.images.is_empty() && same.text.contains("the same as your last one"), "{}", same.text);
    assert_eq!(shot(&lease, json!({})).await?.images.len(), 1, "only if asked");
    lease.ok("browser_click", json!({ "target": "#agree" })).await?;
    assert_eq!(shot(&lease, asked).await?.images.len(), 1, "something has changed");
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_are_refs_and_do_not_stay() -> Outcome {
    let (daemon, _pages, lease) = begin("/fields").await?;
    let document = "() => document.documentElement.outerHTML";
    let before = lease.ok("browser_evaluate", json!({ "function": document })).await?;
    let plain = shot(&lease, json!({})).await?;
    let labelled = shot(&lease, json!({ "labels": true })).await?;
    assert!(
        labelled.text.contains("Screenshot of viewport, 10 elements labelled with their refs"),
        "{}",
        labelled.text
    );
    assert_ne!(bytes(&labelled)?, bytes(&plain)?);
    assert_eq!(bytes(&shot(&lease, json!({})).await?)?, bytes(&plain)?, "the next picture has none");
    let after = lease.ok("browser_evaluate", json!({ "function": document })).await?;
    assert_eq!(after.fenced, before.fenced, "nothing is left in the page");
    let part = shot(&lease, json!({ "labels": true, "target": "#colour" })).await?;
    assert!(part.text.contains("labelled"), "{}", part.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_reach_into_frames_that_were_shown() -> Outcome {
    let (daemon, _pages, lease) = begin("/frame").await?;
    let count =
        |answer: &Answer| -> Option<usize> { answer.text.split_once("viewport, ")?.1.split(' ').next()?.parse().ok() };
    let labelled = shot(&lease, json!({ "labels": true })).await?;
    let inside = "() => document.querySelector('iframe').contentDocument?.documentElement.children.length ?? 2";
    assert!(count(&labelled).is_some_and(|count| count >= 2), "the frame, and the button in it: {}", labelled.text);
    let left = lease.ok("browser_evaluate", json!({ "function": inside })).await?;
    assert_eq!(left.fenced.first().map(|(_, said)| said.trim()), Some("2"));
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_in_pixels_of_the_device_is_no_larger_than_it_may_be() -> Outcome {
    let (daemon, _pages, lease) = begin("/scrolled").await?;
    lease.ok("browser_emulate", json!({ "device": "iphone", "width": 2000, "height": 2000 })).await?;
    let refused = lease.call("browser_take_screenshot", json!({ "scale": "device" })).await?;
    assert_eq!(refused.outcome(), "result_too_large", "36 million pixels");
    let (css, smaller) =
        (shot(&lease, json!({})).await?, shot(&lease, json!({ "scale": "device", "maxSize": 3000 })).await?);
    assert_eq!((size(&css)?, size(&smaller)?), ((2000, 2000), (3000, 3000)));
    daemon.end().await
}
