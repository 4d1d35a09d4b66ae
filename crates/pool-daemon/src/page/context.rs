//! A browser context: the cookies, storage and pages of one session, apart from every other context's.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use browserfleet_cdp::{
    Connection, Session,
    browser_protocol::{
        browser::{BrowserContextId, SetDownloadBehaviorBehavior, SetDownloadBehaviorParams},
        target::{
            CreateBrowserContextParams, CreateTargetParams, DisposeBrowserContextParams, FilterEntry,
            GetTargetInfoParams, GetTargetsParams, SetDiscoverTargetsParams, TargetFilter, TargetId,
        },
    },
};
use browserfleet_common::lifecycle::Tasks;
use serde_json::{Value, json};
use tokio::{sync::OnceCell, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Page,
    arrivals::Arrivals,
    downloads::{Download, DownloadPlace, Downloads},
    looks::Looks,
    network::Network,
    notices::{MAX_WORDS, Notice, Notices},
    open::BLANK,
    origins::Origins,
    state::cut,
    tabs, wire,
};
use crate::{chromium::BYPASS_NOTHING, egress::Gate, failure::Failure};

/// What the pages of one session share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// What the agent is to hear of.
    pub(super) notices: Notices,
    /// What they have given away.
    pub(super) downloads: Downloads,
    /// Where they have been.
    pub(super) origins: Origins,
    /// What they believe about the network.
    pub(super) network: Network,
    /// How they are shown.
    pub(super) looks: Mutex<Looks>,
    /// How many documents snapshots have shown: the refs of each have a number of their own, whichever page shows it.
    pub(super) documents: AtomicU32,
    /// Documents with smaller numbers were shown in an earlier browser of the session.
    pub(super) first_document: AtomicU32,
    /// Held by the trace that is being recorded, until nothing of it is left in the browser.
    pub(super) tracing: Arc<tokio::sync::Mutex<()>>,
    /// The way out. Fake browsers have none.
    pub(super) gate: Option<Gate>,
}

impl Shared {
    /// A page, or the guard of the context, hears that a download begins.
    pub(super) fn download_begins(&self, download: wire::DownloadBegins) {
        let name = cut(download.suggested_filename, MAX_WORDS);
        if self.downloads.begins(&download.guid, name.clone()) {
            self.notices.add(Notice::DownloadDenied(name));
        }
    }
}

/// A context of a browser. Not a border between tenants: the clipboard, crashes and the browser's own process are shared.
#[derive(Clone, Debug)]
pub struct Context {
    /// `None` is the browser's default context, which ends with the browser.
    id: Option<BrowserContextId>,
    connection: Connection,
    tasks: Tasks,
    pub(super) shared: Arc<Shared>,
    /// Tabs that pages have opened, ready to be driven.
    arrivals: Arc<Arrivals>,
    /// Set with the first page; ends the guard with the last handle.
    guard: Arc<OnceCell<DropGuard>>,
}

impl Context {
    /// The context every browser has.
    pub fn default_of(
        connection: &Connection,
        tasks: &Tasks,
        gate: Option<Gate>,
        downloads: Option<DownloadPlace>,
    ) -> Self {
        Self {
            id: None,
            connection: connection.clone(),
            tasks: tasks.clone(),
            shared: Arc::new(Shared { gate, downloads: Downloads::new(downloads), ..Shared::default() }),
            arrivals: Arc::default(),
            guard: Arc::default(),
        }
    }

    /// A further context in a browser.
    pub async fn create(
        connection: &Connection,
        tasks: &Tasks,
        gate: Option<Gate>,
        downloads: Option<DownloadPlace>,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        let create = CreateBrowserContextParams {
            proxy_server: gate.as_ref().map(Gate::server),
            proxy_bypass_list: Some(BYPASS_NOTHING.to_owned()),
            ..CreateBrowserContextParams::default()
        };
        let created = connection.browser().call(create, deadline).await?;
        Ok(Self { id: Some(created.browser_context_id), ..Self::default_of(connection, tasks, gate, downloads) })
    }

    /// The way out of this context. Fake browsers have none.
    pub fn gate(&self) -> Option<&Gate> {
        self.shared.gate.as_ref()
    }

    /// How many documents snapshots have shown: the number of the next one.
    pub fn documents(&self) -> u32 {
        self.shared.documents.load(Ordering::Relaxed)
    }

    /// Numbers documents from here on, before any has been shown: the smaller numbers are taken.
    pub fn number_documents_from(&self, first: u32) {
        self.shared.first_document.store(first, Ordering::Relaxed);
        self.shared.documents.store(first, Ordering::Relaxed);
    }

    /// Opens a blank page, ready to be used.
    pub async fn open_page(&self, deadline: Instant) -> Result<Page, Failure> {
        let mut create = CreateTargetParams::new(BLANK);
        create.browser_context_id.clone_from(&self.id);
        let target = self.connection.browser().call(create, deadline).await?.target_id;
        // Beside each other: a session waits for both, and a blank page opens nothing.
        let (_guard, page) = tokio::try_join!(
            self.guard.get_or_try_init(|| self.watch(&target, deadline)),
            Page::open(&self.connection, target.clone(), &self.shared, &self.tasks, deadline),
        )?;
        Ok(page)
    }

