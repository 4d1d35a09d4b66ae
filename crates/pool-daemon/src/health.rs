//! Whether a browser is still sound: it answers, it opens pages, it takes no more memory than it may.
//!
//! [`Judge`] decides from what was found; [`watch`] finds it out, three examinations side by side so that none delays the
//! others. A browser that died by itself is seen by its process and its pipe, not here.

use std::{pin::pin, time::Duration};

use async_trait::async_trait;
use browserfleet_cdp::{
    Connection, Error,
    browser_protocol::{
        browser::{BrowserContextId, GetVersionParams},
        inspector,
        target::{AttachToTargetParams, CreateBrowserContextParams, CreateTargetParams, DisposeBrowserContextParams},
    },
    js_protocol::runtime::EvaluateParams,
};
use browserfleet_common::{error_code::ErrorCode, size::Size};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::time::{Instant, sleep};

use crate::pool::browser::Death;

/// From one look at pulse and memory to the next.
pub const PULSE: Duration = Duration::from_secs(2);
/// Pulses missed in a row that make a browser a dead one: 6 seconds without a word from its main thread.
const MISSES: u32 = 3;
/// How long opening a page may take. It takes 50 ms; a machine that needs 15 s is merely busy.
const OPENING: Duration = Duration::from_secs(15);
/// Refusals to open a page in a row: the first may have been bad luck.
const REFUSALS: u32 = 2;
/// Pages in a row that did not open in time. More than refusals, because a busy machine looks the same.
const UNOPENED: u32 = 3;

/// What a browser has to hold to.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Most memory of all its processes together, in bytes.
    pub memory_limit: u64,
    /// From one page opened as a probe to the next.
    pub probe_interval: Duration,
}

/// What one examination found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It answered a question that needs no page.
    Answered,
    /// It did not within [`PULSE`].
    Silent,
    /// It opened a page that computes.
    Opens,
    /// It said that it cannot, and why.
    Refuses(String),
    /// It did not within [`OPENING`].
    Stuck,
    /// What all its processes take, in bytes.
    Memory(u64),
}

/// How a browser is examined.
#[async_trait]
pub trait Examine: Send + Sync {
    /// Asks something that needs no page.
    async fn pulse(&self, deadline: Instant) -> Finding;
    /// Opens a page and lets it compute.
    async fn open(&self, deadline: Instant) -> Finding;
    /// Measures the memory of all processes; `None` when that is not possible now.
    async fn memory(&self) -> Option<u64>;
}

/// The decision: which findings in a row are a death.
#[derive(Clone, Debug)]
pub struct Judge {
    memory_limit: u64,
    silent: u32,
    refused: u32,
    stuck: u32,
}

impl Judge {
    pub fn new(config: &Config) -> Self {
        Self { memory_limit: config.memory_limit, silent: 0, refused: 0, stuck: 0 }
    }

    /// Takes a finding; answers why the browser must be ended, if it must.
    pub fn on(&mut self, finding: Finding) -> Option<Death> {
        let gone = |reason| Some(Death { code: ErrorCode::BrowserGone, reason });
        match finding {
            Finding::Answered => self.silent = 0,
            Finding::Opens => (self.refused, self.stuck) = (0, 0),
            Finding::Silent => {
                self.silent += 1;
                if self.silent >= MISSES {
                    return gone(format!("it did not answer {MISSES} probes in a row, {PULSE:?} each"));
                }
            }
            Finding::Refuses(why) => {
                self.refused += 1;
                if self.refused >= REFUSALS {
                    return gone(format!("it opens no pages any more ({why})"));
                }
            }
            Finding::Stuck => {
                self.stuck += 1;
                if self.stuck >= UNOPENED {
                    return gone(format!("it opened none of {UNOPENED} pages in a row within {OPENING:?} each"));
                }
            }
            Finding::Memory(bytes) if bytes > self.memory_limit => {
                let (taken, limit) = (Size(bytes), Size(self.memory_limit));
                let reason = format!("it took {taken} of memory, and browser.memory_limit is {limit}");
                return Some(Death { code: ErrorCode::BrowserOutOfMemory, reason });
            }
            Finding::Memory(_) => {}
        }
        None
    }
}

/// Examines a browser until it must be ended, and says why. `spread` (any number, such as a pid) keeps browsers that were
/// started together from opening their pages together.
pub async fn watch(browser: &impl Examine, config: &Config, spread: u32) -> Death {
    let mut judge = Judge::new(config);
    let others = stream::select(openings(browser, spread_out(config.probe_interval, spread)), measures(browser));
    let mut findings = pin!(stream::select(pulses(browser), others));
    loop {
        if let Some(finding) = findings.next().await
            && let Some(death) = judge.on(finding)
        {
            return death;
        }
    }
}

