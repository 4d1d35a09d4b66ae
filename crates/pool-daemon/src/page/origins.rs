//! The origins a session's pages have been at, and what was put into the storage of some.
//!
//! Chromium does not tell which origins have a local storage. Whoever wants all of them asks those that pages have been at.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use url::Url;

use super::{
    Context,
    storage::{Items, ORIGINS_MAX, Storages},
};

/// Most origins that are remembered; the latest are.
const VISITED_MAX: usize = 64;

/// Most origins whose storages were filled or emptied and not read since: as many as one state can touch.
const PLANTED_MAX: usize = VISITED_MAX + ORIGINS_MAX;

/// What is known of origins.
#[derive(Debug, Default)]
pub(super) struct Origins(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The latest at the end.
    visited: VecDeque<String>,
    /// Local storages that were put in place, until they have been read from a page; the latest at the end.
    planted: VecDeque<(String, Items)>,
}

impl Known {
    /// Takes on what was put in place. Answers the origins that gave way to it, the oldest first.
    fn plant(&mut self, storages: Storages) -> Vec<String> {
        self.planted.retain(|(origin, _)| !storages.contains_key(origin));
        self.planted.extend(storages);
        let mut filled = self.planted.iter().filter(|(_, items)| !items.is_empty()).count();
        let mut bytes: usize = self.planted.iter().map(|(_, items)| bytes_of(items)).sum();
        let mut gone = Vec::new();
        // Those that were emptied stay: they take no room, and without them what they had would come back.
        while (filled > ORIGINS_MAX || bytes > Context::STORAGES_MAX)
            && let Some(oldest) = self.planted.iter().position(|(_, items)| !items.is_empty())
            && let Some((origin, items)) = self.planted.remove(oldest)
        {
            filled -= 1;
            bytes -= bytes_of(&items);
            gone.push(origin);
        }
        let excess = self.planted.len().saturating_sub(PLANTED_MAX);
        gone.extend(self.planted.drain(..excess).map(|(origin, _)| origin));
        gone
    }
}

fn bytes_of(items: &Items) -> usize {
    items.iter().map(|(name, value)| name.len() + value.len()).sum()
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
    /// Most bytes of local storages that are put in place, or given away, together.
    pub const STORAGES_MAX: usize = 4 << 20;

    /// Origins of documents that its pages have shown, the latest last.
    pub fn visited(&self) -> Vec<String> {
        self.shared.origins.known().visited.iter().cloned().collect()
    }

    /// Local storages that were put in place and that no page has shown since; an empty one was emptied.
    pub fn planted(&self) -> Storages {
        self.shared.origins.known().planted.iter().cloned().collect()
    }

    /// Local storages have been put in place. Answers the origins for which that is not remembered any more: it was too much.
    pub fn plant(&self, storages: Storages) -> Vec<String> {
        self.shared.origins.known().plant(storages)
    }

    /// Local storages have been read from pages: what was put there is not news any more.
    pub fn uproot<'a>(&self, read: impl Iterator<Item = &'a String>) {
        let planted = &mut self.shared.origins.known().planted;
        read.for_each(|origin| planted.retain(|(known, _)| known != origin));
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

    fn storages(origins: impl Iterator<Item = usize>, bytes: usize) -> Storages {
        let items = || if bytes == 0 { Items::new() } else { Items::from([("k".to_owned(), "v".repeat(bytes - 1))]) };
        origins.map(|n| (format!("https://{n:03}.example"), items())).collect()
    }

    #[test]
    fn what_was_put_in_place_has_a_bound_and_the_oldest_gives_way() {
        let mut known = Known::default();
        assert!(known.plant(storages(0..ORIGINS_MAX, 2)).is_empty());
        assert_eq!(known.plant(storages(500..501, 2)), ["https://000.example"], "too many");
        assert!(known.plant(storages(1..2, 2)).is_empty(), "the same origin again");
        assert_eq!(known.plant(storages(501..502, 2)), ["https://002.example"], "it was the latest then");
        let mut known = Known::default();
        assert!(known.plant(storages(0..1, 1)).is_empty());
        assert!(known.plant(storages(1..2, 0)).is_empty());
        assert_eq!(known.plant(storages(2..3, Context::STORAGES_MAX)), ["https://000.example"], "too large");
        assert_eq!(known.planted.len(), 2, "what was emptied stays");
        assert_eq!(known.plant(storages(100..100 + PLANTED_MAX, 0)).len(), 2);
        assert_eq!(known.planted.len(), PLANTED_MAX);
    }
}
