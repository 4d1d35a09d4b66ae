//! What happened to a session's pages without being asked for, until a reply tells it.

use std::sync::{Mutex, PoisonError};

use super::{Dialog, tabs::MAX_TABS};

/// Most characters of a page's own words in a notice.
pub(super) const MAX_WORDS: usize = 200;

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
    /// A download was stopped, and why.
    DownloadStopped(String),
    /// A download ended before it was complete; its suggested name.
    DownloadBrokenOff(String),
}

/// The notices of one session that nobody has been told yet: one of each kind with its count, however many there were.
#[derive(Debug, Default)]
pub(super) struct Notices {
    untold: Mutex<Vec<(Notice, u64)>>,
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
            let were = were("download");
            format!("{were} denied, the last one: \"{}\"; whoever runs this server has not allowed any", cut(name))
        }
        Notice::DownloadStopped(why) => format!("{} stopped: {}", were("download"), why),
        Notice::DownloadBrokenOff(name) => format!("{} broken off, the last one: \"{name}\"", were("download")),
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
