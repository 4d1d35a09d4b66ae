//! Makes a page ready: attaches to its target, enables what we listen to, installs our scripts.

use std::sync::{Arc, Mutex};

use browserfleet_cdp::{
    Connection, Error, Session,
    browser_protocol::{
        emulation::SetFocusEmulationEnabledParams,
        inspector, log, network, page,
        target::{
            AttachToTargetParams, DetachFromTargetParams, FilterEntry, SetAutoAttachParams, TargetFilter, TargetId,
        },
    },
    js_protocol::runtime,
};
use browserfleet_common::lifecycle::Tasks;
use tokio::{
    sync::watch,
    time::{Duration, Instant},
};

use super::{Inner, Page, context::Shared, emulation, network::Settings, pump, resync, state::PageState, world};
use crate::failure::Failure;

/// The name of our isolated world. Pages cannot see it.
pub(super) const WORLD: &str = "browserfleet";

/// The URL of a document with nothing in it.
pub(super) const BLANK: &str = "about:blank";

/// What Chromium calls a dedicated worker.
pub(super) const WORKER: &str = "worker";

/// Most time an out-of-process frame gets to be made ready.
const FRAME_SETUP: Duration = Duration::from_secs(5);

impl Page {
    /// Makes the blank page of a new target ready to be used. Most go elsewhere first: a world of ours would be made, and our
    /// script compiled in a process that has just begun, for nobody. It is made when it is needed.
    pub(super) async fn open(
        connection: &Connection,
        target: TargetId,
        shared: &Arc<Shared>,
        tasks: &Tasks,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        let (page, script) = Self::attach(connection, target, shared, tasks, world::later(), deadline).await?;
        page.inner.change(|state| {
            state.bare = Some(script);
            // No event tells of a first document.
            BLANK.clone_into(&mut state.document.url);
        });
        Ok(page)
    }

    /// Attaches to a page and has it say what it does.
    async fn attach(
        connection: &Connection,
        target: TargetId,
        shared: &Arc<Shared>,
        tasks: &Tasks,
        script: page::AddScriptToEvaluateOnNewDocumentParams,
        deadline: Instant,
    ) -> Result<(Self, page::ScriptIdentifier), Failure> {
        let mut attach = AttachToTargetParams::new(target.clone());
        attach.flatten = Some(true);
        let session_id = connection.browser().call(attach, deadline).await?.session_id;
        let session = connection.session(session_id.as_ref());

        let crashes = connection.browser().subscribe(pump::CRASHES, pump::CAPACITY_OF_CRASHES);
        let events = session.subscribe_with(pump::EVENTS, pump::EXPENDABLE, pump::CAPACITY);
        let inner = Arc::new(Inner {
            session: session.clone(),
            target_id: target.inner().clone(),
            state: Mutex::new(PageState::new(target.inner().clone(), Arc::clone(shared))),
            changed: watch::Sender::new(0),
            seen: events.watermark(),
            shared: Arc::clone(shared),
        });
        let pump = pump::Pump {
            page: Arc::clone(&inner),
            session: session.clone(),
            connection: connection.clone(),
            tasks: tasks.clone(),
        };
        tasks.spawn("page.pump", pump.run(events, Some(crashes)));

        let page = Self { inner };
        // All at once: the browser answers in order, in one round trip.
        let (script, ..) = tokio::try_join!(
            async { Ok(prepare(&session, script, deadline).await?) },
            page.take_on_looks(deadline),
            // The page believes that it is the one the user looks at, as a page in a window of its own would.
            page.call(SetFocusEmulationEnabledParams::new(true), deadline),
        )?;
        Ok((page, script))
    }

    /// Takes over a tab that some page has opened: it may have a document already, and say no more about it by itself.
    pub(super) async fn adopt(
        connection: &Connection,
        target: TargetId,
        shared: &Arc<Shared>,
        tasks: &Tasks,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        let (page, _) = Self::attach(connection, target, shared, tasks, world::at_once(), deadline).await?;
        page.main_world(deadline).await?;
        resync::resync(&page.inner, &page.inner.session, deadline).await?;
        page.take_on_network(deadline).await?;
        Ok(page)
    }

    /// A page that nobody answers for, for tests of what only carries pages around.
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) fn detached(connection: &Connection) -> Self {
        let session = connection.session("detached");
        let inner = Inner {
            seen: session.subscribe(&[], 1).watermark(),
            session,
            target_id: "detached".to_owned(),
            state: Mutex::new(PageState::new("detached".to_owned(), Arc::default())),
            changed: watch::Sender::new(0),
            shared: Arc::default(),
        };
        Self { inner: Arc::new(inner) }
    }
}

/// An out-of-process frame: ready, then let go.
pub(super) async fn prepare_frame(
    page: &Inner,
    session: &Session,
    waiting: bool,
    network: Option<Settings>,
) -> Result<(), Error> {
    let deadline = Instant::now() + FRAME_SETUP;
    let mut prepared = prepare(session, world::at_once(), deadline).await.map(drop);
    if let Some(network) = network {
        prepared = prepared.and(network.apply(session, deadline).await);
    }
    if let Err(failure) = emulation::catch_up(page, session, deadline).await {
        // The page around it has taken it on, so it is possible: the frame has gone.
        tracing::debug!(%failure, "a frame did not take on what is emulated");
    }
    if waiting {
        session.call(runtime::RunIfWaitingForDebuggerParams::default(), deadline).await?;
    }
    prepared
}

/// A worker: nobody drives it, it only has to be let go.
pub(super) async fn release_worker(page: &Session, worker: &Session) -> Result<(), Error> {
    let deadline = Instant::now() + FRAME_SETUP;
    worker.call(runtime::RunIfWaitingForDebuggerParams::default(), deadline).await?;
    let detach = DetachFromTargetParams { session_id: worker.id().map(|id| id.to_owned().into()) };
    page.call(detach, deadline).await.map(drop)
}

/// What every session needs, all at once: the answers come back in one round trip.
async fn prepare(
    session: &Session,
    script: page::AddScriptToEvaluateOnNewDocumentParams,
    deadline: Instant,
) -> Result<page::ScriptIdentifier, Error> {
    let (_, _, _, script, ..) = tokio::try_join!(
        session.call(page::EnableParams::default(), deadline),
        session.call(page::SetLifecycleEventsEnabledParams::new(true), deadline),
        session.call(runtime::EnableParams::default(), deadline),
        session.call(script, deadline),
        session.call(log::EnableParams::default(), deadline),
        session.call(network::EnableParams::default(), deadline),
        session.call(auto_attach(), deadline),
        // Only pages know these.
        async { Ok(session.call(inspector::EnableParams::default(), deadline).await.ok()) },
        async { Ok(session.call(choose_here(), deadline).await.ok()) },
    )?;
    Ok(script.identifier)
}

/// Nobody sits before a file chooser: we are told instead, and the agent gives the files.
fn choose_here() -> page::SetInterceptFileChooserDialogParams {
    page::SetInterceptFileChooserDialogParams::new(true)
}

/// Frames in other processes announce themselves and wait until they are ready. So do workers, asked for or not: of one
/// that is left out nobody hears, and it waits for ever.
pub(super) fn auto_attach() -> SetAutoAttachParams {
    let announced = |kind: &str| FilterEntry { r#type: Some(kind.to_owned()), ..FilterEntry::default() };
    let mut command = SetAutoAttachParams::new(true, true);
    command.flatten = Some(true);
    command.filter = Some(TargetFilter::new(vec![announced("iframe"), announced(WORKER)]));
    command
}
