//! What pages give away: how far each download is, until a reply takes it along.
//!
//! Two tell of a download: the page in which it begins knows its name, the browser how far it is. Whichever comes first, what
//! belongs together has one id. In a shared browser one hears of everybody's: only what began in our pages has a name here.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use browserfleet_common::size::Size;
use tokio::{
    sync::Notify,
    task::spawn_blocking,
    time::{Duration, Instant, timeout_at},
};

use super::wire::DownloadProgress;
use crate::chromium::DownloadDir;

/// How many downloads are told apart.
const KNOWN: usize = 64;
/// Most downloads that run, or that no reply has taken yet. Further ones are stopped.
const WAITING: usize = 8;
/// How long a reply waits for those that run.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where downloads go.
#[derive(Clone, Debug)]
pub struct DownloadPlace {
    pub dir: DownloadDir,
    /// Most bytes of one, and of those that come with one reply.
    pub most: u64,
}

/// A file that a page gave away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    /// As the site suggests; untrusted.
    pub name: String,
    pub bytes: Vec<u8>,
}

/// The downloads of one session.
#[derive(Debug, Default)]
pub(super) struct Downloads {
    /// None: they are denied.
    place: Option<DownloadPlace>,
    known: Mutex<VecDeque<Known>>,
    changed: Notify,
}

#[derive(Debug)]
struct Known {
    id: String,
    /// Known once it has begun in a page of ours.
    name: Option<String>,
    received: u64,
    state: State,
    /// A reply has waited for it: the next one does not.
    waited: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// It is there, and no reply has taken it.
    Complete,
    /// Told or taken: nothing more is to be said of it.
    Over,
}

/// What is to be done about a download after news of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine,
    /// It is too large, or there are too many; why.
    Stop(String),
    /// It ended before it was complete; its name, if it is one of ours.
    BrokenOff(Option<String>),
}

impl Downloads {
    pub(super) fn new(place: Option<DownloadPlace>) -> Self {
        Self { place, ..Self::default() }
    }

    pub(super) fn place(&self) -> Option<&DownloadPlace> {
        self.place.as_ref()
    }

    /// A download begins in a page of ours. Answers whether it is one to tell of as denied: the tab itself and the guard of the
    /// context both say so, and the second time it is no news.
    pub(super) fn begins(&self, id: &str, name: String) -> bool {
        let mut known = self.known();
        let entry = entry(&mut known, id);
        if entry.name.is_some() {
            return false;
        }
        entry.name = Some(name);
        if self.place.is_none() {
            entry.state = State::Over;
        }
        self.place.is_none()
    }

    /// The browser says how far a download is, whoever's it may be.
    pub(super) fn progress(&self, news: &DownloadProgress) -> Verdict {
        let Some(place) = &self.place else { return Verdict::Fine };
        let mut known = self.known();
        let waiting = known.iter().filter(|known| known.name.is_some() && known.state != State::Over).count();
        let entry = entry(&mut known, &news.guid);
        if entry.state != State::Running {
            return Verdict::Fine;
        }
        entry.received = whole(news.received_bytes.max(news.total_bytes));
        let completed = news.state == "completed";
        let verdict = match &entry.name {
            name if news.state == "canceled" => Verdict::BrokenOff(name.clone()),
            Some(name) if entry.received > place.most => {
                Verdict::Stop(format!("\"{name}\" has more than {}, the most that is kept", Size(place.most)))
            }
            Some(name) if !completed && waiting > WAITING => {
                Verdict::Stop(format!("\"{name}\" was more than {WAITING} at a time"))
            }
            _ => Verdict::Fine,
        };
        entry.state = match verdict {
            Verdict::Fine if completed => State::Complete,
            Verdict::Fine => State::Running,
            Verdict::Stop(_) | Verdict::BrokenOff(_) => State::Over,
        };
        drop(known);
        self.changed.notify_waiters();
        verdict
    }

