//! A page that sends more events than anybody can take: what only the lost ones would have told is asked for. Real Chromium.
//!
//! Between it and the daemon's side is a [`Valve`]: it holds what Chromium sends, and then lets everything through at once
//! with so many events behind it that those before are lost. The runtime has one thread here, and the valve is opened on
//! it: the pump cannot run before all of it has been read.

use std::{
    fs::File,
    future::poll_fn,
    io::{Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    thread,
    time::Duration,
};

use browserfleet_cdp::Connection;
use browserfleet_common::lifecycle::Tasks;
use browserfleet_pool_daemon::{
    chromium::{Child, Process, Spawner},
    page::{Context, Freed, Page, SnapshotOptions},
};
use browserfleet_tests::{browsers, pages::Pages};
use nix::fcntl::{FcntlArg, fcntl};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

type Outcome = anyhow::Result<()>;

/// Far beyond what any of these takes.
const PATIENCE: Duration = Duration::from_secs(40);
/// Somewhat more events than may wait for a page's pump.
const FLOOD: usize = 8_200;

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// Passes on what Chromium writes, or holds it.
struct Valve {
    to_daemon: File,
    /// What is held; `None` while everything passes.
    held: Option<Vec<u8>>,
}

type Shared = Arc<Mutex<Valve>>;

fn lock(valve: &Shared) -> MutexGuard<'_, Valve> {
    valve.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Valve {
    /// Takes Chromium's end, answers with the one for the daemon's side. Ends with Chromium.
    fn between(from_browser: OwnedFd) -> anyhow::Result<(Shared, OwnedFd)> {
        let (read, write) = std::io::pipe()?;
        let valve = Arc::new(Mutex::new(Self { to_daemon: File::from(OwnedFd::from(write)), held: None }));
        let passing = Arc::clone(&valve);
        let mut from_browser = File::from(from_browser);
        thread::spawn(move || {
            let mut chunk = vec![0; 1 << 16];
            while let Ok(bytes @ 1..) = from_browser.read(&mut chunk) {
                if lock(&passing).take(&chunk[..bytes]).is_err() {
                    return;
                }
            }
        });
        Ok((valve, read.into()))
    }

    fn take(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.held {
            Some(held) => held.extend_from_slice(bytes),
            None => self.to_daemon.write_all(bytes)?,
        }
        Ok(())
    }

    /// Lets through what was held, and a flood of the same session's events behind it.
    fn open_with_a_flood(&mut self) -> Outcome {
        let held = self.held.take().unwrap_or_default();
        let text = String::from_utf8_lossy(&held);
        let (_, session) = text.rsplit_once("\"sessionId\":\"").expect("a session has sent something");
        let (session, _) = session.split_once('"').expect("the end of its id");
        // Of no frame there is: it changes nothing.
        let event = format!(
            "{{\"method\":\"Page.frameDetached\",\"params\":{{\"frameId\":\"x\"}},\"sessionId\":\"{session}\"}}\0"
        );
        let whole = held.iter().rposition(|byte| *byte == 0).map_or(0, |end| end + 1);
        let everything = [&held[..whole], event.repeat(FLOOD).as_bytes(), &held[whole..]].concat();
        // Nobody reads meanwhile.
        let room = usize::try_from(fcntl(self.to_daemon.as_fd(), FcntlArg::F_GETPIPE_SZ)?)?;
        anyhow::ensure!(everything.len() <= room, "{} bytes do not fit the pipe's {room}", everything.len());
        self.to_daemon.write_all(&everything)?;
        Ok(())
    }
}

/// A browser behind a valve, and a page of it that shows the form.
struct Scene {
    valve: Shared,
    page: Page,
    connection: Connection,
    process: Process,
    tasks: Tasks,
    pages: Pages,
    _dir: TempDir,
}

impl Scene {
    async fn begin() -> anyhow::Result<Self> {
        let (config, dir) = browsers::settings()?;
        let (tasks, pages) = (Tasks::new(), Pages::start().await?);
        let Child { read, write, process, .. } = Spawner::start(config.chromium, &tasks)?.launch(0, None).await?;
        let (valve, read) = Valve::between(read)?;
        let connection = Connection::open(read, write, &tasks)?;
        let page = Context::default_of(&connection, &tasks, None, None).open_page(soon()).await?;
        page.navigate(&pages.at("/"), soon()).await?;
        Ok(Self { valve, page, connection, process, tasks, pages, _dir: dir })
    }

    /// Does something whose events are held until all of `words` have come, and then lost. What it answers does not count.
    async fn lose<T>(&self, act: impl Future<Output = T>, words: &[&str]) -> Outcome {
        lock(&self.valve).held = Some(Vec::new());
        let mut act = std::pin::pin!(act);
        let deadline = soon();
        let mut acting = true;
        loop {
            {
                let mut valve = lock(&self.valve);
                let held = String::from_utf8_lossy(valve.held.as_deref().unwrap_or_default()).into_owned();
                if words.iter().all(|word| held.contains(word)) {
                    valve.open_with_a_flood()?;
                    break;
                }
                anyhow::ensure!(Instant::now() < deadline, "{words:?} are not in {held}");
            }
            poll_fn(|context| {
                acting = acting && act.as_mut().poll(context).is_pending();
                Poll::Ready(())
            })
            .await;
            sleep(Duration::from_millis(10)).await;
        }
        if acting {
            act.await;
        }
        // This asks the pump: it has seen by then that something is missing.
        let _where = self.page.mark().await;
        anyhow::ensure!(self.connection.stats().lagged > 0, "nothing was lost: {:?}", self.connection.stats());
        Ok(())
    }

    async fn until(&self, what: &str, condition: impl Fn(&Page) -> bool) -> Outcome {
        let deadline = soon();
        while !condition(&self.page) {
            anyhow::ensure!(Instant::now() < deadline, "{what}: {:?} {:?}", self.page.document(), self.page.dialog());
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    async fn snapshot(&self) -> anyhow::Result<String> {
        Ok(self.page.snapshot(&SnapshotOptions::default(), soon()).await?.text)
    }

    /// Nothing is left of it.
    async fn end(self) -> Outcome {
        drop((self.page, self.connection));
        assert_eq!(self.process.end().await.left, 0);
        drop(self.process);
        assert_eq!(self.tasks.join(PATIENCE).await, 0);
        assert_eq!(self.tasks.panicked(), 0);
        Ok(())
    }
}

#[tokio::test]
async fn a_document_whose_coming_was_not_heard_is_found() -> Outcome {
    let scene = Scene::begin().await?;
    let old = scene.snapshot().await?;
    assert!(old.contains("Hello"), "{old}");
    let go = scene.page.evaluate("() => { location.href = '/frame' }", None, soon());
    // Both documents are there, the frame's and its page's, and everything that told of them is lost.
    scene.lose(go, &["/inner\"", "\"name\":\"networkAlmostIdle\"", "Page.frameNavigated", "/frame\""]).await?;
    let url = scene.pages.at("/frame");
    scene.until("its URL is known", |page| page.document().url == url).await?;
    let new = scene.snapshot().await?;
    assert!(new.contains("Outer") && new.contains("button \"In the frame\"") && !new.contains("Hello"), "{new}");
    let document = scene.page.evaluate("() => document.title", None, soon()).await?;
    assert!(document.text.contains("Outer"), "{document:?}");
    // It goes on as if nothing had happened: also what waits for events comes to its end.
    let back = scene.page.navigate(&scene.pages.at("/done"), soon()).await?;
    assert!(scene.snapshot().await?.contains("thank you"), "{back:?}");
    scene.end().await
}

#[tokio::test]
async fn frames_that_went_unheard_are_forgotten() -> Outcome {
    let scene = Scene::begin().await?;
    scene.page.navigate(&scene.pages.at("/frame"), soon()).await?;
    assert!(scene.snapshot().await?.contains("In the frame"));
    let replace = "() => { document.querySelector('iframe').remove(); \
                   const f = document.createElement('iframe'); f.src = '/red'; document.body.prepend(f) }";
    let replacing = scene.page.evaluate(replace, None, soon());
    scene.lose(replacing, &["Page.frameDetached", "/red\"", "Page.frameNavigated", "executionContextCreated"]).await?;
    let deadline = soon();
    let shown = loop {
        let shown = scene.snapshot().await?;
        if shown.contains("button \"Red\"") || Instant::now() > deadline {
            break shown;
        }
        sleep(Duration::from_millis(20)).await;
    };
    assert!(shown.contains("button \"Red\"") && !shown.contains("In the frame"), "{shown}");
    scene.end().await
}

/// A page may have 200 frames. Those that are gone must not count, or later ones are never driven.
#[tokio::test]
async fn frames_that_went_unheard_take_no_room() -> Outcome {
    let scene = Scene::begin().await?;
    let fill = |count: u32, text: &str| {
        format!(
            "() => Promise.all(Array.from({{ length: {count} }}, () => new Promise(done => {{ \
             const f = document.createElement('iframe'); f.onload = done; f.srcdoc = '<p>{text}'; \
             document.body.append(f) }}))).then(() => 1)"
        )
    };
    scene.page.evaluate(&fill(155, "old"), None, soon()).await?;
    let running = scene.tasks.running();
    let removing =
        scene.page.evaluate("() => document.querySelectorAll('iframe').forEach(f => f.remove())", None, soon());
    scene.lose(removing, &["Page.frameDetached", "\"result\":{\"result\":"]).await?;
    // The page has been asked: what asked it has ended.
    let deadline = soon();
    while scene.tasks.running() > running {
        anyhow::ensure!(Instant::now() < deadline, "the question has no end");
        sleep(Duration::from_millis(10)).await;
    }
    scene.page.evaluate(&fill(48, "new"), None, soon()).await?;
    let deadline = soon();
    let shown = loop {
        let shown = scene.snapshot().await?.matches("paragraph").count();
        // One is the form's own.
        if shown == 49 || Instant::now() > deadline {
            break shown;
        }
    };
    assert_eq!(shown, 49);
    scene.end().await
}

#[tokio::test]
async fn a_dialog_that_closed_unheard_stops_nothing() -> Outcome {
    let scene = Scene::begin().await?;
    let _modal = scene.page.evaluate("() => { setTimeout(() => alert('once')) }", None, soon()).await;
    scene.until("the dialog is known", |page| page.dialog().is_some()).await?;
    scene.lose(scene.page.answer_dialog(true, None, soon()), &["Page.javascriptDialogClosed"]).await?;
    scene.until("no dialog is left", |page| page.dialog().is_none()).await?;
    assert!(scene.snapshot().await?.contains("Hello"));
    scene.end().await
}

/// Nobody can be asked about this: the page stands still, and only the next call finds out.
#[tokio::test]
async fn a_dialog_that_opened_unheard_costs_one_call() -> Outcome {
    let scene = Scene::begin().await?;
    let opening = scene.page.evaluate("() => { setTimeout(() => alert('unheard'), 100) }", None, soon());
    scene.lose(opening, &["Page.javascriptDialogOpening"]).await?;
    assert_eq!(scene.page.dialog(), None, "it is not known");
    let stuck = scene.page.evaluate("() => 1", None, Instant::now() + Duration::from_secs(1)).await;
    assert!(stuck.is_err(), "{stuck:?}");
    assert_eq!(scene.page.recover().await, Some(Freed::Dialog));
    assert!(scene.snapshot().await?.contains("Hello"));
    scene.end().await
}
