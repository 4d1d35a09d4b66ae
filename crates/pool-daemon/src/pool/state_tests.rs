//! The decisions, by hand: one rule a test.

use super::*;
use crate::pool::model::{Launching, PerPrincipal, Retirement, Ticket};

const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn limits(max_browsers: usize, min_warm: usize) -> Limits {
    Limits {
        max_browsers,
        contexts_per_browser: 1,
        min_warm,
        max_starting: 10,
        ahead_delay: Duration::ZERO,
        max_queue: 3,
        per_principal: PerPrincipal { max_leases: 1000, max_waiting: 1000 },
        warm_ttl: 300 * SECOND,
        retirement: Retirement { max_age: 3600 * SECOND, max_uses: 100, max_memory: 1000 },
        unbound_ttl: 10 * SECOND,
        max_lifetime: 7200 * SECOND,
        sessions_are_watched: false,
        launching: Launching {
            backoff: SECOND,
            max_backoff: 8 * SECOND,
            breaker_failures: 3,
            breaker_window: 60 * SECOND,
        },
    }
}

/// A pool and its clock, with the words of these tests.
struct Scene {
    state: State,
    now: Instant,
    tickets: u64,
}

impl Scene {
    fn new(limits: Limits) -> Self {
        Self { state: State::new(limits), now: Instant::now(), tickets: 0 }
    }

    /// A pool with one warm browser in slot 0.
    fn warm(mut limits: Limits) -> Self {
        limits.min_warm = 1;
        let mut scene = Self::new(limits);
        assert_eq!(scene.on(Event::Tick), [Action::Launch { at: browser(0, 1) }]);
        assert_eq!(scene.launched(0, 1), []);
        scene
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        self.state.on(event, self.now)
    }

    /// Somebody of a principal asks for a session; tickets count up from 1.
    fn ask(&mut self, principal: &str, session: u64) -> Vec<Action> {
        self.tickets += 1;
        let key = Key { principal: principal.to_owned(), session: session.to_string(), birth: "1".to_owned() };
        let deadline = self.now + 30 * SECOND;
        self.on(Event::Acquire { ticket: Ticket(self.tickets), key, ttl: 60 * SECOND, deadline })
    }

    fn launched(&mut self, slot: usize, generation: u64) -> Vec<Action> {
        self.on(Event::Launched { at: browser(slot, generation) })
    }

    fn launch_failed(&mut self, slot: usize, generation: u64) -> Vec<Action> {
        self.on(Event::LaunchFailed { at: browser(slot, generation), reason: "no".to_owned() })
    }

    fn later(&mut self, seconds: u32) -> Vec<Action> {
        self.now += seconds * SECOND;
        self.on(Event::Tick)
    }

    fn next(&self) -> Option<Duration> {
        self.state.next_deadline(self.now).map(|at| at.duration_since(self.now))
    }
}

fn browser(slot: usize, generation: u64) -> BrowserRef {
    BrowserRef { slot, generation }
}

fn lease(slot: usize, generation: u64, seat: u32) -> LeaseRef {
    LeaseRef { browser: browser(slot, generation), seat }
}

fn granted(actions: &[Action]) -> Vec<(u64, LeaseRef)> {
    let grant = |action: &Action| match action {
        Action::Grant { ticket, lease } => Some((ticket.0, *lease)),
        _ => None,
    };
    actions.iter().filter_map(grant).collect()
}

fn refused(actions: &[Action]) -> Vec<(u64, ErrorCode)> {
    let refuse = |action: &Action| match action {
        Action::Refuse { ticket, refusal } => Some((ticket.0, refusal.code)),
        _ => None,
    };
    actions.iter().filter_map(refuse).collect()
}

fn launches(actions: &[Action]) -> usize {
    actions.iter().filter(|action| matches!(action, Action::Launch { .. })).count()
}

#[test]
fn a_warm_browser_is_granted_at_once_and_replaced() {
    let mut scene = Scene::warm(limits(2, 1));
    let actions = scene.ask("p", 1);
    assert_eq!(granted(&actions), [(1, lease(0, 1, 0))]);
    assert!(actions.contains(&Action::Launch { at: browser(1, 2) }), "the next one is warmed: {actions:?}");
}

