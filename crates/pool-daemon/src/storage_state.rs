//! The storage state of a session, as Playwright writes it: its cookies, and the local storage of every site it has been at.

use std::{cmp::Reverse, collections::BTreeMap};

use browserfleet_tools::SameSite;
use futures_util::future::{FutureExt as _, join_all};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    task::coop::unconstrained,
    time::{Duration, Instant},
};
use url::Url;

use crate::{
    failure::Failure,
    page::{Context, Cookie, Items, ORIGINS_MAX, Page, Seed, Storages},
    workspace::Workspace,
};

/// Most time for a page to say what it keeps: one that does not answer is asked through another one of its origin.
const READING: Duration = Duration::from_secs(2);
/// Most time for the current tab to come to the front again.
const TOUCH: Duration = Duration::from_secs(1);
/// Most cookies of a state.
const COOKIES_MAX: usize = 3000;
/// Sites without an open tab whose storages are read before it is looked whether there is room for more.
const AT_A_TIME: usize = 8;
/// What Playwright says of a cookie that ends with the browser.
const SESSION: f64 = -1.0;

/// Cookies and local storage. What else a state of Playwright's has is not looked at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StorageState {
    #[serde(default)]
    pub cookies: Vec<StateCookie>,
    #[serde(default)]
    pub origins: Vec<StateOrigin>,
}

/// A cookie in Playwright's words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StateCookie {
    pub name: String,
    pub value: String,
    pub domain: String,
    #[serde(default = "root")]
    pub path: String,
    /// Unix seconds; −1: until the browser ends.
    #[serde(default = "until_the_end")]
    pub expires: f64,
    #[serde(default)]
    pub http_only: bool,
    #[serde(default)]
    pub secure: bool,
    #[serde(default = "lax")]
    pub same_site: SameSite,
    /// Under which site's pages it exists, for one that is partitioned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_key: Option<String>,
    #[serde(default, rename = "_crHasCrossSiteAncestor", skip_serializing_if = "Option::is_none")]
    pub cross_site_ancestor: Option<bool>,
}

/// The local storage of an origin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StateOrigin {
    pub origin: String,
    #[serde(default)]
    pub local_storage: Vec<StateItem>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateItem {
    pub name: String,
    pub value: String,
}

fn root() -> String {
    "/".to_owned()
}

fn until_the_end() -> f64 {
    SESSION
}

fn lax() -> SameSite {
    SameSite::Lax
}

/// What putting a state in place came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placed {
    /// How many the browser has now.
    pub cookies: usize,
    /// How many it has refused, expired ones among them.
    pub refused: usize,
    /// Sites that have their local storage.
    pub origins: usize,
    /// Origins for which it failed.
    pub failed: Vec<String>,
    /// Origins that have it, or had it put in place before, and that lose it with the browser: it is too much to remember.
    pub forgotten: Vec<String>,
}

/// A state that was read, and what is not in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Read {
    pub state: StorageState,
    /// Origins whose storage could not be read, or is too much.
    pub unread: Vec<String>,
    /// How many cookies are too many.
    pub cookies_left: usize,
}

impl StateOrigin {
    fn new(origin: String, items: Items) -> Self {
        let local_storage = items.into_iter().map(|(name, value)| StateItem { name, value }).collect();
        Self { origin, local_storage }
    }

    fn bytes(&self) -> usize {
        self.local_storage.iter().map(|StateItem { name, value }| name.len() + value.len()).sum()
    }
}

impl From<&Cookie> for StateCookie {
    fn from(cookie: &Cookie) -> Self {
        let key = cookie.partition_key.as_ref();
        Self {
            name: cookie.name.clone(),
            value: cookie.value.clone(),
            domain: cookie.domain.clone(),
            path: cookie.path.clone(),
            expires: cookie.expires.unwrap_or(SESSION),
            http_only: cookie.http_only,
            secure: cookie.secure,
            same_site: match cookie.same_site.as_deref() {
                Some("Strict") => SameSite::Strict,
                Some("None") => SameSite::None,
                // What browsers take one for that does not say.
                _ => SameSite::Lax,
            },
            partition_key: key.and_then(|key| key["topLevelSite"].as_str()).map(str::to_owned),
            cross_site_ancestor: key.and_then(|key| key["hasCrossSiteAncestor"].as_bool()),
        }
    }
}

