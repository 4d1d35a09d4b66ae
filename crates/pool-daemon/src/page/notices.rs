//! What happened to a session's pages without being asked for, until a reply tells it.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use super::{Dialog, tabs::MAX_TABS};

/// Most characters of a page's own words in a notice.
const MAX_WORDS: usize = 200;

/// How many downloads are told apart.
const DOWNLOADS: usize = 32;

/// Something the agent should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// A tab beyond the limit was closed.
    TabClosed,
    /// A dialog was dismissed without asking.
    DialogDismissed(Dialog),
    /// A page asked whether it may be left, and was left.
    Left,
    /// A server asked who is there, and got no answer; its challenge.
    LoginAsked(String),
    /// A download was denied; its suggested name.
    DownloadDenied(String),
}

/// The notices of one session that nobody has been told yet: one of each kind with its count, however many there were.
#[derive(Debug, Default)]
pub(super) struct Notices {
    untold: Mutex<Vec<(Notice, u64)>>,
    /// The latest downloads, by Chromium's id: a tab's own page and the guard of the context both hear of them.
    downloads: Mutex<VecDeque<String>>,
}

impl Notices {
    /// Adds a notice; of each kind the latest is kept.
    pub(super) fn add(&self, notice: Notice) {
        let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |known: &Notice| std::mem::discriminant(known) == std::mem::discriminant(&notice);
        if let Some((known, count)) = untold.iter_mut().find(|(known, _)| same(known)) {
            (*known, *count) = (notice, *count + 1);
        } else {
            untold.push((notice, 1));
        }
    }

    /// Adds a download that was denied, once.
    pub(super) fn download(&self, id: String, name: String) {
        let mut downloads = self.downloads.lock().unwrap_or_else(PoisonError::into_inner);
        if downloads.contains(&id) {
            return;
        }
        if downloads.len() == DOWNLOADS {
            downloads.pop_front();
        }
        downloads.push_back(id);
        drop(downloads);
        self.add(Notice::DownloadDenied(name));
    }

    /// What has to be told, one sentence a kind; only the first who asks hears of it.
    pub(super) fn take(&self) -> Vec<String> {
        let untold = std::mem::take(&mut *self.untold.lock().unwrap_or_else(PoisonError::into_inner));
        untold.iter().map(|(notice, count)| sentence(notice, *count)).collect()
    }
}

fn sentence(notice: &Notice, count: u64) -> String {
    let were = |noun: &str| if count == 1 { format!("1 {noun} was") } else { format!("{count} {noun}s were") };
    match notice {
        Notice::TabClosed => {
            format!("{} closed: a session may have {MAX_TABS} open at a time", were("further tab"))
        }
        Notice::DialogDismissed(Dialog { kind, message }) => {
            format!("{} dismissed, the last one: {kind} \"{}\"", were("dialog"), cut(message))
        }
        Notice::Left => "The page asked whether it may be left; it was left".to_owned(),
        Notice::LoginAsked(challenge) => {
            let challenge = cut(challenge);
            format!(
                "The server asked for a user name and password ({challenge}); the page is what it shows without them"
            )
        }
        Notice::DownloadDenied(name) => {
            format!("{} denied, the last one: \"{}\"; downloads are not kept", were("download"), cut(name))
        }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_one_sentence_and_told_once() {
        let notices = Notices::default();
        for n in 0..1000 {
            notices.add(Notice::DialogDismissed(Dialog { kind: "alert".to_owned(), message: format!("no {n}") }));
            notices.add(Notice::TabClosed);
        }
        let told = notices.take();
        assert_eq!(told[0], "1000 dialogs were dismissed, the last one: alert \"no 999\"");
        assert_eq!(told[1], "1000 further tabs were closed: a session may have 10 open at a time");
        assert!(notices.take().is_empty());
    }
}