#[test]
fn one_session_has_one_lease_however_often_it_asks() {
    let mut scene = Scene::new(limits(2, 0));
    scene.ask("p", 1);
    scene.ask("p", 1);
    let actions = scene.launched(0, 1);
    assert_eq!(granted(&actions), [(1, lease(0, 1, 0)), (2, lease(0, 1, 0))]);
    assert_eq!(granted(&scene.ask("p", 1)), [(3, lease(0, 1, 0))]);
}

#[test]
fn a_lease_nobody_confirms_comes_back_and_a_confirmed_one_lives_by_its_use() {
    let mut scene = Scene::warm(limits(1, 1));
    let (_, at) = granted(&scene.ask("p", 1))[0];
    assert_eq!(scene.next(), Some(10 * SECOND));
    scene.later(5);
    scene.on(Event::Renew { lease: at, ttl: None });
    scene.later(25);
    scene.on(Event::Used { leases: vec![(at, scene.now)] });
    assert_eq!(scene.next(), Some(60 * SECOND));
    assert_eq!(scene.later(59), []);
    let actions = scene.later(1);
    assert!(matches!(actions[..], [Action::Revoke { .. }, Action::End { .. }]), "{actions:?}");
    assert!(scene.state.lease(at).is_none());
}

#[test]
fn no_lease_outlives_the_longest_lifetime() {
    let mut scene = Scene::warm(limits(1, 1));
    let (_, at) = granted(&scene.ask("p", 1))[0];
    scene.on(Event::Renew { lease: at, ttl: None });
    for _ in 0..143 {
        scene.later(50);
        scene.on(Event::Used { leases: vec![(at, scene.now)] });
    }
    assert_eq!(scene.next(), Some(50 * SECOND), "its use would keep it for 60");
    let actions = scene.later(50);
    let Action::Revoke { death, .. } = &actions[0] else { panic!("{actions:?}") };
    assert!(death.reason.contains("longest lifetime"), "{death:?}");
}

#[test]
fn the_queue_is_bounded_in_length_and_time_and_tells_places() {
    let mut scene = Scene::new(limits(1, 0));
    let first = scene.ask("p", 1);
    assert!(first.contains(&Action::Queued { ticket: Ticket(1), position: 1, depth: 1 }), "{first:?}");
    scene.ask("p", 2);
    scene.ask("p", 3);
    assert_eq!(refused(&scene.ask("p", 4)), [(4, ErrorCode::PoolFull)]);
    let left = scene.on(Event::Abandon { ticket: Ticket(2) });
    assert!(left.contains(&Action::Queued { ticket: Ticket(3), position: 2, depth: 2 }), "{left:?}");
    assert_eq!(refused(&scene.later(30)), [(1, ErrorCode::QueueTimeout), (3, ErrorCode::QueueTimeout)]);
}

#[test]
fn who_cannot_wait_gets_what_is_there_or_a_refusal_and_starts_nothing() {
    let mut scene = Scene::warm(Limits { ahead_delay: SECOND, ..limits(3, 1) });
    let at_once = |scene: &mut Scene, ticket: u64| {
        let key = Key { principal: "p".to_owned(), session: ticket.to_string(), birth: "1".to_owned() };
        scene.on(Event::Acquire { ticket: Ticket(ticket), key, ttl: 60 * SECOND, deadline: scene.now })
    };
    assert_eq!(granted(&at_once(&mut scene, 1)).len(), 1);
    let actions = at_once(&mut scene, 2);
    assert_eq!((refused(&actions), launches(&actions)), (vec![(2, ErrorCode::QueueTimeout)], 0), "{actions:?}");
}

