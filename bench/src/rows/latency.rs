//! Single calls on a page that is there: evaluate, click, snapshot, navigate, screenshot.

use std::collections::BTreeMap;

use tokio::time::{Duration, Instant, sleep};

use super::{Only, QUIET, of_peer, time_left};
use crate::{
    contestants::{
        Contestant, Work, ours, peer,
        raw::{Raw, Single},
    },
    pages::Page,
    processes::quiet,
    report::{Row, Target},
    setup::Setup,
    stats::Samples,
};

pub(super) const IDS: &[&str] = &[
    "evaluate",
    "click",
    "snapshot",
    "heavy",
    "heavy-own",
    "navigate",
    "navigate-walk",
    "navigate-heavy",
    "navigate-heavy-walk",
    "screenshot",
];

/// Between one contestant's turn and the next: a page goes on working after the answer (painting above all), and that must
/// not be counted against whoever comes next.
const REST: Duration = Duration::from_millis(20);

/// One row.
struct Plan {
    id: &'static str,
    what: &'static str,
    page: Page,
    /// What a contestant of this name does the how-manieth time.
    work: fn(&Setup, &str, usize) -> Work,
    /// How often in each round; the slow peer always once.
    repeat: usize,
    target: Option<Target>,
    note: Option<&'static str>,
}

const PLANS: &[Plan] = &[
    Plan {
        id: "evaluate",
        what: "evaluate n + 1",
        page: Page::Simple,
        work: |_, _, number| Work::Evaluate(number),
        repeat: 10,
        target: Some(Target::RawPlus(0.5)),
        note: Some("another n each time: V8 keeps code that it has compiled before, and agents send other code"),
    },
    Plan {
        id: "click",
        what: "click, with snapshot",
        page: Page::Simple,
        work: |_, _, _| Work::Click,
        repeat: 3,
        target: Some(Target::AtMost(15.0)),
        note: Some("raw does not settle: find, move, press, release, one minimal walk"),
    },
    Plan {
        id: "snapshot",
        what: "snapshot, simple page",
        page: Page::Simple,
        work: |_, _, _| Work::Snapshot,
        repeat: 5,
        target: Some(Target::AtMost(3.0)),
        note: None,
    },
    Plan {
        id: "heavy",
        what: "snapshot, 3,000 elements",
        page: Page::Heavy,
        work: |_, _, _| Work::Snapshot,
        repeat: 2,
        target: Some(Target::TimesRaw(1.5)),
        note: Some("raw is the minimal walk of walk.js: a style, a box and a line for each element, no names or roles"),
    },
    Plan {
        id: "heavy-own",
        what: "… over our walk, called raw",
        page: Page::Heavy,
        work: |_, name, _| if name == "raw" { Work::OurWalk } else { Work::Snapshot },
        repeat: 2,
        target: None,
        note: None,
    },
    Plan {
        id: "navigate",
        what: "navigate, simple page",
        page: Page::Simple,
        work: |setup, _, number| Work::Navigate(setup.pages.url(Page::Simple, number)),
        repeat: 1,
        target: Some(Target::TimesRaw(1.4)),
        note: Some("raw: to the load event, without a snapshot; ours answers with one"),
    },
    Plan {
        id: "navigate-walk",
        what: "… over raw with a minimal walk",
        page: Page::Simple,
        work: |setup, name, number| navigate_and_see(name, setup.pages.url(Page::Simple, number)),
        repeat: 1,
        target: Some(Target::TimesRaw(1.4)),
        note: Some("what a first snapshot of a new document costs whoever takes it"),
    },
    Plan {
        id: "navigate-heavy",
        what: "navigate, 3,000 elements",
        page: Page::Heavy,
        work: |setup, _, number| Work::Navigate(setup.pages.url(Page::Heavy, number)),
        repeat: 1,
        target: Some(Target::TimesRaw(1.4)),
        note: None,
    },
    Plan {
        id: "navigate-heavy-walk",
        what: "… over raw with a minimal walk",
        page: Page::Heavy,
        work: |setup, name, number| navigate_and_see(name, setup.pages.url(Page::Heavy, number)),
        repeat: 1,
        target: Some(Target::TimesRaw(1.4)),
        note: None,
    },
    Plan {
        id: "screenshot",
        what: "screenshot, png 1280 × 720",
        page: Page::Simple,
        work: |_, _, _| Work::Screenshot,
        repeat: 1,
        target: None,
        note: None,
    },
];

