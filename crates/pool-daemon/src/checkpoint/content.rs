//! What is in a checkpoint, and how large it may be.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use browserfleet_common::checkpoint::BYTES_MAX;
use serde::{Deserialize, Serialize};

use crate::page::{Cookie, Items, Looks, ORIGINS_MAX, Storages};

/// Of the form below. A checkpoint of another one is none: what a later daemon means by it is not known here.
const VERSION: u32 = 1;

/// Most bytes of a checkpoint, encoded. Less than the store takes: a checkpoint that is refused there helps nobody.
const MAX_BYTES: usize = BYTES_MAX / 2;

/// Most bytes of cookies in it.
const MAX_COOKIE_BYTES: usize = 1 << 20;

/// What is kept of a session's browser.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Content {
    pub(super) version: u32,
    /// The number of the next document that a snapshot shows.
    pub(super) documents: u32,
    pub(super) cookies: Vec<Cookie>,
    /// Local storage of every origin the session has been to.
    pub(super) local: Storages,
    /// The viewport, and what is emulated.
    pub(super) looks: Looks,
    /// In their order.
    pub(super) tabs: Vec<SavedTab>,
    /// The number of the next tab.
    pub(super) next_tab: usize,
    /// What there was and is not in it: a clause each.
    pub(super) lost: BTreeSet<String>,
}

/// A tab of a session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct SavedTab {
    pub(super) number: usize,
    #[serde(default)]
    pub(super) name: Option<Arc<str>>,
    pub(super) current: bool,
    pub(super) url: String,
    pub(super) title: String,
    pub(super) session: Storages,
    pub(super) scroll: (f64, f64),
}

impl SavedTab {
    /// Whether there is anything to load.
    pub(super) fn is_blank(&self) -> bool {
        self.url.is_empty() || self.url == "about:blank"
    }
}

/// What of a checkpoint gives way when it is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Local,
    /// Of the how-manieth tab.
    Session(usize),
}

impl Content {
    /// Whether a blank browser is as good.
    pub(super) fn is_blank(&self) -> bool {
        let no_session = self.tabs.iter().all(|tab| tab.is_blank() && tab.session.values().all(Items::is_empty));
        self.cookies.is_empty()
            && self.local.values().all(Items::is_empty)
            && no_session
            && self.looks.emulation.is_none()
            && self.lost.is_empty()
    }

    /// As bytes, without what makes it too large: the largest storages go first, and are named in it.
    pub(super) fn encoded(mut self) -> Vec<u8> {
        self.version = VERSION;
        self.bound_cookies();
        self.bound_origins();
        loop {
            let bytes = serde_json::to_vec(&self).unwrap_or_default();
            if bytes.len() <= MAX_BYTES || !self.drop_largest() {
                return bytes;
            }
        }
    }

    /// What was encoded; `None` if it is not of this form.
    pub(super) fn decoded(bytes: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Form {
            version: u32,
        }
        let form: Form = serde_json::from_slice(bytes).ok()?;
        (form.version == VERSION).then(|| serde_json::from_slice(bytes).ok())?
    }

    fn bound_cookies(&mut self) {
        let (mut bytes, before) = (0, self.cookies.len());
        self.cookies.retain(|cookie| {
            bytes += cookie.name.len() + cookie.value.len() + cookie.domain.len() + cookie.path.len();
            bytes <= MAX_COOKIE_BYTES
        });
        let without = before - self.cookies.len();
        if without > 0 {
            self.lost.insert(format!("{without} cookies: all together they are too large"));
        }
    }

    fn bound_origins(&mut self) {
        self.local.retain(|_, items| !items.is_empty());
        // Those of open tabs are needed at once.
        let open: BTreeSet<_> = self.tabs.iter().flat_map(|tab| tab.session.keys().cloned()).collect();
        while self.local.len() > ORIGINS_MAX {
            let Some(origin) = self.local.keys().find(|origin| !open.contains(*origin)).or(self.local.keys().next())
            else {
                return;
            };
            let origin = origin.clone();
            self.local.remove(&origin);
            self.lost.insert(format!("local storage of {origin}: the session has been to too many sites"));
        }
    }

