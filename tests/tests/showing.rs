//! PDFs and highlights, through gRPC.

use browserfleet_tests::{
    daemon::{Daemon, File},
    pages::Pages,
};
use serde_json::json;

type Outcome = anyhow::Result<()>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_printed_to_a_pdf() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("pdf").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    let saved = lease.ok("browser_pdf_save", json!({ "filename": "form.pdf" })).await?;
    assert!(saved.text.contains("await page.pdf({\n  path: 'form.pdf'\n});"), "{}", saved.text);
    let File { name, mime_type: kind, bytes } = &saved.files[0];
    assert_eq!((name.as_str(), kind.as_str()), ("page.pdf", "application/pdf"));
    assert!(bytes.starts_with(b"%PDF-") && bytes.len() > 1000, "{} bytes", bytes.len());
    assert!(saved.images.is_empty(), "it is kept, not shown");
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_highlight_is_seen_by_people_and_by_nobody_else() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("highlight").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    let picture = async || -> anyhow::Result<Vec<u8>> {
        let shot = lease.ok("browser_take_screenshot", json!({})).await?;
        Ok(shot.images.into_iter().next().unwrap_or_default().1)
    };
    let plain = picture().await?;
    let before = lease.ok("browser_snapshot", json!({})).await?;
    let style = "outline: 9px solid rgb(255, 0, 0)";
    let shown = lease.ok("browser_highlight", json!({ "target": before.find_ref("Go")?, "style": style })).await?;
    assert!(shown.text.contains("Highlighted getByRole('button', { name: 'Go' })"), "{}", shown.text);
    lease.ok("browser_highlight", json!({ "target": "h1" })).await?;
    let both = picture().await?;
    assert_ne!(both, plain);
    assert_eq!(lease.ok("browser_snapshot", json!({})).await?.text, before.text, "a snapshot does not show it");
    let clicked = lease.ok("browser_click", json!({ "target": "#press" })).await?;
    assert!(clicked.text.contains("pressed"), "it takes no clicks: {}", clicked.text);
    lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    lease.ok("browser_highlight", json!({ "target": "h1" })).await?;
    lease.ok("browser_highlight", json!({ "target": "#press" })).await?;
    let hidden = lease.ok("browser_hide_highlight", json!({ "target": "h1" })).await?;
    assert!(hidden.text.contains("Hid highlight for locator('h1')"), "{}", hidden.text);
    assert_ne!(picture().await?, plain, "the other one stays");
    assert!(lease.ok("browser_hide_highlight", json!({})).await?.text.contains("Hid page highlight"));
    assert_eq!(picture().await?, plain);
    daemon.end().await
}