/// The page's content is part of everybody's answer but raw's, which has to ask.
fn navigate_and_see(name: &str, url: String) -> Work {
    if name == "raw" { Work::NavigateAndWalk(url) } else { Work::Navigate(url) }
}

pub(super) async fn measure(setup: &Setup, only: &Only) -> anyhow::Result<Vec<Row>> {
    if !only.wants_any(IDS) {
        return Ok(Vec::new());
    }
    let raw = Raw::start(setup)?;
    let server = ours::Server::start(setup, &[]).await?;
    let theirs = match &setup.peer {
        Ok(directory) => of_peer("start", peer::Server::start(setup, directory)).await,
        Err(_) => None,
    };
    let mut contestants: Vec<Box<dyn Contestant>> =
        vec![Box::new(Single::start(&raw).await?), Box::new(server.session().await?)];
    if let Some(server) = &theirs
        && let Some(session) = of_peer("connect", server.session()).await
    {
        contestants.push(Box::new(session));
    }
    // The next warm browser is being launched.
    quiet(server.pid(), QUIET).await;
    let mut rows = Vec::new();
    for plan in PLANS {
        if only.wants(plan.id) && time_left(setup) {
            eprintln!("-- {}", plan.what);
            rows.push(row(setup, plan, &mut contestants).await?);
        }
    }
    Ok(rows)
}

async fn row(setup: &Setup, plan: &Plan, contestants: &mut Vec<Box<dyn Contestant>>) -> anyhow::Result<Row> {
    let mut measured: BTreeMap<&str, Samples> = BTreeMap::new();
    let mut failed = Vec::new();
    let (until, mut number) = (Instant::now() + setup.pace.row, 0);
    for contestant in contestants.iter_mut() {
        let name = contestant.name();
        let shown = async {
            contestant.show(&setup.pages.url(plan.page, 0), plan.page).await?;
            // Once without a watch: the first of a kind compiles scripts and fills caches.
            contestant.perform(&(plan.work)(setup, name, 1_000_000)).await
        };
        match (name, shown.await) {
            (_, Ok(())) => {}
            ("peer", Err(error)) => failed.push(format!("{error:#}")),
            (_, Err(error)) => return Err(error.context(format!("{name}, {}", plan.what))),
        }
    }
    for round in 0..setup.pace.rounds {
        // Everybody is first in turn: what one leaves behind must not always hit the same one.
        let count = contestants.len();
        for at in 0..count {
            let contestant = &mut contestants[(round + at) % count];
            let name = contestant.name();
            let repeat = if name == "peer" { 1 } else { plan.repeat };
            if name == "peer" && !failed.is_empty() {
                continue;
            }
            sleep(REST).await;
            for _ in 0..repeat {
                number += 1;
                let work = (plan.work)(setup, name, number);
                let started = Instant::now();
                let done = contestant.perform(&work).await;
                let took = started.elapsed();
                match done {
                    Ok(()) => measured.entry(name).or_default().add_time(took),
                    Err(error) if name == "peer" => failed.push(format!("{error:#}")),
                    Err(error) => return Err(error.context(format!("{name}, {}", plan.what))),
                }
            }
        }
        if Instant::now() > until {
            break;
        }
    }
    if let Some(error) = failed.first() {
        eprintln!("   peer, {}: {error}", plan.what);
    }
    let mut row = Row::new(plan.id, plan.what, "ms").target(plan.target);
    row.note = plan.note.map(str::to_owned);
    Ok(measured.iter().fold(row, |row, (name, samples)| row.measured(name, samples)))
}