impl From<&StateCookie> for Cookie {
    fn from(cookie: &StateCookie) -> Self {
        let crossing = cookie.cross_site_ancestor.unwrap_or(false);
        let key = |site: &String| json!({ "topLevelSite": site, "hasCrossSiteAncestor": crossing });
        Self {
            name: cookie.name.clone(),
            value: cookie.value.clone(),
            domain: cookie.domain.clone(),
            path: cookie.path.clone(),
            expires: (cookie.expires >= 0.0).then_some(cookie.expires),
            http_only: cookie.http_only,
            secure: cookie.secure,
            same_site: Some(format!("{:?}", cookie.same_site)),
            priority: None,
            source_scheme: None,
            source_port: None,
            partition_key: cookie.partition_key.as_ref().map(key),
        }
    }
}

impl StorageState {
    /// Reads what an agent gives. The text of an error says where it is wrong.
    pub fn parse(value: Value) -> Result<Self, Failure> {
        let state: Self = serde_json::from_value(value).map_err(|error| {
            Failure::invalid(format!("storage_state is not understood: {error}. Give it as browser_storage_state does"))
        })?;
        let bytes: usize = state.origins.iter().map(StateOrigin::bytes).sum();
        if state.cookies.len() > COOKIES_MAX || state.origins.len() > ORIGINS_MAX || bytes > Context::STORAGES_MAX {
            return Err(Failure::invalid(format!(
                "storage_state may have {COOKIES_MAX} cookies and {ORIGINS_MAX} origins at most, with {} bytes of local \
                 storage together",
                Context::STORAGES_MAX
            )));
        }
        let wrong = state.origins.iter().find(|StateOrigin { origin, .. }| !is_origin(origin));
        match wrong {
            Some(StateOrigin { origin, .. }) => {
                Err(Failure::invalid(format!("storage_state: {origin:?} is no origin such as https://example.com")))
            }
            None => Ok(state),
        }
    }

    /// Puts the state in place of what the session has. Its pages see it when they load again.
    pub async fn place(&self, workspace: &Workspace, deadline: Instant) -> Result<Placed, Failure> {
        let browser = workspace.context();
        browser.clear_cookies(deadline).await?;
        let cookies: Vec<_> = self.cookies.iter().map(Cookie::from).collect();
        browser.set_cookies(&cookies, deadline).await?;
        let there = browser.cookies(deadline).await?.len();
        let empty = || Seed { replaces: true, ..Seed::default() };
        let mut seeds: BTreeMap<String, Seed> = browser.visited().into_iter().map(|origin| (origin, empty())).collect();
        for StateOrigin { origin, local_storage } in &self.origins {
            let items = local_storage.iter().map(|StateItem { name, value }| (name.clone(), value.clone()));
            seeds.entry(bare(origin)).or_insert_with(empty).local.extend(items);
        }
        let failed = if seeds.is_empty() {
            Vec::new()
        } else {
            beside(workspace, deadline, async |page| page.seed(&seeds, deadline).await).await?
        };
        seeds.retain(|origin, _| !failed.contains(origin));
        let origins = seeds.values().filter(|seed| !seed.local.is_empty()).count();
        let forgotten = browser.plant(seeds.into_iter().map(|(origin, seed)| (origin, seed.local)).collect());
        Ok(Placed { cookies: there, refused: cookies.len().saturating_sub(there), origins, failed, forgotten })
    }
}

