//! Where a new lease is asked for. Pure: what the daemons say comes in as events, choices come out; no clock, no I/O.
//!
//! A daemon that is not announced, that cannot be reached from here, or that is draining is not used. Whether it can be
//! reached is this front end's own experience: no announcement ends it, only an answer does. One whose acquisitions fail three
//! times in a row is ejected for a while; after that one caller at a time may try it (half open), until it grants again. At
//! most half of the daemons are ejected, so that a fault that all of them share does not leave none. When nothing is usable,
//! everything is tried: a refusal that says why is worth more than a guess.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

/// Failures in a row after which a daemon is ejected.
const FAILURES_MAX: u32 = 3;
/// How long the first ejection lasts; each further one lasts twice as long as the one before.
const BACKOFF: Duration = Duration::from_secs(2);
const BACKOFF_MAX: Duration = Duration::from_mins(1);
/// How long a half-open daemon is left to the one caller who tries it, if nothing is heard of that.
const PROBE: Duration = Duration::from_secs(10);

/// A daemon's number. Never another's, also when it is gone.
pub(super) type Index = usize;

/// What a daemon says of its use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// Browsers that are ready: a grant costs no launch.
    pub(super) idle: u32,
    /// Browsers that could still be launched.
    pub(super) room: u32,
    /// Callers in its queue.
    pub(super) queued: u32,
    /// It takes no new leases now: it is shutting down, or cannot start browsers.
    pub(super) closed: bool,
}

/// What was learned of a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The directory says how it is. Whether it can be reached from here is another matter.
    Announced(Report),
    /// The directory does not list it.
    Unlisted,
    /// It was asked how it is, and has answered.
    Reported(Report),
    /// It could not be reached from here, or did not answer.
    Unreachable,
    /// An acquisition is under way.
    Asked,
    Granted,
    /// It has no browser to give now. It is well.
    Full,
    /// It takes no new leases.
    Draining,
    /// It refused for a reason that lies with the caller.
    Refused,
    /// It failed to give what it should: a launch failed, it did not answer, something broke.
    Failed,
}

/// What is known of all daemons.
#[derive(Debug, Default)]
pub(super) struct Placement {
    daemons: BTreeMap<Index, Daemon>,
}

#[derive(Debug, Default)]
struct Daemon {
    /// `None`: nothing has been heard yet.
    report: Option<Report>,
    /// The directory does not list it.
    unlisted: bool,
    reach: Reach,
    /// Failed acquisitions in a row.
    failures: u32,
    ejection: Option<Ejection>,
}

/// Whether it can be reached from here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reach {
    /// Nobody has tried: it is given the benefit of the doubt.
    #[default]
    Untried,
    Answers,
    Not,
}

#[derive(Clone, Copy, Debug)]
struct Ejection {
    /// Half open from then on.
    until: Instant,
    lasts: Duration,
    /// Somebody tries it: others may from then on.
    probed_until: Option<Instant>,
}

impl Placement {
    /// There is one more.
    pub(super) fn add(&mut self, index: Index) {
        self.daemons.insert(index, Daemon::default());
    }

    /// One is gone.
    pub(super) fn remove(&mut self, index: Index) {
        self.daemons.remove(&index);
    }

    /// Takes note of an event. What is heard of one that is gone is of no interest.
    pub(super) fn on(&mut self, index: Index, event: Event, now: Instant) {
        let Some(daemon) = self.daemons.get_mut(&index) else { return };
        match event {
            Event::Announced(report) => {
                daemon.unlisted = false;
                daemon.report = Some(report);
            }
            Event::Unlisted => daemon.unlisted = true,
            Event::Reported(report) => {
                daemon.reach = Reach::Answers;
                daemon.report = Some(report);
            }
            Event::Unreachable => daemon.reach = Reach::Not,
            Event::Asked => daemon.probe(now),
            Event::Granted => daemon.granted(),
            Event::Full => {
                daemon.answered();
                if let Some(report) = &mut daemon.report {
                    report.idle = 0;
                }
            }
            Event::Refused => daemon.answered(),
            Event::Draining => {
                daemon.answered();
                daemon.report.get_or_insert_default().closed = true;
                self.failed(index, now);
            }
            Event::Failed => self.failed(index, now),
        }
    }

