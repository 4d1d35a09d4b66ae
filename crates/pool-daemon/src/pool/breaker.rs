//! Failing launches: back off after each, and stop promising browsers when they keep failing.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::model::Launching;

/// What is known of recent launches.
#[derive(Clone, Debug)]
pub(super) struct Breaker {
    rules: Launching,
    /// Failures since the last success.
    in_a_row: u32,
    /// When the latest failures were, at most as many as open the breaker.
    recent: VecDeque<Instant>,
    /// Why the last one failed.
    reason: String,
    /// No launch before this.
    not_before: Option<Instant>,
    open: bool,
}

impl Breaker {
    pub(super) fn new(rules: Launching) -> Self {
        Self { rules, in_a_row: 0, recent: VecDeque::new(), reason: String::new(), not_before: None, open: false }
    }

    /// A launch has succeeded: the trouble is over.
    pub(super) fn succeeded(&mut self) {
        *self = Self::new(self.rules);
    }

    /// A launch has failed. Answers when the next one may be tried.
    pub(super) fn failed(&mut self, reason: &str, now: Instant) -> Duration {
        let delay = self.rules.backoff.saturating_mul(1 << self.in_a_row.min(16)).min(self.rules.max_backoff);
        self.in_a_row += 1;
        reason.clone_into(&mut self.reason);
        self.not_before = Some(now + delay);
        self.recent.push_back(now);
        if self.recent.len() > self.rules.breaker_failures {
            self.recent.pop_front();
        }
        let oldest = self.recent.front().copied().unwrap_or(now);
        let many = self.recent.len() >= self.rules.breaker_failures;
        self.open |= many && now.duration_since(oldest) <= self.rules.breaker_window;
        delay
    }

    /// How many launches may run at a time now: after a failure one finds out whether the trouble is over.
    pub(super) fn most(&self, most: usize, now: Instant) -> usize {
        match self.not_before {
            Some(at) if at > now => 0,
            Some(_) => most.min(1),
            None => most,
        }
    }

    /// When launching may go on, if it may not now.
    pub(super) fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    /// Why nobody should wait for a launch.
    pub(super) fn broken(&self) -> Option<&str> {
        self.open.then_some(self.reason.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn breaker() -> Breaker {
        Breaker::new(Launching {
            backoff: SECOND,
            max_backoff: 8 * SECOND,
            breaker_failures: 5,
            breaker_window: 60 * SECOND,
        })
    }

    #[test]
    fn each_failure_doubles_the_wait_and_a_success_forgets_them() {
        let now = Instant::now();
        let mut breaker = breaker();
        assert_eq!(breaker.most(4, now), 4);
        let waits: Vec<_> = (0..5).map(|_| breaker.failed("no", now).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 8]);
        assert_eq!(breaker.most(4, now), 0);
        assert_eq!(breaker.most(4, now + 8 * SECOND), 1, "one launch finds out");
        breaker.succeeded();
        assert_eq!((breaker.most(4, now), breaker.broken()), (4, None));
    }

    #[test]
    fn only_failures_that_come_close_together_open_it() {
        let start = Instant::now();
        let mut slow = breaker();
        for n in 0..20 {
            slow.failed("now and then", start + n * 16 * SECOND);
        }
        assert_eq!(slow.broken(), None, "five in 64 s");
        let mut fast = breaker();
        for n in 0..5 {
            assert_eq!(fast.broken(), None);
            fast.failed("always", start + n * 15 * SECOND);
        }
        assert_eq!(fast.broken(), Some("always"), "five in 60 s");
    }
}