/// Reads the state of a session: open tabs before other sites, and those that were visited last before others.
pub async fn read(workspace: &Workspace, deadline: Instant) -> Result<Read, Failure> {
    let browser = workspace.context();
    let tabs = workspace.open_tabs();
    let until = deadline.min(Instant::now() + READING);
    let reading = join_all(tabs.iter().map(|tab| tab.page.stored(until)));
    let (cookies, stored) = tokio::join!(browser.cookies(deadline), reading);
    let mut open = Storages::new();
    stored.into_iter().flatten().for_each(|stored| open.extend(stored.local));
    let visited = browser.visited();
    let hidden: Vec<_> = visited.iter().rev().filter(|origin| !open.contains_key(*origin)).cloned().collect();
    let mut collected = Collected::of(open, &visited);
    if !hidden.is_empty() {
        beside(workspace, deadline, async |page| collected.read(page, &hidden, deadline).await).await?;
    }
    let Collected { mut origins, left_out, .. } = collected;
    origins.sort_by(|one, other| one.origin.cmp(&other.origin));
    let cookies = cookies?;
    let kept = cookies.iter().take(COOKIES_MAX).map(StateCookie::from).collect();
    let cookies_left = cookies.len().saturating_sub(COOKIES_MAX);
    Ok(Read { state: StorageState { cookies: kept, origins }, unread: left_out, cookies_left })
}

/// Local storages for a state, no more of them than [`StorageState::parse`] takes.
#[derive(Debug, Default)]
struct Collected {
    origins: Vec<StateOrigin>,
    bytes: usize,
    left_out: Vec<String>,
}

impl Collected {
    /// Begins with what open tabs have. Of `visited`, the latest are at the end.
    fn of(open: Storages, visited: &[String]) -> Self {
        let mut open: Vec<_> = open.into_iter().collect();
        open.sort_by_key(|(origin, _)| Reverse(visited.iter().position(|known| known == origin)));
        let mut collected = Self::default();
        for (origin, items) in open {
            collected.add(origin, Some(items));
        }
        collected
    }

    /// Takes the storage of an origin; names the origin when there is no room, or when it could not be read.
    fn add(&mut self, origin: String, items: Option<Items>) {
        let Some(items) = items else { return self.left_out.push(origin) };
        if items.is_empty() {
            return;
        }
        let read = StateOrigin::new(origin, items);
        let bytes = self.bytes + read.bytes();
        if self.is_full() || bytes > Context::STORAGES_MAX {
            return self.left_out.push(read.origin);
        }
        self.bytes = bytes;
        self.origins.push(read);
    }

    fn is_full(&self) -> bool {
        self.origins.len() >= ORIGINS_MAX
    }

    /// Reads origins that no tab shows, a few at a time: what there is no room for is not in memory at once.
    async fn read(&mut self, page: &Page, origins: &[String], deadline: Instant) -> Result<(), Failure> {
        for some in origins.chunks(AT_A_TIME) {
            if self.is_full() || Instant::now() >= deadline {
                self.left_out.extend_from_slice(some);
                continue;
            }
            for (origin, items) in page.local_storages(some, deadline).await? {
                self.add(origin, items);
            }
        }
        Ok(())
    }
}

/// A page beside the session's tabs. It goes with this, also when the call is cancelled.
struct Beside<'a> {
    workspace: &'a Workspace,
    page: Page,
    left: bool,
}

impl Beside<'_> {
    async fn leave(&mut self) {
        self.page.close().await;
        self.left = true;
        if let Err(failure) = self.workspace.page().to_front(Instant::now() + TOUCH).await {
            tracing::debug!(%failure, "the current tab did not come to the front");
        }
    }
}

impl Drop for Beside<'_> {
    fn drop(&mut self) {
        if !self.left {
            // Nobody is left to wait for an answer. The command itself is under way once it has been polled.
            let _nobody_waits = unconstrained(self.page.close()).now_or_never();
            let _nobody_waits = unconstrained(self.workspace.page().to_front(Instant::now() + TOUCH)).now_or_never();
        }
    }
}