    fn failed(&mut self, index: Index, now: Instant) {
        // Those that are out of reach are not used anyway.
        let there = || self.daemons.values().filter(|daemon| daemon.is_there());
        let ejected = there().filter(|daemon| daemon.ejection.is_some()).count();
        let one_more = ejected < there().count() / 2;
        let Some(daemon) = self.daemons.get_mut(&index) else { return };
        daemon.failures += 1;
        let lasts = match daemon.ejection {
            Some(ejection) if now < ejection.until => return,
            Some(ejection) => (ejection.lasts * 2).min(BACKOFF_MAX),
            None if daemon.failures >= FAILURES_MAX && one_more => BACKOFF,
            None => return,
        };
        daemon.ejection = Some(Ejection { until: now + lasts, lasts, probed_until: None });
    }

    /// Whom to ask for a browser without waiting, best first. Two are drawn by `seed` and ordered by what they have free;
    /// the others follow, for when those fail. A half-open daemon comes first: somebody has to try it.
    pub(super) fn tries(&self, seed: u64, now: Instant) -> Vec<Index> {
        let mut usable = self.usable(&[], now);
        let count = usable.len();
        if count > 2 {
            // Two different places, drawn from one number.
            let seed = usize::try_from(seed % (1 << 31)).unwrap_or_default();
            let first = seed % count;
            usable.swap(0, first);
            usable[1..].sort_unstable();
            usable.swap(1, 1 + (seed / count) % (count - 1));
        }
        let (drawn, others) = usable.split_at_mut(count.min(2));
        for part in [drawn, others] {
            part.sort_by_key(|index| std::cmp::Reverse(self.daemons[index].free()));
        }
        // Stable: the order stays.
        usable.sort_by_key(|index| self.daemons[index].ejection.is_none());
        usable
    }

    /// Whose queue to wait in: the shortest; among equals, of the one with the most free.
    pub(super) fn line(&self, without: &[Index], now: Instant) -> Option<Index> {
        let usable = self.usable(without, now).into_iter();
        usable.min_by_key(|index| {
            let daemon = &self.daemons[index];
            (daemon.report.as_ref().map_or(0, |report| report.queued), std::cmp::Reverse(daemon.free()))
        })
    }

    /// Those that have a browser ready, as far as is known.
    pub(super) fn free(&self, without: &[Index], now: Instant) -> Vec<Index> {
        let idle = |index: &Index| self.daemons[index].report.as_ref().is_some_and(|report| report.idle > 0);
        self.in_service(without, now).into_iter().filter(idle).collect()
    }

    /// Those that have to be asked from here whether they can be reached: nobody has tried yet, or the last try failed.
    pub(super) fn doubtful(&self) -> Vec<Index> {
        let doubtful = |daemon: &Daemon| !daemon.unlisted && daemon.reach != Reach::Answers;
        self.daemons.iter().filter(|(_, daemon)| doubtful(daemon)).map(|(index, _)| *index).collect()
    }

    /// How many take new leases.
    pub(super) fn count(&self, now: Instant) -> usize {
        self.in_service(&[], now).len()
    }

    /// How many are ejected and not yet to be tried again.
    pub(super) fn ejected(&self, now: Instant) -> usize {
        self.daemons.values().filter(|daemon| daemon.is_ejected(now)).count()
    }

    fn in_service(&self, without: &[Index], now: Instant) -> Vec<Index> {
        let all = self.daemons.iter();
        all.filter(|(index, daemon)| !without.contains(index) && daemon.is_usable(now))
            .map(|(index, _)| *index)
            .collect()
    }

    /// Those in service; if there are none at all, everybody else.
    fn usable(&self, without: &[Index], now: Instant) -> Vec<Index> {
        if self.count(now) > 0 {
            return self.in_service(without, now);
        }
        self.daemons.keys().copied().filter(|index| !without.contains(index)).collect()
    }
}

impl Daemon {
    fn is_usable(&self, now: Instant) -> bool {
        let closed = self.report.as_ref().is_some_and(|report| report.closed);
        self.is_there() && !closed && !self.is_ejected(now)
    }

    /// As far as is known.
    fn is_there(&self) -> bool {
        !self.unlisted && self.reach != Reach::Not
    }

    fn is_ejected(&self, now: Instant) -> bool {
        self.ejection.is_some_and(|ejection| {
            now < ejection.until || ejection.probed_until.is_some_and(|probed_until| now < probed_until)
        })
    }

