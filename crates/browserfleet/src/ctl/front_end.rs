//! A front end, asked over HTTP.

use anyhow::{Context as _, bail, ensure};
use browserfleet_common::fetch::{Bounds, Fetcher};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use serde_json::Value;
use url::Url;

use super::{ANSWER, table::Table};

/// Of a page of sessions there are a thousand, with as many calls.
const BOUNDS: Bounds = Bounds { time: ANSWER, body: 16 << 20 };

/// A front end: any one of them knows all sessions.
#[derive(Clone, Debug)]
pub(super) struct FrontEnd {
    url: Url,
    headers: HeaderMap,
    fetcher: Fetcher,
}

impl FrontEnd {
    pub(super) fn new(address: &str, key: Option<String>) -> anyhow::Result<Self> {
        let url: Url = address.parse().with_context(|| format!("{address}: not an address"))?;
        let is_tls = url.scheme() == "https";
        ensure!(is_tls || url.scheme() == "http", "{address}: an address begins with http:// or https://");
        let fetcher = if is_tls { Fetcher::new(None).map_err(anyhow::Error::msg)? } else { Fetcher::in_clear() };
        let mut headers = HeaderMap::new();
        if let Some(key) = key {
            let mut value =
                HeaderValue::try_from(format!("Bearer {key}")).context("the file of the key (--key-file)")?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(Self { url: url.join("/sessions")?, headers, fetcher })
    }

    /// The sessions that the key may see, oldest first, each with the calls that run in it.
    pub(super) async fn sessions(&self) -> anyhow::Result<Vec<Value>> {
        let (mut sessions, mut offset) = (Vec::new(), 0);
        loop {
            let (mut page, next) = self.page(offset).await?;
            sessions.append(&mut page);
            match next {
                // One that goes backwards would never end.
                Some(next) if next > offset => offset = next,
                _ => return Ok(sessions),
            }
        }
    }

    /// The sessions from here on, and where the next page begins.
    async fn page(&self, offset: u64) -> anyhow::Result<(Vec<Value>, Option<u64>)> {
        let mut answer = self.get(offset).await?;
        let calls = answer["calls"].take();
        let Value::Array(mut sessions) = answer["sessions"].take() else { bail!("{}: not a front end", self.url) };
        for session in &mut sessions {
            let of_session = |call: &&Value| call["session"] == session["session"];
            let running = calls.as_array().into_iter().flatten().filter(of_session);
            session["running"] = running.map(|call| call["tool"].clone()).collect();
        }
        Ok((sessions, answer["next_offset"].as_u64()))
    }

    async fn get(&self, offset: u64) -> anyhow::Result<Value> {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("offset", &offset.to_string());
        let answer = self.fetcher.get(&url, self.headers.clone(), BOUNDS).await;
        let answer = answer.with_context(|| format!("{} (is a front end running there? --front-end)", self.url))?;
        let said = || String::from_utf8_lossy(&answer.body).into_owned();
        ensure!(answer.status.is_success(), "{}: {} {}(--key-file)", self.url, answer.status, said());
        Ok(serde_json::from_slice(&answer.body)?)
    }
}

pub(super) fn session_table(sessions: &[Value]) -> Table {
    let columns = [
        "session",
        "principal",
        "client.name",
        "client.version",
        "lease",
        "running",
        "age_seconds",
        "idle_seconds",
        "expires_in_seconds",
    ];
    Table::of(&columns, sessions)
}
