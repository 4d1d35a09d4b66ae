//! A pool daemon in this process, called over its real gRPC interface on loopback.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use browserfleet_common::{
    checkpoint::Checkpoints,
    config::{FRONT_END, Reader},
    lifecycle::{Shutdown, Tasks},
    pb::{
        self, browser_service_client::BrowserServiceClient, call_tool_response, pool_service_client::PoolServiceClient,
    },
};
use browserfleet_pool_daemon::{
    app::{App, End},
    chromium,
    config::{Config, Defaults},
    grpc,
};
use futures_util::StreamExt as _;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

/// A running daemon. Call [`Daemon::end`]: it verifies that nothing is left.
#[derive(Debug)]
pub struct Daemon {
    pub app: Arc<App>,
    pub channel: Channel,
    pub state_dir: TempDir,
    accepted: Arc<AtomicUsize>,
    tasks: Tasks,
    shutdown: Shutdown,
}

impl Daemon {
    /// Starts a daemon that drains at once and is patient with pages; `adjust` may change more.
    pub fn start(adjust: impl FnOnce(&mut Config)) -> anyhow::Result<Self> {
        Self::start_with(None, adjust)
    }

    /// As [`Self::start`], with sessions that outlive their browsers.
    pub fn start_with(checkpoints: Option<Checkpoints>, adjust: impl FnOnce(&mut Config)) -> anyhow::Result<Self> {
        let state_dir = tempfile::tempdir()?;
        let mut reader = Reader::new(None, &[]);
        let mut config = Config::read(&mut reader, Defaults::own(0));
        reader.finish(FRONT_END)?;
        state_dir.path().clone_into(&mut config.chromium.state_dir);
        config.limits.max_browsers = 2;
        // Tests that run beside each other on a busy machine wait longer than an agent would.
        config.times.action = Duration::from_secs(30);
        config.daemon.drain_grace = Duration::ZERO;
        adjust(&mut config);
        std::fs::set_permissions(state_dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711))?;
        chromium::become_subreaper()?;
        let (tasks, shutdown) = (Tasks::new(), Shutdown::new());
        let app = Arc::new(App::build(config, checkpoints, &tasks, &shutdown)?);
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let channel = Endpoint::from_shared(format!("http://{}", listener.local_addr()?))?.connect_lazy();
        let connections = grpc::incoming(TcpListener::from_std(listener)?);
        let accepted = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&accepted);
        let connections = connections.inspect(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        let (serving, stop) = (Arc::clone(&app), shutdown.hard().clone());
        tasks.spawn("test.grpc", async move { serving.serve(connections, stop.cancelled_owned()).await });
        Ok(Self { app, channel, state_dir, accepted, tasks, shutdown })
    }

    pub fn pool(&self) -> PoolServiceClient<Channel> {
        PoolServiceClient::new(self.channel.clone())
    }

    /// How many connections have been made to it.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// How many tasks of the daemon are running.
    pub fn running_tasks(&self) -> usize {
        self.tasks.running()
    }

    /// Leases a browser for a session of this name.
    pub async fn lease(&self, session: &str) -> anyhow::Result<Lease> {
        self.lease_as("tester", session).await
    }

    /// As [`Self::lease`], for a principal.
    pub async fn lease_as(&self, principal: &str, session: &str) -> anyhow::Result<Lease> {
        self.granted(pb::AcquireRequest {
            principal: principal.to_owned(),
            session: session.to_owned(),
            birth: "1".to_owned(),
            ttl: None,
            wait: Some(pb::to_wire(Duration::from_mins(1))),
            ..pb::AcquireRequest::default()
        })
        .await
    }

    /// The lease a request is granted.
    pub async fn granted(&self, request: pb::AcquireRequest) -> anyhow::Result<Lease> {
        let mut stream = self.pool().acquire(request).await?.into_inner();
        while let Some(message) = stream.message().await? {
            if let Some(pb::acquire_response::Event::Granted(granted)) = message.event {
                let lease = granted.lease.context("a grant carries its lease")?;
                let (token, channel) = (granted.token, self.channel.clone());
                return Ok(Lease { lease, token, channel, secrets: Vec::new() });
            }
        }
        anyhow::bail!("the stream ended without a grant")
    }

    /// Ends the daemon and says what is left of it: nothing.
    pub async fn end(self) -> anyhow::Result<()> {
        self.shutdown.begin();
        anyhow::ensure!(self.app.end().await == End::Clean, "browsers were left");
        self.shutdown.force();
        drop((self.app, self.channel));
        let running = self.tasks.join(Duration::from_secs(10)).await;
        anyhow::ensure!(running == 0, "{running} tasks are still running");
        anyhow::ensure!(self.tasks.panicked() == 0, "tasks have panicked");
        let entries = std::fs::read_dir(self.state_dir.path())?.filter_map(Result::ok);
        let left: Vec<_> = entries.filter(|entry| entry.path().is_dir()).collect();
        anyhow::ensure!(left.is_empty(), "directories are left: {left:?}");
        Ok(())
    }
}

/// A leased browser.
#[derive(Clone, Debug)]
pub struct Lease {
    pub lease: pb::Lease,
    pub token: String,
    channel: Channel,
    /// What its calls may type.
    secrets: Vec<pb::Secret>,
}

