//! The pages that are visited, served from loopback.

use std::fmt::Write as _;

use anyhow::Context as _;
use axum::{Router, http::header, response::Html, routing::get};
use browserfleet_common::lifecycle::Tasks;
use tokio::{net::TcpListener, task::JoinHandle};

/// Which page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// A dozen elements.
    Simple,
    /// About 3,000 elements.
    Heavy,
    /// A shop's page, of the snapshot corpus.
    Shop,
    /// A page of settings, likewise.
    Settings,
}

impl Page {
    fn path(self) -> &'static str {
        match self {
            Self::Simple => "/simple",
            Self::Heavy => "/heavy",
            Self::Shop => "/shop",
            Self::Settings => "/settings",
        }
    }
}

/// A page server; it stops when dropped.
#[derive(Debug)]
pub(crate) struct Pages {
    url: String,
    server: JoinHandle<Option<()>>,
}

impl Pages {
    pub(crate) async fn start(tasks: &Tasks) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("a port for the pages")?;
        let url = format!("http://{}", listener.local_addr()?);
        let heavy: &'static str = heavy().leak();
        let page = |body: &'static str| get(move || async move { ([(header::CACHE_CONTROL, "no-store")], Html(body)) });
        let router = Router::new().route("/simple", page(SIMPLE)).route("/heavy", page(heavy));
        let router = router.route("/shop", page(SHOP)).route("/settings", page(SETTINGS));
        let server = tasks.spawn("bench.pages", async move {
            // It serves until it is dropped.
            let _never = axum::serve(listener, router).await;
        });
        Ok(Self { url, server })
    }

    /// The URL of a page; each number is another URL of the same page, so that no visit is a reload.
    pub(crate) fn url(&self, page: Page, number: usize) -> String {
        format!("{}{}?{number}", self.url, page.path())
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The words of the button that is clicked.
pub(crate) const BUTTON: &str = "Press";

const SIMPLE: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>Simple</title>
<header><h1>Simple page</h1><nav><a href='/simple'>Home</a> <a href='/heavy'>Heavy</a></nav></header>
<main><p>Some words, and <b>some more</b>.</p>
<label>Name <input name=name></label>
<button id=press onclick=\"out.textContent = Number(out.textContent) + 1\">Press</button>
<output id=out>0</output></main>";

const SHOP: &str = include_str!("../../tests/corpus/shop.html");
const SETTINGS: &str = include_str!("../../tests/corpus/settings.html");

/// A table of 280 rows and a list of 180 cards: 3,051 elements.
fn heavy() -> String {
    let mut page = String::from(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Heavy</title><h1>Heavy page</h1>
<button id=press onclick=\"this.dataset.n = 1\">Press</button>
<table><thead><tr><th>No</th><th>Name</th><th>Mail</th><th>Action</th></tr></thead><tbody>",
    );
    for i in 0..280 {
        // Writing to a String cannot fail.
        let _infallible = write!(
            page,
            "<tr><td>{i}</td><td>Person {i}</td><td><a href='mailto:p{i}@example.org'>p{i}@example.org</a></td>\
             <td><button>Edit {i}</button></td></tr>"
        );
    }
    page.push_str("</tbody></table><ul>");
    for i in 0..180 {
        let _infallible = write!(
            page,
            "<li><div class=card><span>Item</span> <b>{i}</b><label><input type=checkbox> Choose {i}</label></div></li>"
        );
    }
    page.push_str("</ul>");
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heavy_page_has_three_thousand_elements() {
        let page = heavy();
        let elements = page.matches('<').count() - page.matches("</").count();
        assert!((2900..3200).contains(&elements), "{elements}");
    }

    #[test]
    fn both_pages_have_the_button() {
        assert!(heavy().contains(BUTTON) && SIMPLE.contains(BUTTON));
    }
}