#[test]
fn a_flood_of_one_principal_costs_the_others_nothing() {
    let mut scene = Scene::warm(limits(1, 1));
    scene.ask("flood", 0);
    for session in 1..=3 {
        scene.ask("flood", session);
    }
    assert_eq!(refused(&scene.ask("calm", 9)), [(4, ErrorCode::PoolFull)], "the flood's newest makes room");
    assert_eq!(refused(&scene.ask("flood", 5)), [(6, ErrorCode::PoolFull)]);
    scene.on(Event::Release { lease: lease(0, 1, 0) });
    scene.on(Event::Ended { at: browser(0, 1) });
    assert_eq!(granted(&scene.launched(0, 2)), [(2, lease(0, 2, 0))]);
    scene.on(Event::Release { lease: lease(0, 2, 0) });
    scene.on(Event::Ended { at: browser(0, 2) });
    assert_eq!(granted(&scene.launched(0, 3)), [(5, lease(0, 3, 0))], "the second turn, not the fourth place");
}

#[test]
fn a_principal_has_as_many_leases_and_places_as_it_may() {
    let mut limits = limits(3, 0);
    limits.per_principal = PerPrincipal { max_leases: 2, max_waiting: 1 };
    let mut scene = Scene::new(limits);
    scene.ask("p", 1);
    assert_eq!(refused(&scene.ask("p", 2)), [(2, ErrorCode::QuotaExceeded)], "one place in the queue");
    scene.launched(0, 1);
    scene.ask("p", 2);
    assert_eq!(granted(&scene.launched(1, 2)).len(), 1);
    assert_eq!(refused(&scene.ask("p", 3)), [(4, ErrorCode::QuotaExceeded)], "two leases");
    assert_eq!(granted(&scene.ask("p", 2)).len(), 1, "an old session asks again");
    assert_eq!(refused(&scene.ask("q", 1)), [], "others are not concerned");
}

#[test]
fn launching_ahead_is_one_at_a_time_and_after_those_who_wait() {
    let mut scene = Scene::new(Limits { max_starting: 2, ..limits(6, 3) });
    assert_eq!(launches(&scene.on(Event::Tick)), 1, "one of the three warm ones");
    assert_eq!(launches(&scene.ask("p", 1)), 0, "the one under way is for whoever asks first");
    assert_eq!(launches(&scene.ask("p", 2)), 1);
    assert_eq!(launches(&scene.ask("p", 3)), 0, "two at a time");
    assert_eq!(launches(&scene.launched(0, 1)), 1, "the third's, before any warm one");
    scene.launched(1, 2);
    assert_eq!(launches(&scene.launched(2, 3)), 1, "nobody waits: the first warm one");
    assert_eq!(launches(&scene.on(Event::Tick)), 0);
}

#[test]
fn a_session_gets_its_first_page_before_the_next_browser_is_started() {
    let mut scene = Scene::warm(Limits { ahead_delay: SECOND / 2, ..limits(3, 1) });
    assert_eq!(launches(&scene.ask("p", 1)), 0);
    assert_eq!(scene.next(), Some(SECOND / 2));
    scene.now += SECOND / 2;
    assert_eq!(launches(&scene.on(Event::Tick)), 1);
    assert_eq!(launches(&scene.ask("p", 2)), 0, "that one is for whoever asks");
    assert_eq!(launches(&scene.ask("p", 3)), 1, "who waits for one waits for nothing else");
}

#[test]
fn failing_launches_back_off_and_refuse_those_they_were_for() {
    let mut scene = Scene::new(limits(3, 0));
    scene.ask("p", 1);
    scene.ask("p", 2);
    assert_eq!(refused(&scene.launch_failed(0, 1)), [(1, ErrorCode::BrowserGone)]);
    assert_eq!(refused(&scene.launch_failed(1, 2)), [(2, ErrorCode::BrowserGone)]);
    scene.ask("p", 3);
    assert_eq!(scene.next(), Some(2 * SECOND), "the second failure doubles the delay");
    assert_eq!(scene.later(2), [Action::Launch { at: browser(0, 3) }]);
}