    /// Waits for what runs, within a bound, and takes what is complete: as much as a reply can carry. Says of what goes on, and
    /// of what could not be read.
    pub(super) async fn take(&self, deadline: Instant) -> (Vec<Download>, Vec<String>) {
        let Some(place) = &self.place else { return (Vec::new(), Vec::new()) };
        // What runs longer is told of, and comes with a later reply.
        let _still_running = timeout_at(deadline.min(Instant::now() + PATIENCE), self.settled()).await;
        let (mut files, mut told, mut room) = (Vec::new(), Vec::new(), place.most);
        for (id, name) in self.complete() {
            let (dir, most) = (place.dir.clone(), room);
            let read = spawn_blocking(move || dir.take(&id, most)).await;
            match read {
                Ok(Ok(bytes)) => {
                    room -= bytes.len() as u64;
                    files.push(Download { name, bytes });
                }
                Ok(Err(error)) => told.push(format!("The download \"{name}\" could not be read: {error}")),
                Err(_runtime_ends) => {}
            }
        }
        let mut known = self.known();
        known.iter_mut().for_each(|known| known.waited |= known.name.is_some());
        let running: Vec<_> = known
            .iter()
            .filter(|known| known.state == State::Running)
            .filter_map(|known| Some(format!("\"{}\" ({})", known.name.as_ref()?, Size(known.received))))
            .collect();
        if !running.is_empty() {
            told.push(format!("Still running, and to come with a later reply: the download {}", running.join(", ")));
        }
        (files, told)
    }

    /// News of downloads may have been missed: what ran is given up, so that nobody waits for it for ever. Answers its names.
    pub(super) fn lost_sight(&self) -> Vec<String> {
        let mut known = self.known();
        let running = known.iter_mut().filter(|known| known.state == State::Running);
        running
            .filter_map(|known| {
                known.state = State::Over;
                known.name.clone()
            })
            .collect()
    }

    /// Removes what nobody will take: the session is over.
    pub(super) async fn discard(&self) {
        let all = std::mem::take(&mut *self.known());
        let left = all.into_iter().filter(|known| known.name.is_some() && known.state != State::Over);
        self.remove(left.map(|known| known.id).collect()).await;
    }

    /// Removes files, as far as they are there.
    pub(super) async fn remove(&self, ids: Vec<String>) {
        let Some(place) = self.place.clone().filter(|_| !ids.is_empty()) else { return };
        let removing = move || ids.iter().for_each(|id| _ = place.dir.remove(id));
        let _runtime_ends = spawn_blocking(removing).await;
    }

    async fn settled(&self) {
        loop {
            let changed = self.changed.notified();
            if !self.known().iter().any(|known| known.state == State::Running && known.name.is_some() && !known.waited)
            {
                return;
            }
            changed.await;
        }
    }

    /// Those that are there: from now on they are whose who asked. As many as have room in one reply, but one at least.
    fn complete(&self) -> Vec<(String, String)> {
        let mut room = self.place.as_ref().map_or(0, |place| place.most);
        let mut complete = Vec::new();
        for known in self.known().iter_mut().filter(|known| known.state == State::Complete) {
            let Some(name) = &known.name else { continue };
            let Some(rest) = room.checked_sub(known.received) else { break };
            room = rest;
            complete.push((known.id.clone(), name.clone()));
            known.state = State::Over;
        }
        complete
    }

    fn known(&self) -> MutexGuard<'_, VecDeque<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of a download; the one longest known makes room for a new one, those that are over first.
fn entry<'a>(known: &'a mut VecDeque<Known>, id: &str) -> &'a mut Known {
    let at = known.iter().position(|known| known.id == id).unwrap_or_else(|| {
        if known.len() == KNOWN {
            let over = known.iter().position(|known| known.state == State::Over || known.name.is_none());
            known.remove(over.unwrap_or(0));
        }
        known.push_back(Known { id: id.to_owned(), name: None, received: 0, state: State::Running, waited: false });
        known.len() - 1
    });
    &mut known[at]
}

