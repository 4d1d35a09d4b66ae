//! The origins a session's pages have been at, and what was put into the storage of some.
//!
//! Chromium does not tell which origins have a local storage. Whoever wants all of them asks those that pages have been at.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use url::Url;

use super::{Context, storage::Storages};

/// Most origins that are remembered; the latest are.
const VISITED_MAX: usize = 64;

/// What is known of origins.
#[derive(Debug, Default)]
pub(super) struct Origins(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The latest at the end.
    visited: VecDeque<String>,
    /// Local storages that were put in place, until they have been read from a page.
    planted: Storages,
}

impl Origins {
    /// Plain data behind a short lock.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A page shows a document of this URL.
    pub(super) fn visited(&self, url: &str) {
        let Some(url) = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https")) else { return };
        let origin = url.origin().ascii_serialization();
        let visited = &mut self.known().visited;
        if visited.back() == Some(&origin) {
            return;
        }
        visited.retain(|known| *known != origin);
        if visited.len() == VISITED_MAX {
            visited.pop_front();
        }
        visited.push_back(origin);
    }
}

impl Context {
    /// Origins of documents that its pages have shown, the latest last.
    pub fn visited(&self) -> Vec<String> {
        self.shared.origins.known().visited.iter().cloned().collect()
    }

    /// Local storages that were put in place and that no page has shown since; an empty one was emptied.
    pub fn planted(&self) -> Storages {
        self.shared.origins.known().planted.clone()
    }

    /// Local storages have been put in place.
    pub fn plant(&self, storages: Storages) {
        self.shared.origins.known().planted.extend(storages);
    }

    /// Local storages have been read from pages: what was put there is not news any more.
    pub fn uproot<'a>(&self, read: impl Iterator<Item = &'a String>) {
        let planted = &mut self.shared.origins.known().planted;
        read.for_each(|origin| drop(planted.remove(origin)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_origins_are_remembered_once_each() {
        let origins = Origins::default();
        for url in ["about:blank", "http://a/1", "http://b:8080/", "data:text/html,x", "http://a/2"] {
            origins.visited(url);
        }
        assert_eq!(origins.known().visited, ["http://b:8080", "http://a"]);
        (0..VISITED_MAX).for_each(|n| origins.visited(&format!("https://{n}.example/")));
        assert_eq!(origins.known().visited.len(), VISITED_MAX);
        assert_eq!(origins.known().visited[0], "https://0.example");
    }
}