    /// What it has to give; one that has said nothing yet is worth a question.
    fn free(&self) -> (bool, u32) {
        self.report.as_ref().map_or((true, 0), |report| (report.idle > 0, report.idle + report.room))
    }

    fn probe(&mut self, now: Instant) {
        if let Some(ejection) = &mut self.ejection {
            ejection.probed_until = Some(now + PROBE);
        }
    }

    /// It is well. Until its next report we count ourselves.
    fn granted(&mut self) {
        self.reach = Reach::Answers;
        self.failures = 0;
        self.ejection = None;
        if let Some(report) = &mut self.report {
            match report.idle.checked_sub(1) {
                Some(idle) => report.idle = idle,
                None => report.room = report.room.saturating_sub(1),
            }
        }
    }

    /// Whether it can launch is still open: neither a failure nor a success.
    fn answered(&mut self) {
        self.reach = Reach::Answers;
        if let Some(ejection) = &mut self.ejection {
            ejection.probed_until = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn reported(idle: u32, queued: u32) -> Event {
        Event::Reported(Report { idle, queued, ..Report::default() })
    }

    fn placement(reports: &[(u32, u32)]) -> (Placement, Instant) {
        let (mut placement, now) = (Placement::default(), Instant::now());
        for (index, &(idle, queued)) in reports.iter().enumerate() {
            placement.add(index);
            placement.on(index, reported(idle, queued), now);
        }
        (placement, now)
    }

    fn fail(placement: &mut Placement, index: Index, times: usize, now: Instant) {
        for _ in 0..times {
            placement.on(index, Event::Failed, now);
        }
    }

    #[test]
    fn of_two_drawn_the_freer_one_comes_first_and_all_are_drawn_alike() {
        let (placement, now) = placement(&[(1, 0), (4, 0), (2, 0), (3, 0)]);
        let mut drawn = [0; 4];
        for seed in 0..1200 {
            let tries = placement.tries(seed, now);
            let idle = |index: usize| [1, 4, 2, 3][index];
            assert!(idle(tries[0]) > idle(tries[1]), "{tries:?}");
            let mut all = tries.clone();
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3]);
            drawn[tries[0]] += 1;
            drawn[tries[1]] += 1;
        }
        assert_eq!(drawn, [600; 4], "each is one of the two in every second draw");
    }

    #[test]
    fn grants_are_counted_until_the_next_report() {
        let (mut placement, now) = placement(&[(2, 0), (1, 0)]);
        placement.on(0, Event::Granted, now);
        placement.on(0, Event::Granted, now);
        assert_eq!((placement.tries(0, now), placement.free(&[], now)), (vec![1, 0], vec![1]));
    }

    #[test]
    fn the_shortest_queue_is_joined() {
        let (mut placement, now) = placement(&[(0, 3), (0, 1), (0, 2)]);
        assert_eq!((placement.line(&[], now), placement.line(&[1], now)), (Some(1), Some(2)));
        placement.on(1, Event::Unreachable, now);
        assert_eq!(placement.line(&[2], now), Some(0));
        assert_eq!(
            placement.line(&[0, 2], now),
            None,
            "one out of reach is no last resort while others are in service"
        );
    }

    #[test]
    fn unreachable_and_draining_daemons_are_not_used() {
        let (mut placement, now) = placement(&[(1, 0), (1, 0), (1, 0)]);
        placement.on(0, Event::Unreachable, now);
        placement.on(1, Event::Reported(Report { idle: 1, closed: true, ..Report::default() }), now);
        assert_eq!((placement.tries(7, now), placement.free(&[], now), placement.count(now)), (vec![2], vec![2], 1));
        // Its own word shows that it can be reached.
        placement.on(0, reported(1, 0), now);
        assert_eq!(placement.count(now), 2);
    }