/// Works in a page beside the session's tabs, which is closed afterwards.
async fn beside<T>(
    workspace: &Workspace,
    deadline: Instant,
    work: impl AsyncFnOnce(&Page) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let page = workspace.context().open_page(deadline).await?;
    let mut beside = Beside { workspace, page, left: false };
    let done = work(&beside.page).await;
    beside.leave().await;
    done
}

fn is_origin(text: &str) -> bool {
    Url::parse(text)
        .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == bare(text))
}

/// Without the slash that some write behind it.
fn bare(origin: &str) -> String {
    origin.strip_suffix('/').unwrap_or(origin).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_playwrights_is_understood() {
        let written = json!({
            "cookies": [{ "name": "a", "value": "1", "domain": ".example.com", "path": "/", "expires": -1, "httpOnly": true,
                "secure": true, "sameSite": "None", "partitionKey": "https://shop.example", "_crHasCrossSiteAncestor": true }],
            "origins": [{ "origin": "https://example.com", "localStorage": [{ "name": "k", "value": "v" }], "indexedDB": [] }],
        });
        let state = StorageState::parse(written).unwrap();
        let cookie = Cookie::from(&state.cookies[0]);
        assert_eq!((cookie.expires, cookie.same_site.as_deref()), (None, Some("None")));
        let key = json!({ "topLevelSite": "https://shop.example", "hasCrossSiteAncestor": true });
        assert_eq!(cookie.partition_key, Some(key));
        assert_eq!(serde_json::to_value(StateCookie::from(&cookie)).unwrap()["expires"], json!(-1.0));
        assert_eq!(StateCookie::from(&cookie), state.cookies[0], "there and back");
    }

    #[test]
    fn what_is_no_state_is_refused_with_the_reason() {
        let told = |value: Value| StorageState::parse(value).unwrap_err().message;
        assert!(told(json!({ "cookies": [{ "name": "a" }] })).contains("missing field `value`"));
        for origin in ["example.com", "file:///etc", "https://example.com/path", "https://u@example.com"] {
            assert!(told(json!({ "origins": [{ "origin": origin }] })).contains("is no origin"), "{origin}");
        }
        let many: Vec<_> = (0..=ORIGINS_MAX).map(|n| json!({ "origin": format!("https://{n}.example") })).collect();
        assert!(told(json!({ "origins": many })).contains("32 origins"));
        assert!(StorageState::parse(json!({ "origins": [{ "origin": "http://localhost:8080/" }] })).is_ok());
        let item = json!({ "name": "k", "value": "x".repeat(Context::STORAGES_MAX) });
        let large = json!({ "origins": [{ "origin": "https://example.com", "localStorage": [item] }] });
        assert!(told(large).contains("bytes of local storage together"));
    }

    #[test]
    fn a_state_that_is_written_is_one_that_is_taken() {
        let items = |bytes: usize| Items::from([("k".to_owned(), "v".repeat(bytes - 1))]);
        let origins: Vec<_> = (0..ORIGINS_MAX + 2).map(|n| format!("https://{n}.example")).collect();
        let many = origins.iter().map(|origin| (origin.clone(), items(2))).collect();
        let mut collected = Collected::of(many, &origins[1..]);
        collected.add("https://closed.example".to_owned(), None);
        collected.add("https://empty.example".to_owned(), Some(Items::new()));
        assert_eq!(collected.left_out, ["https://1.example", "https://0.example", "https://closed.example"]);
        let written = StorageState { origins: collected.origins, ..StorageState::default() };
        assert_eq!(StorageState::parse(serde_json::to_value(&written).unwrap()).unwrap(), written);

        let mut collected = Collected::default();
        for (origin, bytes) in [("https://a", Context::STORAGES_MAX - 2), ("https://b", 3), ("https://c", 2)] {
            collected.add(origin.to_owned(), Some(items(bytes)));
        }
        assert_eq!(collected.left_out, ["https://b"], "what still fits is taken");
        let written = StorageState { origins: collected.origins, ..StorageState::default() };
        assert!(StorageState::parse(serde_json::to_value(written).unwrap()).is_ok());
    }
}