/// Chromium counts bytes in floating point.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and a negative one is none")]
fn whole(bytes: f64) -> u64 {
    bytes as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(id: &str, received: f64, state: &str) -> DownloadProgress {
        DownloadProgress { guid: id.to_owned(), total_bytes: 0.0, received_bytes: received, state: state.to_owned() }
    }

    fn downloads(most: u64) -> (tempfile::TempDir, Downloads) {
        let root = tempfile::tempdir().unwrap();
        let dir = DownloadDir::new(root.path().to_owned(), nix::unistd::geteuid().as_raw());
        (root, Downloads::new(Some(DownloadPlace { dir, most })))
    }

    async fn taken(downloads: &Downloads) -> (Vec<String>, Vec<String>) {
        let (files, told) = downloads.take(Instant::now()).await;
        (files.into_iter().map(|file| file.name).collect(), told)
    }

    #[tokio::test]
    async fn whichever_is_heard_first_a_file_is_taken_once() {
        let (root, downloads) = downloads(10);
        for (id, name_first) in [("a", true), ("b", false)] {
            std::fs::write(root.path().join(id), "x").unwrap();
            if name_first {
                downloads.begins(id, id.to_owned());
            }
            assert_eq!(downloads.progress(&news(id, 1.0, "completed")), Verdict::Fine);
            downloads.begins(id, id.to_owned());
            assert_eq!(taken(&downloads).await, (vec![id.to_owned()], vec![]));
            downloads.begins(id, id.to_owned());
            assert_eq!(downloads.progress(&news(id, 1.0, "completed")), Verdict::Fine);
            assert_eq!(taken(&downloads).await, (vec![], vec![]));
        }
    }

    #[tokio::test]
    async fn what_nobody_of_ours_began_is_nobody_elses_business() {
        let (root, downloads) = downloads(10);
        std::fs::write(root.path().join("theirs"), "x").unwrap();
        assert_eq!(downloads.progress(&news("theirs", 1e9, "inProgress")), Verdict::Fine);
        assert_eq!(downloads.progress(&news("theirs", 1.0, "completed")), Verdict::Fine);
        assert_eq!(downloads.progress(&news("also", 1.0, "canceled")), Verdict::BrokenOff(None));
        assert_eq!(taken(&downloads).await, (vec![], vec![]));
    }

    #[tokio::test]
    async fn a_reply_carries_as_much_as_one_file_may_have() {
        let (root, downloads) = downloads(10);
        for id in ["a", "b", "c"] {
            std::fs::write(root.path().join(id), "123456").unwrap();
            downloads.begins(id, id.to_owned());
            assert_eq!(downloads.progress(&news(id, 6.0, "completed")), Verdict::Fine);
        }
        for id in ["a", "b", "c"] {
            assert_eq!(taken(&downloads).await, (vec![id.to_owned()], vec![]));
        }
    }

    #[tokio::test]
    async fn too_large_and_too_many_are_stopped_and_the_rest_is_told() {
        let (_root, downloads) = downloads(10);
        for n in 0..=WAITING {
            downloads.begins(&n.to_string(), format!("n{n}"));
        }
        assert!(matches!(downloads.progress(&news("0", 11.0, "inProgress")), Verdict::Stop(why) if why.contains("n0")));
        assert_eq!(downloads.progress(&news("1", 5.0, "inProgress")), Verdict::Fine, "eight are left");
        downloads.begins("9", "n9".to_owned());
        assert!(matches!(downloads.progress(&news("9", 1.0, "inProgress")), Verdict::Stop(why) if why.contains("n9")));
        assert_eq!(downloads.progress(&news("2", 1.0, "canceled")), Verdict::BrokenOff(Some("n2".to_owned())));
        let (files, told) = taken(&downloads).await;
        assert!(
            files.is_empty() && told.len() == 1 && told[0].contains("\"n1\" (") && !told[0].contains("n2"),
            "{told:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_waits_once_and_never_for_what_was_lost_sight_of() {
        let (_root, downloads) = downloads(10);
        downloads.begins("a", "a".to_owned());
        for waits in [true, false] {
            let begun = Instant::now();
            let (_, told) = downloads.take(begun + 10 * PATIENCE).await;
            assert_eq!((begun.elapsed() >= PATIENCE, told.len()), (waits, 1));
        }
        assert_eq!(downloads.lost_sight(), ["a"]);
        assert_eq!(taken(&downloads).await, (vec![], vec![]));
    }

    #[tokio::test]
    async fn what_is_left_when_a_session_ends_is_removed() {
        let (root, downloads) = downloads(10);
        for (id, ours) in [("a", true), ("theirs", false)] {
            std::fs::write(root.path().join(id), "x").unwrap();
            if ours {
                downloads.begins(id, id.to_owned());
            }
            downloads.progress(&news(id, 1.0, "completed"));
        }
        downloads.discard().await;
        assert!(!root.path().join("a").exists() && root.path().join("theirs").exists());
    }

    #[test]
    fn what_is_denied_is_told_once() {
        let downloads = Downloads::new(None);
        assert!(downloads.begins("a", "a".to_owned()));
        assert!(!downloads.begins("a", "a".to_owned()));
    }
}