/// Between 3/4 and 5/4 of `interval`.
fn spread_out(interval: Duration, spread: u32) -> Duration {
    interval * 3 / 4 + interval / 2 * (spread % 64) / 64
}

fn pulses(browser: &impl Examine) -> impl Stream<Item = Finding> {
    stream::unfold(Instant::now() + PULSE, move |next| async move {
        tokio::time::sleep_until(next).await;
        let asked = Instant::now();
        // The next question comes a full pulse after this one, not at once to catch up: a daemon that was stopped for a
        // minute must not count thirty misses when it wakes up.
        Some((browser.pulse(asked + PULSE).await, asked + PULSE))
    })
}

fn openings(browser: &impl Examine, interval: Duration) -> impl Stream<Item = Finding> {
    stream::unfold(interval, move |pause| async move {
        sleep(pause).await;
        let finding = browser.open(Instant::now() + OPENING).await;
        // What may be a death is looked at again soon.
        let pause = if finding == Finding::Opens { interval } else { PULSE };
        Some((finding, pause))
    })
}

fn measures(browser: &impl Examine) -> impl Stream<Item = Finding> {
    stream::unfold((), move |()| async move {
        loop {
            sleep(PULSE).await;
            if let Some(bytes) = browser.memory().await {
                return Some((Finding::Memory(bytes), ()));
            }
        }
    })
}

/// Asks for the browser's version, which its main thread answers without any page.
pub async fn pulse(connection: &Connection, deadline: Instant) -> Finding {
    let received = connection.received();
    match connection.browser().call(GetVersionParams::default(), deadline).await {
        // A flood of events keeps the answer waiting; a browser that floods is not a silent one.
        Err(Error::Timeout { .. }) if connection.received() == received => Finding::Silent,
        // Also a refusal is an answer. That the pipe is closed is seen elsewhere.
        _ => Finding::Answered,
    }
}

/// Opens a page in a context of its own, lets it compute 1 + 1, and closes both. A dead zygote is found only by this:
/// pages that are open go on without it.
pub async fn open(connection: &Connection, deadline: Instant) -> Finding {
    let browser = connection.browser();
    let context = match browser.call(CreateBrowserContextParams::default(), deadline).await {
        Ok(created) => created.browser_context_id,
        Err(error) => return failed(&error),
    };
    let computed = compute(connection, context.clone(), deadline).await;
    // With it goes its page, whatever state that is in. A browser that does not do even this will be found out.
    let _gone = browser.call(DisposeBrowserContextParams::new(context), Instant::now() + PULSE).await;
    match computed {
        Ok(true) => Finding::Opens,
        Ok(false) => Finding::Refuses("a new page does not compute".to_owned()),
        Err(error) => failed(&error),
    }
}

async fn compute(connection: &Connection, context: BrowserContextId, deadline: Instant) -> Result<bool, Error> {
    let mut create = CreateTargetParams::new("about:blank");
    create.browser_context_id = Some(context);
    // In full Chromium a window in front would take the keyboard from the page that is being worked in.
    create.background = Some(true);
    let target = connection.browser().call(create, deadline).await?.target_id;
    let mut attach = AttachToTargetParams::new(target);
    attach.flatten = Some(true);
    let session = connection.browser().call(attach, deadline).await?.session_id;
    let session = connection.session(session.as_ref());
    // Without it a renderer that could not be started is a page that never answers.
    session.call(inspector::EnableParams::default(), deadline).await?;
    let mut sum = EvaluateParams::new("1 + 1");
    sum.return_by_value = Some(true);
    Ok(session.call(sum, deadline).await?.result.value == Some(2.into()))
}