    /// Drops the largest storage; `false` when there is none.
    fn drop_largest(&mut self) -> bool {
        let of = |place, storages: &Storages| {
            let sized = |(origin, items): (&String, &Items)| (size(items), place, origin.clone());
            storages.iter().map(sized).collect::<Vec<_>>()
        };
        let tabs = self.tabs.iter().enumerate().flat_map(|(at, tab)| of(Place::Session(at), &tab.session));
        let Some((_, place, origin)) = of(Place::Local, &self.local).into_iter().chain(tabs).max() else {
            return false;
        };
        let (storages, kind) = match place {
            Place::Local => (&mut self.local, "local"),
            Place::Session(at) => (&mut self.tabs[at].session, "session"),
        };
        storages.remove(&origin);
        self.lost.insert(too_large(kind, &origin));
        true
    }
}

/// Why a storage is not kept.
pub(super) fn too_large(kind: &str, origin: &str) -> String {
    format!("{kind} storage of {origin}: it is too large")
}

fn size(items: &BTreeMap<String, String>) -> usize {
    items.iter().map(|(key, value)| key.len() + value.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storages(sizes: &[(&str, usize)]) -> Storages {
        let items = |size| Items::from([("k".to_owned(), "v".repeat(size))]);
        sizes.iter().map(|(origin, size)| ((*origin).to_owned(), items(*size))).collect()
    }

    #[test]
    fn what_was_encoded_comes_back() {
        let tab = SavedTab { number: 3, current: true, url: "http://a/".to_owned(), ..SavedTab::default() };
        let content =
            Content { documents: 7, local: storages(&[("http://a", 3)]), tabs: vec![tab], ..Content::default() };
        let back = Content::decoded(&content.clone().encoded()).unwrap();
        assert_eq!(back, Content { version: VERSION, ..content });
        assert!(!back.is_blank());
        assert!(Content::default().is_blank());
    }

    #[test]
    fn one_of_another_form_is_none() {
        let later = br#"{"version":2,"documents":"many"}"#;
        for bytes in [&later[..], b"{}", b"", b"[1]"] {
            assert_eq!(Content::decoded(bytes), None, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn the_largest_storages_give_way_and_are_named() {
        let tab = SavedTab { session: storages(&[("http://s", MAX_BYTES)]), ..SavedTab::default() };
        let local =
            storages(&[("http://large", MAX_BYTES / 2), ("http://larger", MAX_BYTES * 2 / 3), ("http://small", 9)]);
        let content = Content { local, tabs: vec![tab], ..Content::default() };
        let bytes = content.encoded();
        assert!(bytes.len() <= MAX_BYTES);
        let kept = Content::decoded(&bytes).unwrap();
        assert_eq!(kept.local.keys().collect::<Vec<_>>(), ["http://large", "http://small"]);
        assert_eq!(
            kept.lost.iter().collect::<Vec<_>>(),
            ["local storage of http://larger: it is too large", "session storage of http://s: it is too large"]
        );
    }

    #[test]
    fn items_that_grow_when_they_are_written_are_counted_as_written() {
        // A control character takes six bytes.
        let local =
            Storages::from([("http://a".to_owned(), Items::from([("k".to_owned(), "\u{1}".repeat(MAX_BYTES / 4))]))]);
        let bytes = Content { local, ..Content::default() }.encoded();
        assert!(bytes.len() <= MAX_BYTES, "{}", bytes.len());
    }

    #[test]
    fn sites_that_are_open_keep_theirs_when_there_were_too_many() {
        let names: Vec<String> = (0..=ORIGINS_MAX).map(|n| format!("http://{n:03}")).collect();
        let sizes: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
        let tab = SavedTab { session: storages(&[(names[0].as_str(), 0)]), ..SavedTab::default() };
        let content = Content { local: storages(&sizes), tabs: vec![tab], ..Content::default() };
        let kept = Content::decoded(&content.encoded()).unwrap();
        assert_eq!(kept.local.len(), ORIGINS_MAX);
        assert!(kept.local.contains_key("http://000") && !kept.local.contains_key("http://001"));
    }

    #[test]
    fn cookies_have_a_bound_of_their_own() {
        let cookie = Cookie {
            name: "c".to_owned(),
            value: "v".repeat(4000),
            domain: "a".to_owned(),
            path: "/".to_owned(),
            expires: None,
            http_only: false,
            secure: false,
            same_site: None,
            priority: None,
            source_scheme: None,
            source_port: None,
            partition_key: None,
        };
        let content = Content { cookies: vec![cookie; 300], ..Content::default() };
        let kept = Content::decoded(&content.encoded()).unwrap();
        assert_eq!(kept.cookies.len(), MAX_COOKIE_BYTES / 4003);
        assert_eq!(kept.lost.len(), 1);
    }
}