    #[test]
    fn no_announcement_says_that_a_daemon_can_be_reached_from_here() {
        let (mut placement, now) = (Placement::default(), Instant::now());
        let announced = || Event::Announced(Report { idle: 1, ..Report::default() });
        for index in 0..2 {
            placement.add(index);
            placement.on(index, announced(), now);
        }
        assert_eq!((placement.count(now), placement.doubtful()), (2, vec![0, 1]), "used, and asked for the first time");
        placement.on(0, reported(1, 0), now);
        placement.on(1, Event::Unreachable, now);
        placement.on(1, announced(), now);
        assert_eq!((placement.count(now), placement.doubtful()), (1, vec![1]));
        assert_eq!((placement.tries(1, now), placement.line(&[0], now)), (vec![0], None));
        placement.on(1, reported(1, 0), now);
        assert_eq!((placement.count(now), placement.doubtful()), (2, vec![]));
        // Not listed and not reachable are two things.
        placement.on(1, Event::Unlisted, now);
        placement.on(1, reported(1, 0), now);
        assert_eq!((placement.count(now), placement.doubtful()), (1, vec![]));
        placement.on(1, announced(), now);
        assert_eq!(placement.count(now), 2);
    }

    #[test]
    fn one_that_is_gone_is_not_heard_of_again() {
        let (mut placement, now) = placement(&[(1, 0), (2, 0), (3, 0)]);
        placement.remove(1);
        for event in [reported(9, 0), Event::Granted, Event::Failed] {
            placement.on(1, event, now);
        }
        let mut left = placement.tries(3, now);
        left.sort_unstable();
        assert_eq!((left, placement.count(now)), (vec![0, 2], 2));
    }

    #[test]
    fn when_nothing_is_in_service_everything_is_tried() {
        let (mut placement, now) = placement(&[(1, 0), (1, 0)]);
        placement.on(0, Event::Unreachable, now);
        placement.on(1, Event::Draining, now);
        assert_eq!((placement.tries(0, now).len(), placement.line(&[0], now), placement.count(now)), (2, Some(1), 0));
    }

    #[test]
    fn three_failures_in_a_row_eject_and_success_in_between_does_not() {
        let (mut placement, now) = placement(&[(1, 0), (1, 0), (1, 0)]);
        fail(&mut placement, 0, 2, now);
        placement.on(0, Event::Granted, now);
        fail(&mut placement, 0, 2, now);
        assert_eq!(placement.count(now), 3);
        fail(&mut placement, 0, 1, now);
        assert!(!placement.tries(1, now).contains(&0) && placement.count(now) == 2);
    }

    #[test]
    fn at_most_half_are_ejected() {
        for (daemons, most) in [(1, 0), (2, 1), (3, 1), (4, 2)] {
            let (mut placement, now) = placement(&vec![(1, 0); daemons]);
            for index in 0..daemons {
                fail(&mut placement, index, 5, now);
            }
            assert_eq!(placement.count(now), daemons - most, "of {daemons}");
        }
    }

    #[test]
    fn a_half_open_daemon_is_tried_by_one_caller_at_a_time_and_comes_back_when_it_grants() {
        let (mut placement, mut now) = placement(&[(0, 0), (5, 0), (5, 0)]);
        fail(&mut placement, 0, 3, now);
        now += BACKOFF.saturating_sub(SECOND);
        assert!(!placement.tries(0, now).contains(&0) && placement.ejected(now) == 1, "still ejected");
        now += SECOND;
        assert_eq!(placement.tries(0, now)[0], 0, "half open: whoever comes tries it");
        assert_eq!(placement.ejected(now), 0);
        placement.on(0, Event::Asked, now);
        assert!(!placement.tries(0, now).contains(&0) && placement.line(&[], now) != Some(0), "one at a time");
        placement.on(0, Event::Failed, now);
        now += BACKOFF;
        assert!(!placement.tries(0, now).contains(&0), "the second ejection lasts longer");
        now += BACKOFF;
        placement.on(0, Event::Asked, now);
        // A caller of whom nothing is heard does not keep it for ever.
        now += PROBE;
        assert_eq!(placement.tries(0, now)[0], 0);
        placement.on(0, Event::Asked, now);
        placement.on(0, Event::Full, now);
        assert_eq!(placement.tries(0, now)[0], 0, "being full proves nothing");
        placement.on(0, Event::Granted, now);
        fail(&mut placement, 0, 2, now);
        assert_eq!(placement.count(now), 3, "closed again, and its failures are forgotten");
    }

    #[test]
    fn ejections_grow_to_a_bound() {
        let (mut placement, mut now) = placement(&[(1, 0), (1, 0)]);
        fail(&mut placement, 0, 3, now);
        for _ in 0..20 {
            now += BACKOFF_MAX;
            assert_eq!(placement.count(now), 2);
            fail(&mut placement, 0, 1, now);
            assert_eq!(placement.count(now), 1);
        }
    }
}