#[test]
fn when_launches_keep_failing_nobody_is_kept_waiting() {
    let mut scene = Scene::new(limits(3, 0));
    for session in 1..=3 {
        scene.ask("p", session);
    }
    for slot in 0..2 {
        scene.launch_failed(slot, slot as u64 + 1);
    }
    assert_eq!(scene.state.counts().unavailable(), None);
    assert_eq!(refused(&scene.launch_failed(2, 3)), [(3, ErrorCode::BrowserGone)]);
    assert_eq!(scene.state.counts().unavailable(), Some("browsers cannot be started at present: no"));
    assert_eq!(refused(&scene.ask("p", 4)), [(4, ErrorCode::BrowserGone)], "at once");
    // Nothing is kept warm here; somebody has to find out all the same.
    let wait = scene.next().expect("the next attempt");
    scene.now += wait;
    assert_eq!(scene.on(Event::Tick), [Action::Launch { at: browser(0, 4) }]);
    scene.launched(0, 4);
    assert_eq!(scene.state.counts().unavailable(), None);
    assert_eq!(granted(&scene.ask("p", 5)).len(), 1);
}

#[test]
fn a_warm_pool_finds_out_by_itself_that_launches_work_again() {
    let mut scene = Scene::new(limits(3, 1));
    scene.on(Event::Tick);
    for generation in 1..=3 {
        scene.launch_failed(0, generation);
        let wait = scene.next().expect("the next attempt");
        scene.now += wait;
        assert_eq!(scene.on(Event::Tick), [Action::Launch { at: browser(0, generation + 1) }]);
    }
    assert!(scene.state.counts().broken.is_some());
    scene.launched(0, 4);
    assert_eq!(scene.state.counts().broken, None);
    assert_eq!(granted(&scene.ask("p", 1)).len(), 1);
}

#[test]
fn a_dead_browser_ends_its_lease_with_the_reason() {
    let mut scene = Scene::warm(limits(1, 1));
    scene.ask("p", 1);
    let death = Death { code: ErrorCode::BrowserGone, reason: "killed".to_owned() };
    let actions = scene.on(Event::Died { at: browser(0, 1), death: death.clone() });
    assert_eq!(actions[0], Action::Revoke { lease: lease(0, 1, 0), death: death.clone() });
    assert_eq!(actions[1], Action::End { at: browser(0, 1) });
    // An old browser's end does not touch what is in the slot now.
    scene.on(Event::Ended { at: browser(0, 1) });
    assert_eq!(scene.state.counts().starting, 1);
    scene.on(Event::Died { at: browser(0, 1), death });
    assert_eq!(scene.state.counts().starting, 1);
}

#[test]
fn a_slot_whose_browser_cannot_be_ended_is_out_of_use() {
    let mut scene = Scene::warm(limits(1, 1));
    scene.ask("p", 1);
    scene.on(Event::Release { lease: lease(0, 1, 0) });
    assert_eq!(scene.on(Event::EndFailed { at: browser(0, 1) }), [], "nothing is started beside what is left");
    assert_eq!((scene.state.counts().poisoned, scene.state.counts().left), (1, 1));
    scene.on(Event::Drain { deadline: scene.now });
    assert!(scene.state.is_drained(), "and a drain does not wait for it");
}

#[test]
fn a_lease_that_reached_nobody_leaves_its_browser_to_the_next() {
    let mut scene = Scene::warm(limits(1, 1));
    assert_eq!(granted(&scene.ask("gone", 1)), [(1, lease(0, 1, 0))]);
    scene.ask("next", 2);
    let actions = scene.on(Event::Undelivered { lease: lease(0, 1, 0) });
    assert_eq!(granted(&actions), [(2, lease(0, 1, 0))], "of whatever principal: nobody has touched it");
    assert_eq!(launches(&actions), 0);
}