/// A file that came with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub name: String,
    pub mime_type: String,
    pub bytes: Vec<u8>,
}

/// What a call answered.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Sections in the order they came, as `### Title` and body, without the marks around words of pages.
    pub text: String,
    /// What stood between such marks, with its origin.
    pub fenced: Vec<(String, String)>,
    pub images: Vec<(String, Vec<u8>)>,
    pub files: Vec<File>,
    /// The structured form.
    pub structured: Option<Value>,
    pub error: Option<pb::ToolFailure>,
}

impl Answer {
    fn section(&mut self, title: &str, body: &[u8]) {
        let body = self.unfence(&String::from_utf8_lossy(body));
        self.text.extend(["### ", title, "\n", &body, "\n"]);
    }

    /// As front ends do: objects become one, anything else stands alone.
    fn structure(&mut self, value: Value) {
        match (&mut self.structured, value) {
            (Some(Value::Object(members)), Value::Object(more)) => members.extend(more),
            (structured, value) => *structured = Some(value),
        }
    }

    /// Takes the marks away that stand around words of pages.
    fn unfence(&mut self, body: &str) -> String {
        let mut text = String::new();
        let mut rest = body;
        while let Some((before, after)) = rest.split_once("<untrusted-") {
            let Some((number, after)) = after.split_once(" origin=\"") else { break };
            let Some((origin, after)) = after.split_once("\">\n") else { break };
            let Some((said, after)) = after.split_once(&format!("\n</untrusted-{number}>")) else { break };
            text.extend([before, said]);
            self.fenced.push((origin.to_owned(), said.to_owned()));
            rest = after;
        }
        text + rest
    }

    /// The code of the failure, or `ok`.
    pub fn outcome(&self) -> &str {
        self.error.as_ref().map_or("ok", |error| error.code.as_str())
    }

    /// The ref of the first line that contains `words`.
    pub fn find_ref(&self, words: &str) -> anyhow::Result<String> {
        let line = self.text.lines().find(|line| line.contains(words) && line.contains("[ref="));
        let line = line.with_context(|| format!("no line with {words:?} in\n{}", self.text))?;
        let start = line.find("[ref=").context("a ref")? + 5;
        let end = line[start..].find(']').context("the end of a ref")?;
        Ok(line[start..start + end].to_owned())
    }
}

impl Lease {
    /// The same lease, whose calls may type a secret at an origin.
    #[must_use]
    pub fn with_secret(mut self, name: &str, value: &str, origin: &str) -> Self {
        let (name, value, origins) = (name.to_owned(), value.to_owned(), vec![origin.to_owned()]);
        self.secrets.push(pb::Secret { name, value, origins });
        self
    }

    /// The request that gives the lease back.
    pub fn released(&self) -> pb::ReleaseRequest {
        pb::ReleaseRequest { lease_id: self.lease.lease_id.clone(), token: self.token.clone() }
    }

    /// Calls a tool and collects its answer.
    pub async fn call(&self, tool: &str, arguments: Value) -> Result<Answer, Status> {
        self.call_within(tool, arguments, Duration::from_mins(1)).await
    }

    pub async fn call_within(&self, tool: &str, arguments: Value, time: Duration) -> Result<Answer, Status> {
        let mut request = tonic::Request::new(pb::CallToolRequest {
            lease_id: self.lease.lease_id.clone(),
            token: self.token.clone(),
            tool: tool.to_owned(),
            arguments: arguments.to_string().into_bytes(),
            request_id: String::new(),
            secrets: self.secrets.clone(),
            ..pb::CallToolRequest::default()
        });
        request.set_timeout(time);
        let client = BrowserServiceClient::new(self.channel.clone());
        let mut stream = client.max_decoding_message_size(pb::MESSAGE_BYTES).call_tool(request).await?.into_inner();
        let mut answer = Answer::default();
        let mut data = Vec::new();
        let mut title = String::new();
        while let Some(message) = stream.message().await? {
            match message.event {
                Some(call_tool_response::Event::Section(section)) => {
                    if !section.title.is_empty() {
                        title.clone_from(&section.title);
                    }
                    data.extend_from_slice(&section.data);
                    if section.last {
                        let bytes = std::mem::take(&mut data);
                        match section.kind() {
                            pb::SectionKind::Image => answer.images.push((section.mime_type, bytes)),
                            pb::SectionKind::File | pb::SectionKind::Download => {
                                answer.files.push(File { name: title.clone(), mime_type: section.mime_type, bytes });
                            }
                            pb::SectionKind::Structured => {
                                let malformed = |error: serde_json::Error| Status::internal(error.to_string());
                                answer.structure(serde_json::from_slice(&bytes).map_err(malformed)?);
                            }
                            _ => answer.section(&title, &bytes),
                        }
                    }
                }
                Some(call_tool_response::Event::End(end)) => answer.error = end.error,
                _ => {}
            }
        }
        Ok(answer)
    }

    /// Calls a tool that must succeed.
    pub async fn ok(&self, tool: &str, arguments: Value) -> anyhow::Result<Answer> {
        let answer = self.call(tool, arguments).await?;
        anyhow::ensure!(answer.error.is_none(), "{tool} failed: {:?}\n{}", answer.error, answer.text);
        Ok(answer)
    }
}
