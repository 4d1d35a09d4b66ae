//! The decisions about browsers that several leases share.

use super::*;

fn dense(contexts: usize) -> Limits {
    Limits { contexts_per_browser: contexts, max_queue: 10, ..limits(2, 0) }
}

#[test]
fn leases_of_one_principal_share_a_browser_and_others_never_do() {
    let mut scene = Scene::new(dense(2));
    scene.ask("a", 1);
    scene.launched(0, 1);
    assert_eq!(granted(&scene.ask("a", 2)), [(2, lease(0, 1, 1))]);
    assert_eq!(launches(&scene.ask("b", 1)), 1);
    assert_eq!(granted(&scene.launched(1, 2)), [(3, lease(1, 2, 0))]);
    assert_eq!(granted(&scene.ask("a", 3)), [], "both places are taken; the other browser is b's");
    assert_eq!(granted(&scene.ask("b", 2)), [(5, lease(1, 2, 1))], "who waits does not hold up who can be served");
}

#[test]
fn an_ended_lease_leaves_the_browser_to_its_principal() {
    let mut scene = Scene::new(dense(2));
    scene.ask("a", 1);
    scene.launched(0, 1);
    let actions = scene.on(Event::Release { lease: lease(0, 1, 0) });
    assert!(actions.contains(&Action::Close { lease: lease(0, 1, 0) }), "{actions:?}");
    scene.on(Event::Closed { at: browser(0, 1), memory: 10 });
    assert_eq!(scene.state.counts().idle, 1);
    assert_eq!(granted(&scene.ask("a", 2)), [(2, lease(0, 1, 1))]);
}

#[test]
fn a_context_that_closes_takes_no_place_until_as_many_close_as_are_served() {
    let mut scene = Scene::new(Limits { max_browsers: 1, ..dense(2) });
    scene.ask("a", 1);
    scene.launched(0, 1);
    scene.ask("a", 2);
    for n in 0..2 {
        scene.on(Event::Release { lease: lease(0, 1, n) });
        assert_eq!(granted(&scene.ask("a", u64::from(n) + 3)), [(u64::from(n) + 3, lease(0, 1, n + 2))]);
    }
    scene.on(Event::Release { lease: lease(0, 1, 2) });
    assert_eq!(granted(&scene.ask("a", 5)), [], "one is served, and three close");
    assert_eq!(granted(&scene.on(Event::Closed { at: browser(0, 1), memory: 10 })), [(5, lease(0, 1, 4))]);
}

#[test]
fn an_idle_browser_of_another_principal_makes_room() {
    let mut scene = Scene::new(Limits { max_browsers: 1, ..dense(2) });
    scene.ask("a", 1);
    scene.launched(0, 1);
    scene.on(Event::Release { lease: lease(0, 1, 0) });
    scene.on(Event::Closed { at: browser(0, 1), memory: 10 });
    let actions = scene.ask("b", 1);
    assert!(actions.contains(&Action::End { at: browser(0, 1) }), "{actions:?}");
    let actions = scene.on(Event::Ended { at: browser(0, 1) });
    assert_eq!(actions, [Action::Launch { at: browser(0, 2) }]);
}

#[test]
fn worn_browsers_serve_their_last_leases_and_go() {
    let uses = Retirement { max_uses: 2, ..dense(2).retirement };
    let mut scene = Scene::new(Limits { retirement: uses, ..dense(2) });
    scene.ask("a", 1);
    scene.launched(0, 1);
    scene.ask("a", 2);
    scene.on(Event::Release { lease: lease(0, 1, 0) });
    scene.on(Event::Closed { at: browser(0, 1), memory: 10 });
    assert_eq!(launches(&scene.ask("a", 3)), 1, "used twice: a third lease gets another browser");
    scene.on(Event::Release { lease: lease(0, 1, 1) });
    let actions = scene.on(Event::Closed { at: browser(0, 1), memory: 10 });
    assert!(actions.contains(&Action::End { at: browser(0, 1) }), "{actions:?}");
}

#[test]
fn a_browser_that_grew_or_cannot_close_a_context_takes_no_more() {
    for end in [Event::Closed { at: browser(0, 1), memory: 1001 }, Event::CloseFailed { at: browser(0, 1) }] {
        let mut scene = Scene::new(dense(3));
        scene.ask("a", 1);
        scene.launched(0, 1);
        scene.ask("a", 2);
        scene.on(Event::Release { lease: lease(0, 1, 0) });
        scene.on(end.clone());
        assert_eq!(scene.state.counts().retiring, 1, "{end:?}");
        assert_eq!(launches(&scene.ask("a", 3)), 1);
        let actions = scene.on(Event::Release { lease: lease(0, 1, 1) });
        assert!(actions.contains(&Action::End { at: browser(0, 1) }), "{actions:?}");
    }
}

#[test]
fn a_context_that_does_not_open_ends_its_lease_only() {
    let mut scene = Scene::new(dense(2));
    scene.ask("a", 1);
    scene.launched(0, 1);
    scene.ask("a", 2);
    let actions = scene.on(Event::OpenFailed { lease: lease(0, 1, 1), reason: "no".to_owned() });
    assert!(matches!(&actions[0], Action::Revoke { lease: at, .. } if *at == lease(0, 1, 1)), "{actions:?}");
    assert!(scene.state.lease(lease(0, 1, 0)).is_some());
    assert_eq!(scene.state.counts().retiring, 1);
}
