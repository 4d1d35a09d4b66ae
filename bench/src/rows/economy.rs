//! What replies cost whoever reads them: tokens of their text and bytes of their pictures, ours and the peer's on the same
//! pages, and the time until they are there.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Only, of_peer, time_left};
use crate::{
    contestants::{ours, peer},
    mcp::{Answer, Client},
    pages::Page,
    report::Row,
    setup::Setup,
    stats::Samples,
};

pub(super) const IDS: &[&str] = &["tokens-list", "tokens-shop", "tokens-settings", "tokens-table", "tokens-picture"];

/// Most rounds of a step: sizes are the same each time.
const ROUNDS: usize = 7;

/// Calls of tools, one after the other; the URL of the page is given.
type Calls = fn(&str) -> Vec<(&'static str, Value)>;

/// Something an agent wants to know, and what it calls for it.
struct Step {
    what: &'static str,
    ours: Calls,
    peer: Calls,
}

/// A page, and what is asked of it.
struct Visit {
    id: &'static str,
    what: &'static str,
    page: Page,
    steps: [Step; 4],
}

/// Going there, and what it shows. The peer's navigation only says in which file of its server that is.
const OPEN: Step = Step {
    what: "opened",
    ours: |url| vec![("browser_navigate", json!({ "url": url }))],
    peer: |url| vec![("browser_navigate", json!({ "url": url })), ("browser_snapshot", json!({}))],
};

/// The same, as far as it can be acted on.
const OPEN_INTERACTIVE: Step = Step {
    what: "opened, interactive",
    ours: |url| vec![("browser_navigate", json!({ "url": url, "snapshot": "interactive" }))],
    ..OPEN
};

const fn click(ours: Calls, peer: Calls) -> Step {
    Step { what: "a click, and what it changed", ours, peer }
}

const fn find(calls: Calls) -> Step {
    Step { what: "one element found", ours: calls, peer: calls }
}

const VISITS: &[Visit] = &[
    Visit {
        id: "tokens-shop",
        what: "a shop",
        page: Page::Shop,
        steps: [
            OPEN,
            click(
                |_| vec![("browser_click", json!({ "target": "[type=checkbox] >> nth=1", "snapshot": "diff" }))],
                |_| {
                    let target = json!({ "element": "Zeta", "target": "[type=checkbox] >> nth=1" });
                    vec![("browser_click", target), ("browser_snapshot", json!({}))]
                },
            ),
            find(|_| vec![("browser_find", json!({ "text": "Add to cart" }))]),
            OPEN_INTERACTIVE,
        ],
    },
    Visit {
        id: "tokens-settings",
        what: "settings",
        page: Page::Settings,
        steps: [
            OPEN,
            click(
                |_| vec![("browser_click", json!({ "target": "summary >> nth=1", "snapshot": "diff" }))],
                |_| {
                    let target = json!({ "element": "Formats", "target": "summary >> nth=1" });
                    vec![("browser_click", target), ("browser_snapshot", json!({}))]
                },
            ),
            find(|_| vec![("browser_find", json!({ "text": "Save" }))]),
            OPEN_INTERACTIVE,
        ],
    },
    Visit {
        id: "tokens-table",
        what: "a table of 280 rows",
        page: Page::Heavy,
        steps: [
            OPEN,
            click(
                |_| vec![("browser_click", json!({ "target": "[type=checkbox] >> nth=7", "snapshot": "diff" }))],
                |_| {
                    let target = json!({ "element": "Choose 7", "target": "[type=checkbox] >> nth=7" });
                    vec![("browser_click", target), ("browser_snapshot", json!({}))]
                },
            ),
            find(|_| vec![("browser_find", json!({ "text": "Edit 150" }))]),
            OPEN_INTERACTIVE,
        ],
    },
];

/// Texts, sizes and times of a step.
#[derive(Default)]
struct Measured {
    texts: Vec<String>,
    bytes: Samples,
    time: Samples,
}

/// Somebody who makes calls, by the name of its column.
struct Caller {
    name: &'static str,
    client: Client,
    /// Goes along with every call.
    session: Option<String>,
}

impl Caller {
    async fn call(&mut self, tool: &str, mut arguments: Value) -> anyhow::Result<Answer> {
        if let Some(session) = &self.session {
            arguments["session_id"] = session.as_str().into();
        }
        self.client.call(tool, arguments).await
    }

    /// Makes the calls of a step, and reads on where a reply was cut: the whole is what the other one sends.
    async fn step(&mut self, calls: Vec<(&'static str, Value)>) -> anyhow::Result<Vec<Answer>> {
        let mut answers = Vec::new();
        for (tool, arguments) in calls {
            let mut answer = self.call(tool, arguments).await?;
            while let Some(cursor) = answer.structured["next_cursor"].as_str().map(str::to_owned) {
                answers.push(answer);
                answer = self.call("browser_read_cursor", json!({ "cursor": cursor })).await?;
            }
            answers.push(answer);
        }
        Ok(answers)
    }

    async fn measure(&mut self, calls: Calls, url: &str, rounds: usize) -> anyhow::Result<Measured> {
        let mut measured = Measured::default();
        for round in 0..rounds {
            let calls = calls(&format!("{url}-{round}"));
            let started = Instant::now();
            let answers = self.step(calls).await?;
            measured.time.add_time(started.elapsed());
            let text: String = answers.iter().map(|answer| answer.text.as_str()).collect();
            measured.texts.push(text);
            measured.bytes.add(bytes(&answers));
        }
        Ok(measured)
    }
}

/// Of texts; of pictures where there is one.
fn bytes(answers: &[Answer]) -> f64 {
    let pictures: usize = answers.iter().map(|answer| answer.picture_bytes).sum();
    let texts: usize = answers.iter().map(|answer| answer.text.len()).sum();
    count(if pictures > 0 { pictures } else { texts })
}

/// Tokens of texts, where there is a tokenizer.
async fn tokens(setup: &Setup, texts: &[String]) -> Samples {
    let mut samples = Samples::default();
    let counted = match &setup.tokenizer {
        Ok(tokenizer) => tokenizer.count(texts).await,
        Err(why) => Err(anyhow::anyhow!("{why}")),
    };
    match counted {
        Ok(counts) => counts.into_iter().for_each(|tokens| samples.add(f64::from(tokens))),
        Err(error) => eprintln!("   tokens are not counted: {error:#}"),
    }
    samples
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

pub(super) async fn measure(setup: &Setup, only: &Only) -> anyhow::Result<Vec<Row>> {
    if !only.wants_any(IDS) {
        return Ok(Vec::new());
    }
    let server = ours::Server::start(setup, &[]).await?;
    let theirs = match &setup.peer {
        Ok(directory) => of_peer("start", peer::Server::start(setup, directory)).await,
        Err(_) => None,
    };
    let (client, session) = server.session().await?.into_parts();
    let mut callers = vec![Caller { name: "ours", client, session: Some(session) }];
    if let Some(server) = &theirs
        && let Some(session) = of_peer("connect", server.session()).await
    {
        callers.push(Caller { name: "peer", client: session.into_client(), session: None });
    }
    let mut rows = Vec::new();
    if only.wants("tokens-list") && time_left(setup) {
        eprintln!("-- lists of tools");
        rows.extend(lists(setup, &mut callers).await?);
    }
    for visit in VISITS.iter().filter(|visit| only.wants(visit.id)) {
        if time_left(setup) {
            eprintln!("-- tokens, {}", visit.what);
            rows.extend(visited(setup, visit, &mut callers).await?);
        }
    }
    if only.wants("tokens-picture") && time_left(setup) {
        eprintln!("-- pictures");
        rows.extend(pictures(setup, &mut callers).await?);
    }
    Ok(rows)
}

/// What a client reads before anything has happened.
async fn lists(setup: &Setup, callers: &mut [Caller]) -> anyhow::Result<Vec<Row>> {
    let (mut whole, mut slim) =
        (Row::new("tokens-list", "list of tools", "tokens"), Row::new("tokens-list", "… slim profile", "tokens"));
    for Caller { name, client, .. } in callers {
        let tools = client.tools("/mcp").await?.to_string();
        whole = whole.measured(name, &tokens(setup, &[tools]).await);
        if *name == "ours" {
            let tools = client.tools("/mcp?caps=slim").await?.to_string();
            slim = slim.measured(name, &tokens(setup, &[tools]).await);
        }
    }
    Ok(vec![whole, slim])
}

async fn visited(setup: &Setup, visit: &Visit, callers: &mut [Caller]) -> anyhow::Result<Vec<Row>> {
    let rounds = setup.pace.rounds.min(ROUNDS);
    let mut rows = Vec::new();
    for (number, step) in visit.steps.iter().enumerate() {
        let what = format!("{}, {}", visit.what, step.what);
        let [mut tokens, mut bytes, mut time] =
            ["tokens", "bytes", "ms"].map(|unit| Row::new(visit.id, what.clone(), unit));
        for caller in callers.iter_mut() {
            let name = caller.name;
            let calls = if name == "ours" { step.ours } else { step.peer };
            let url = setup.pages.url(visit.page, number);
            let measured = caller.measure(calls, &url, rounds);
            let measured = if name == "peer" { of_peer(&what, measured).await } else { Some(measured.await?) };
            if let Some(measured) = measured {
                tokens = tokens.measured(name, &self::tokens(setup, &measured.texts).await);
                bytes = bytes.measured(name, &measured.bytes);
                time = time.measured(name, &measured.time);
            }
        }
        rows.extend([tokens, bytes, time]);
    }
    Ok(rows)
}

async fn pictures(setup: &Setup, callers: &mut [Caller]) -> anyhow::Result<Vec<Row>> {
    let steps: [(&str, Calls, Option<Calls>); 3] = [
        (
            "picture, png",
            |_| vec![("browser_take_screenshot", json!({ "type": "png" }))],
            Some(|_| vec![("browser_take_screenshot", json!({ "type": "png" }))]),
        ),
        (
            "picture, jpeg",
            |_| vec![("browser_take_screenshot", json!({ "type": "jpeg" }))],
            Some(|_| vec![("browser_take_screenshot", json!({ "type": "jpeg" }))]),
        ),
        (
            "picture, webp of quality 40 and 640 pixels",
            |_| vec![("browser_take_screenshot", json!({ "type": "webp", "quality": 40, "maxSize": 640 }))],
            None,
        ),
    ];
    let url = setup.pages.url(Page::Shop, 0);
    let mut rows: Vec<Row> = steps.iter().map(|(what, ..)| Row::new("tokens-picture", *what, "bytes")).collect();
    for caller in callers {
        let name = caller.name;
        let opened = caller.call("browser_navigate", json!({ "url": url }));
        let opened = if name == "peer" { of_peer("open", opened).await } else { Some(opened.await?) };
        for (row, (what, ours, peer)) in rows.iter_mut().zip(&steps).filter(|_| opened.is_some()) {
            let calls = if name == "ours" { Some(*ours) } else { *peer };
            let Some(calls) = calls else { continue };
            let measured = caller.measure(calls, &url, 1);
            let measured = if name == "peer" { of_peer(what, measured).await } else { Some(measured.await?) };
            if let Some(measured) = measured {
                *row = row.clone().measured(name, &measured.bytes);
            }
        }
    }
    Ok(rows)
}