    /// Closes every page of a context of its own and forgets its data. The default context stays until its browser ends.
    pub async fn dispose(&self, deadline: Instant) -> Result<(), Failure> {
        if let Some(id) = &self.id {
            if let Some(gate) = self.gate() {
                gate.close();
            }
            self.connection.browser().call(DisposeBrowserContextParams::new(id.clone()), deadline).await?;
            self.shared.downloads.discard().await;
        }
        Ok(())
    }

    /// What happened in this context and has not been told; only the first who asks hears of it.
    pub fn take_notices(&self) -> Vec<String> {
        self.shared.notices.take()
    }

    /// Whether files that pages give away are kept, and not denied.
    pub fn keeps_downloads(&self) -> bool {
        self.shared.downloads.place().is_some()
    }

    /// What pages have given away and nobody has taken, and sentences about what has not come. Waits a little for what is on
    /// its way.
    pub async fn take_downloads(&self, deadline: Instant) -> (Vec<Download>, Vec<String>) {
        self.shared.downloads.take(deadline).await
    }

    /// Waits until the tabs that pages are just opening are ready, within a bound.
    pub async fn arrivals_settled(&self) {
        self.arrivals.settled().await;
    }

    /// Tabs that pages have opened and that are ready; each is handed over once.
    pub fn take_arrivals(&self) -> Vec<Page> {
        self.arrivals.take()
    }

    /// Title and URL of every page of the browser, by target.
    pub async fn titles(&self, deadline: Instant) -> Result<HashMap<String, (String, String)>, Failure> {
        let all = self.connection.browser().call_raw(GetTargetsParams::IDENTIFIER, &json!({}), deadline).await?;
        let Ok(wire::Targets { target_infos }) = browserfleet_cdp::decode(&all) else { return Ok(HashMap::new()) };
        Ok(target_infos
            .into_iter()
            .map(|target| {
                // Of a page without a title Chromium says the URL, or that without its scheme.
                let untitled = target.url.split("://").last() == Some(&target.title) || target.url == target.title;
                let title = if untitled { String::new() } else { target.title };
                (target.target_id, (title, target.url))
            })
            .collect())
    }

    /// Keeps or denies downloads, and watches what pages open.
    async fn watch(&self, page: &TargetId, deadline: Instant) -> Result<DropGuard, Failure> {
        let browser = self.connection.browser();
        let events = browser.subscribe(tabs::EVENTS, tabs::CAPACITY);
        let place = self.shared.downloads.place().map(|place| place.dir.path().to_string_lossy().into_owned());
        let downloads = SetDownloadBehaviorParams {
            behavior: if place.is_some() {
                SetDownloadBehaviorBehavior::AllowAndName
            } else {
                SetDownloadBehaviorBehavior::Deny
            },
            browser_context_id: self.id.clone(),
            download_path: place,
            events_enabled: Some(true),
        };
        let mut discover = SetDiscoverTargetsParams::new(true);
        let pages = FilterEntry { r#type: Some("page".to_owned()), ..FilterEntry::default() };
        discover.filter = Some(TargetFilter::new(vec![pages]));
        let (context, ..) = tokio::try_join!(
            self.own_id(page, deadline),
            async { Ok(browser.call(downloads, deadline).await?) },
            async { Ok(browser.call(discover, deadline).await?) },
        )?;
        let ended = CancellationToken::new();
        let guard = tabs::Guard {
            connection: self.connection.clone(),
            context,
            id: self.id.clone(),
            shared: Arc::clone(&self.shared),
            arrivals: Arc::clone(&self.arrivals),
            tasks: self.tasks.clone(),
            ended: ended.clone(),
        };
        self.arrivals.guarded(events.watermark());
        self.tasks.spawn("context.tabs", guard.run(events));
        Ok(ended.drop_guard())
    }

    /// What tasks of this context are started with.
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    pub(super) fn browser(&self) -> Session {
        self.connection.browser()
    }

    /// Parameters of a command that is about this context.
    pub(super) fn named(&self, mut parameters: Value) -> Value {
        if let Some(id) = &self.id {
            parameters["browserContextId"] = id.inner().as_str().into();
        }
        parameters
    }

    /// This context's id. Chromium tells the id of its default context only through a page in it.
    async fn own_id(&self, page: &TargetId, deadline: Instant) -> Result<String, Failure> {
        if let Some(id) = &self.id {
            return Ok(id.inner().clone());
        }
        let asked = GetTargetInfoParams { target_id: Some(page.clone()) };
        let answer = self.connection.browser().call(asked, deadline).await?;
        Ok(answer.target_info.browser_context_id.map(|id| id.inner().clone()).unwrap_or_default())
    }
}