#[test]
fn a_short_machine_starts_nothing_ahead_and_nothing_it_has_no_memory_for() {
    let mut scene = Scene::new(Limits { max_starting: 3, ..limits(4, 2) });
    let cpu = Pressure { cpu: Some("busy".to_owned()), memory: None };
    assert_eq!(launches(&scene.on(Event::Pressure(cpu))), 0, "not ahead");
    scene.ask("p", 1);
    assert_eq!(scene.state.counts().starting, 1, "but on demand, one at a time");
    scene.ask("p", 2);
    assert_eq!(scene.state.counts().starting, 1);
    scene.launched(0, 1);
    scene.launched(1, 2);
    for (slot, generation) in [(0, 1), (1, 2)] {
        scene.on(Event::Renew { lease: lease(slot, generation, 0), ttl: Some(600 * SECOND) });
    }
    let memory = Pressure { memory: Some("memory: 95 % are in use".to_owned()), cpu: None };
    scene.on(Event::Pressure(memory));
    assert_eq!(launches(&scene.ask("p", 3)), 0);
    let late = scene.later(30);
    let Action::Refuse { refusal, .. } = &late[0] else { panic!("{late:?}") };
    assert!(refusal.message.contains("95 %"), "{refusal:?}");
    scene.ask("p", 4);
    assert_eq!(launches(&scene.on(Event::Pressure(Pressure::default()))), 1, "the trouble is over");
}

#[test]
fn without_any_browser_memory_pressure_does_not_stop_the_first() {
    let mut scene = Scene::new(limits(4, 0));
    scene.on(Event::Pressure(Pressure { memory: Some("full".to_owned()), cpu: None }));
    assert_eq!(launches(&scene.ask("p", 1)), 1, "nothing else would ever become free");
}

#[test]
fn idle_browsers_beyond_those_kept_warm_end_after_their_time_the_longest_idle_stay() {
    let mut scene = Scene::new(Limits { max_starting: 3, ..limits(3, 1) });
    for session in 1..=3 {
        scene.ask("p", session);
    }
    for ticket in 1..=3 {
        scene.on(Event::Abandon { ticket: Ticket(ticket) });
    }
    for (slot, generation) in [(0, 1), (1, 2), (2, 3)] {
        scene.launched(slot, generation);
        scene.now += SECOND;
    }
    assert_eq!(scene.state.counts().idle, 3, "whom they were started for went away");
    assert_eq!(scene.next(), Some(298 * SECOND), "the second one's time");
    assert_eq!(scene.later(297), []);
    assert_eq!(scene.later(1), [Action::End { at: browser(1, 2) }]);
    assert_eq!(scene.later(1), [Action::End { at: browser(2, 3) }]);
    assert_eq!(scene.state.counts().idle, 1, "the one that is kept warm");
}

#[test]
fn an_old_browser_is_replaced_while_nobody_has_it() {
    let mut scene = Scene::warm(limits(2, 1));
    let wait = scene.next().expect("its age");
    assert!((3240..=3960).contains(&wait.as_secs()), "within a tenth of an hour: {wait:?}");
    scene.now += wait;
    let actions = scene.on(Event::Tick);
    assert!(actions.contains(&Action::End { at: browser(0, 1) }) && launches(&actions) == 1, "{actions:?}");
}

#[test]
fn a_leased_browser_is_not_retired_by_age() {
    let mut scene = Scene::warm(limits(2, 1));
    let (_, at) = granted(&scene.ask("p", 1))[0];
    scene.on(Event::Renew { lease: at, ttl: None });
    for _ in 0..100 {
        scene.later(50);
        scene.on(Event::Used { leases: vec![(at, scene.now)] });
    }
    assert!(scene.state.lease(at).is_some());
}

#[path = "state_shared_tests.rs"]
mod shared_browsers;

mod end {
    use super::*;

    #[test]
    fn a_drain_refuses_waits_and_then_ends() {
        let mut scene = Scene::warm(limits(1, 1));
        scene.ask("p", 1);
        scene.ask("p", 2);
        let actions = scene.on(Event::Drain { deadline: scene.now + 5 * SECOND });
        assert_eq!(refused(&actions), [(2, ErrorCode::Draining)]);
        assert_eq!(scene.next(), Some(5 * SECOND));
        assert!(!scene.state.is_drained());
        let actions = scene.later(5);
        assert!(actions.contains(&Action::End { at: browser(0, 1) }), "{actions:?}");
        scene.on(Event::Ended { at: browser(0, 1) });
        assert!(scene.state.is_drained());
    }
}