fn failed(error: &Error) -> Finding {
    match error {
        Error::Timeout { .. } => Finding::Stuck,
        error => Finding::Refuses(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use browserfleet_cdp::fake::Peer;
    use browserfleet_common::{lifecycle::Tasks, size::GIB};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const CONFIG: Config = Config { memory_limit: GIB, probe_interval: Duration::from_secs(30) };

    fn deaths(findings: &[Finding]) -> Option<Death> {
        let mut judge = Judge::new(&CONFIG);
        findings.iter().find_map(|finding| judge.on(finding.clone()))
    }

    #[test]
    fn only_failures_in_a_row_count() {
        use Finding::{Answered, Opens, Silent, Stuck};
        let refuses = || Finding::Refuses("no zygote".to_owned());
        for alive in [
            vec![Silent, Silent, Answered, Silent, Silent, Answered],
            vec![refuses(), Opens, refuses(), Opens],
            vec![Stuck, Stuck, Opens, Stuck, Stuck],
            // A page that opens says nothing about the pulse, and the other way round.
            vec![Stuck, Silent, refuses(), Silent, Stuck],
            vec![Finding::Memory(GIB), Finding::Memory(0)],
        ] {
            assert_eq!(deaths(&alive), None, "{alive:?}");
        }
        let reason = |findings: &[Finding]| deaths(findings).map(|death| (death.code, death.reason)).unwrap();
        let silent = reason(&[Silent, Opens, Silent, Silent]);
        assert_eq!(silent, (ErrorCode::BrowserGone, "it did not answer 3 probes in a row, 2s each".to_owned()));
        let refusing = reason(&[refuses(), Answered, refuses()]);
        assert_eq!(refusing, (ErrorCode::BrowserGone, "it opens no pages any more (no zygote)".to_owned()));
        assert!(reason(&[Stuck, Stuck, Answered, Stuck]).1.contains("none of 3 pages in a row within 15s"));
        let large = reason(&[Finding::Memory(GIB + GIB / 2)]);
        let words = "it took 1.5 GiB of memory, and browser.memory_limit is 1 GiB";
        assert_eq!(large, (ErrorCode::BrowserOutOfMemory, words.to_owned()));
    }

    #[tokio::test]
    async fn a_flood_is_not_silence() {
        let tasks = Tasks::new();
        let (mut peer, connection) = Peer::connect(&tasks).unwrap();
        let soon = || Instant::now() + Duration::from_millis(200);
        assert_eq!(pulse(&connection, soon()).await, Finding::Silent);
        let flood = async {
            loop {
                peer.send(json!({ "method": "Runtime.consoleAPICalled", "params": {} })).await.unwrap();
                sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            finding = pulse(&connection, soon()) => assert_eq!(finding, Finding::Answered),
            () = flood => unreachable!("it floods for ever"),
        }
    }

    /// What a probe finds when commands are answered like this, and the commands. `None` is no answer.
    async fn probed(
        time: Duration,
        answer: impl Fn(&str) -> Option<Result<Value, &'static str>>,
    ) -> (Finding, Vec<String>) {
        let tasks = Tasks::new();
        let (mut peer, connection) = Peer::connect(&tasks).unwrap();
        let mut asked = Vec::new();
        let serve = async {
            while let Some(request) = peer.request().await.unwrap() {
                asked.push(request.method.clone());
                match answer(&request.method) {
                    Some(Ok(result)) => peer.reply(&request, result).await.unwrap(),
                    Some(Err(message)) => peer.refuse(&request, -32000, message).await.unwrap(),
                    None => {}
                }
            }
        };
        let finding = tokio::select! {
            finding = open(&connection, Instant::now() + time) => finding,
            () = serve => unreachable!("the connection stays open"),
        };
        (finding, asked)
    }

    #[expect(clippy::unnecessary_wraps, reason = "one of the answers a fake may give")]
    fn sound(method: &str) -> Option<Result<Value, &'static str>> {
        Some(Ok(match method {
            "Target.createBrowserContext" => json!({ "browserContextId": "C" }),
            "Target.createTarget" => json!({ "targetId": "T" }),
            "Target.attachToTarget" => json!({ "sessionId": "S" }),
            "Runtime.evaluate" => json!({ "result": { "type": "number", "value": 2 } }),
            _ => json!({}),
        }))
    }

    #[tokio::test]
    async fn a_probe_hears_every_refusal_and_leaves_nothing() {
        const STEPS: [&str; 5] = [
            "Target.createBrowserContext",
            "Target.createTarget",
            "Target.attachToTarget",
            "Inspector.enable",
            "Runtime.evaluate",
        ];
        let minute = Duration::from_mins(1);
        let (finding, asked) = probed(minute, sound).await;
        assert_eq!(finding, Finding::Opens);
        assert_eq!((&asked[..5], asked[5..].concat()), (&STEPS.map(str::to_owned)[..], DISPOSE.to_owned()));
        for step in STEPS {
            let refuses = |method: &str| if method == step { Some(Err("out of order")) } else { sound(method) };
            let (finding, asked) = probed(minute, refuses).await;
            let heard = matches!(&finding, Finding::Refuses(why) if why.contains("out of order"));
            assert!(heard, "{step}: {finding:?}");
            // Nothing was made that would have to be removed when already the first step fails.
            let last = if step == STEPS[0] { step } else { DISPOSE };
            assert_eq!(asked.last().map(String::as_str), Some(last), "{step}");

            let silent = |method: &str| if method == step { None } else { sound(method) };
            assert_eq!(probed(Duration::from_millis(200), silent).await.0, Finding::Stuck, "{step}");
        }
        let wrong = |method: &str| match method {
            "Runtime.evaluate" => Some(Ok(json!({ "result": { "type": "number", "value": 3 } }))),
            _ => sound(method),
        };
        assert_eq!(probed(minute, wrong).await.0, Finding::Refuses("a new page does not compute".to_owned()));
    }

    const DISPOSE: &str = "Target.disposeBrowserContext";

    /// A browser whose pulse, pages and memory follow the clock.
    struct Fake<P, O, M> {
        began: Instant,
        pulse: P,
        open: O,
        memory: M,
        opened: Mutex<Vec<u64>>,
    }

    #[async_trait]
    impl<P, O, M> Examine for Fake<P, O, M>
    where
        P: Fn(u64) -> bool + Send + Sync,
        O: Fn(u64) -> Option<Finding> + Send + Sync,
        M: Fn(u64) -> u64 + Send + Sync,
    {
        async fn pulse(&self, deadline: Instant) -> Finding {
            if (self.pulse)(self.began.elapsed().as_secs()) {
                return Finding::Answered;
            }
            tokio::time::sleep_until(deadline).await;
            Finding::Silent
        }

        async fn open(&self, deadline: Instant) -> Finding {
            let now = self.began.elapsed().as_secs();
            self.opened.lock().unwrap().push(now);
            if let Some(finding) = (self.open)(now) {
                return finding;
            }
            tokio::time::sleep_until(deadline).await;
            Finding::Stuck
        }

        async fn memory(&self) -> Option<u64> {
            Some((self.memory)(self.began.elapsed().as_secs()))
        }
    }

    fn fake<P, O, M>(pulse: P, open: O, memory: M) -> Fake<P, O, M> {
        Fake { began: Instant::now(), pulse, open, memory, opened: Mutex::default() }
    }

    #[expect(clippy::unnecessary_wraps, reason = "one of the answers a fake may give")]
    fn opens(_: u64) -> Option<Finding> {
        Some(Finding::Opens)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stopped_browser_is_found_after_three_probes_of_two_seconds() {
        let browser = fake(|now| now < 60, opens, |_| 0);
        let death = watch(&browser, &CONFIG, 0).await;
        assert_eq!(death.code, ErrorCode::BrowserGone);
        let found = browser.began.elapsed();
        assert!((Duration::from_secs(66)..=Duration::from_secs(68)).contains(&found), "{found:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_that_takes_for_ever_delays_neither_pulse_nor_memory() {
        let silent = fake(|now| now < 25, |_| None, |_| 0);
        watch(&silent, &CONFIG, 0).await;
        assert!(silent.began.elapsed() <= Duration::from_secs(33), "{:?}", silent.began.elapsed());
        let large = fake(|_| true, |_| None, |now| if now < 25 { 0 } else { 2 * GIB });
        assert_eq!(watch(&large, &CONFIG, 0).await.code, ErrorCode::BrowserOutOfMemory);
        assert!(large.began.elapsed() <= Duration::from_secs(27), "{:?}", large.began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_looked_at_again_soon() {
        let refuses = |now| Some(if now < 100 { Finding::Opens } else { Finding::Refuses("crashed".to_owned()) });
        let browser = fake(|_| true, refuses, |_| 0);
        watch(&browser, &Config { probe_interval: Duration::from_secs(40), ..CONFIG }, 0).await;
        assert_eq!(*browser.opened.lock().unwrap(), [30, 60, 90, 120, 122]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_machine_is_no_death() {
        // Every pulse but each third is late, and pages take longer than they may but each third time.
        let browser = fake(|now| now % 6 == 0, |now| (now % 3 == 0).then_some(Finding::Opens), |_| GIB);
        let day = Duration::from_hours(1);
        assert!(tokio::time::timeout(day, watch(&browser, &CONFIG, 0)).await.is_err());
    }

    proptest! {
        #[test]
        fn probes_of_different_browsers_are_spread(pid in 0u32..5_000_000) {
            let pause = spread_out(Duration::from_secs(40), pid);
            prop_assert!((Duration::from_secs(30)..=Duration::from_secs(50)).contains(&pause));
            prop_assert_ne!(pause, spread_out(Duration::from_secs(40), pid + 1));
        }
    }
}
