//! Telling a dialog from a storm of dialogs. Decisions only.

use std::collections::VecDeque;

use tokio::time::{Duration, Instant};

/// More dialogs than this within [`WINDOW`] are a storm.
const MOST: usize = 5;

/// Counted in the page's own time, which stands still while a dialog is open: an agent that takes its time to answer does
/// not make an endless loop of dialogs look harmless.
const WINDOW: Duration = Duration::from_secs(2);

/// How fast a page opens dialogs.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the last dialogs were opened, in the page's own time.
    opened: VecDeque<Instant>,
    /// How long the page has stood still so far.
    still: Duration,
    /// Since when the open dialog has stopped the page.
    since: Option<Instant>,
}

impl Pace {
    /// A dialog has opened. Answers whether it is part of a storm.
    pub(super) fn opened(&mut self, now: Instant) -> bool {
        let own = now - self.still;
        self.since = Some(now);
        self.opened.push_back(own);
        while self.opened.len() > MOST + 1 {
            self.opened.pop_front();
        }
        self.opened.len() > MOST && self.opened.front().is_some_and(|&first| own.duration_since(first) <= WINDOW)
    }

    /// The dialog is gone, however it was answered.
    pub(super) fn closed(&mut self, now: Instant) {
        self.still += self.since.take().map_or(Duration::ZERO, |since| now.duration_since(since));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opens dialogs of a page that computes for `apart` between two of them; each is answered after `answered`.
    fn storms(apart: Duration, answered: Duration, count: usize) -> Vec<bool> {
        let (mut pace, mut now) = (Pace::default(), Instant::now() + Duration::from_hours(1));
        let one = |_| {
            let storm = pace.opened(now);
            now += answered;
            pace.closed(now);
            now += apart;
            storm
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn a_loop_of_dialogs_is_a_storm_however_slowly_it_is_answered() {
        let expected = [false, false, false, false, false, true, true];
        assert_eq!(storms(Duration::from_millis(1), Duration::from_millis(1), 7), expected);
        assert_eq!(storms(Duration::from_millis(1), Duration::from_mins(1), 7), expected);
    }

    #[test]
    fn dialogs_now_and_then_are_none() {
        assert!(storms(Duration::from_millis(500), Duration::from_millis(1), 50).iter().all(|storm| !storm));
    }
}
