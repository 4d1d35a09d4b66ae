//! `BrowserService`: a call's stream, from its place in the line to its end.

use std::{panic::AssertUnwindSafe, pin::Pin, sync::Arc, time::Duration};

use browserfleet_common::{
    error_code::ErrorCode,
    ids,
    lifecycle::{Tasks, panic_text},
    pb,
    service::Rpc,
    step,
    telemetry::TraceParent,
};
use browserfleet_tools::{Effect, Group, Tool};
use futures_util::FutureExt as _;
use serde_json::Value;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use super::{auth::Peer, convert};
use crate::{
    checkpoint::{Keeper, Restored},
    failure::Failure,
    pool::{Handle, Leased, browser::Death},
    secrets::Secrets,
    tools::{Abilities, Call, Outcome, Registry, Section, Shows, Times, run},
};

/// Most time for a caller to take the next piece of its reply.
const TAKEN: Duration = Duration::from_secs(30);

/// The service.
#[derive(Clone, Debug)]
pub struct Browsers {
    handle: Handle,
    registry: Registry,
    /// None: what becomes of a browser becomes of its session's pages.
    keeper: Option<Keeper>,
    times: Times,
    abilities: Abilities,
    /// Most time of one call, whatever its caller allows.
    max_call: Duration,
    tasks: Tasks,
}

type Message = Result<pb::CallToolResponse, Status>;
type CallStream = Pin<Box<dyn Stream<Item = Message> + Send>>;

impl Browsers {
    pub fn new(handle: Handle, times: Times, abilities: Abilities, max_call: Duration, tasks: Tasks) -> Self {
        Self { handle, registry: Registry::new(), keeper: None, times, abilities, max_call, tasks }
    }

    /// Has sessions kept, so that they outlive their browsers.
    #[must_use]
    pub fn keeping(mut self, keeper: Option<Keeper>) -> Self {
        self.keeper = keeper;
        self
    }
}

#[tonic::async_trait]
impl pb::browser_service_server::BrowserService for Browsers {
    type CallToolStream = CallStream;

    async fn call_tool(&self, request: Request<pb::CallToolRequest>) -> Result<Response<CallStream>, Status> {
        let time = timeout_of(&request).map_or(self.max_call, |time| time.min(self.max_call));
        let deadline = Instant::now() + time;
        let (peer, trace) = (Peer::of(&request)?, TraceParent::of(request.metadata().as_ref()));
        let mut request = request.into_inner();
        peer.asks(Rpc::CallTool, &request.lease_id)?;
        if !self.registry.has(&request.tool) {
            return Err(ErrorCode::Unsupported.status("this server has no such tool"));
        }
        let arguments = arguments(&request.arguments)?;
        let secrets = Secrets::of(std::mem::take(&mut request.secrets))
            .map_err(|failure| failure.code.status(failure.message))?;
        let leased = self.handle.check(&request.lease_id, &request.token).map_err(convert::status)?;
        peer.uses(Rpc::CallTool, &request.lease_id, &leased.key)?;
        let (sender, receiver) = mpsc::channel(4);
        let cancel = CancellationToken::new();
        let gone = cancel.clone().drop_guard();
        let step = step!("run the tool", otel.kind = "server", gen_ai.tool.name = request.tool);
        if let Some(trace) = trace {
            trace.lead(&step);
        }
        let job = Job {
            service: self.clone(),
            request,
            arguments,
            secrets: Arc::new(secrets),
            leased,
            deadline,
            cancel,
            caller: sender,
        };
        self.tasks.spawn("grpc.call", job.work().instrument(step));
        Ok(Response::new(Box::pin(Guarded { stream: ReceiverStream::new(receiver), _gone: gone })))
    }
}

/// The stream a caller holds; dropping it cancels the call.
struct Guarded {
    stream: ReceiverStream<Message>,
    _gone: DropGuard,
}

impl Stream for Guarded {
    type Item = Message;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        Pin::new(&mut self.stream).poll_next(context)
    }
}

/// One call.
struct Job {
    service: Browsers,
    request: pb::CallToolRequest,
    arguments: Value,
    secrets: Arc<Secrets>,
    leased: Arc<Leased>,
    deadline: Instant,
    cancel: CancellationToken,
    caller: mpsc::Sender<Message>,
}

impl Job {
    async fn work(self) {
        let status = match AssertUnwindSafe(self.run()).catch_unwind().await {
            Ok(Ok(())) => return,
            Ok(Err(status)) => status,
            Err(panic) => self.broken(panic_text(panic.as_ref())),
        };
        self.send(Err(status)).await;
    }

    /// The call has failed inside: what it left of its browser is unknown, so the browser goes, and nothing else.
    fn broken(&self, panic: &str) -> Status {
        tracing::error!(request = self.request.request_id, tool = self.request.tool, panic, "a call panicked");
        let reason = "a call in it failed inside; this is a defect of the server".to_owned();
        self.leased.browser.condemn(Death { code: ErrorCode::Internal, reason });
        ErrorCode::Internal.status("the call failed inside; this is a defect of the server. Its browser is ended")
    }

    async fn run(&self) -> Result<(), Status> {
        let _running = self.leased.enter().map_err(convert::status)?;
        self.in_turn().await
    }

    /// Waits for the turn, runs the tool and sends its reply.
    async fn in_turn(&self) -> Result<(), Status> {
        use pb::call_tool_response::Event;
        let waiting = self.leased.workspace.wait().map_err(convert::status)?;
        if waiting.ahead > 0 {
            self.send(Ok(message(Event::Queued(pb::CallQueued { ahead: convert::number(waiting.ahead) })))).await;
        }
        let turn = tokio::select! {
            turn = waiting.turn() => turn,
            () = self.leased.ended().cancelled() => return Err(self.lost()),
            () = self.cancel.cancelled() => return Ok(()),
            () = tokio::time::sleep_until(self.deadline) => {
                return Err(ErrorCode::CallTimeout.status("earlier calls of this session took too long"));
            }
        };
        // Its turn and the end of its caller may have come together: then it does not run.
        if self.cancel.is_cancelled() {
            return Ok(());
        }
        // The lease may have ended while the call waited: nothing may touch the page of the next one.
        if self.leased.ended().is_cancelled() {
            return Err(self.lost());
        }
        if let Some(keeper) = &self.service.keeper {
            let begun = keeper.begin(&self.leased, &self.request.tool, self.deadline);
            begun.instrument(step!("begin with what is kept")).await.map_err(convert::status)?;
        }
        self.send(Ok(message(Event::Started(pb::Started {})))).await;
        let started = Instant::now();
        let mut outcome = run(
            &self.service.registry,
            &self.leased,
            &self.request.tool,
            self.arguments.clone(),
            self.call(),
            &self.cancel,
        )
        .await;
        if let Some(restored) = self.told_of_restore(&outcome) {
            outcome.reply = outcome.reply.restored(&restored);
        }
        // The token counted when the page was touched; it has to count still when the result is told. Asked in turn: a drain
        // that waits for it ends nothing that has been done.
        let lost = outcome.failure.is_none() && self.leased.ended().is_cancelled();
        drop(turn);
        self.log(&outcome, started.elapsed());
        if lost {
            return Err(self.lost());
        }
        self.reply(outcome).await;
        if let Some(keeper) = self.service.keeper.as_ref().filter(|_| self.acts()) {
            keeper.acted(&self.leased);
        }
        Ok(())
    }

    /// What the reply says of a session that was restored. Whoever cancelled does not listen: the next call hears of it.
    fn told_of_restore(&self, outcome: &Outcome) -> Option<Restored> {
        let cancelled = outcome.failure.as_ref().is_some_and(|failure| failure.code == ErrorCode::Cancelled);
        if cancelled { None } else { self.leased.kept.take_restored() }
    }

    /// Whether the tool may have changed something.
    fn acts(&self) -> bool {
        // What is recorded beside calls is told when it is lost: a checkpoint has to know of it.
        let records = |tool: &Tool| tool.group == Group::Devtools;
        browserfleet_tools::find(&self.request.tool).is_none_or(|tool| tool.effect == Effect::Acts || records(tool))
    }

    fn call(&self) -> Call {
        Call {
            page: self.leased.workspace.page(),
            workspace: Arc::clone(&self.leased.workspace),
            times: self.service.times,
            abilities: self.service.abilities,
            shows: Shows { asked: None, otherwise: convert::snapshot_mode(self.request.snapshot()) },
            deadline: self.deadline,
            secrets: Arc::clone(&self.secrets),
            brief: false,
        }
    }

    /// With the cause: a call that waits may follow one that took all the memory, and would do the same.
    fn lost(&self) -> Status {
        let ended = || ErrorCode::LeaseLost.status("the lease has ended");
        self.leased.lost().map_or_else(ended, |refusal| refusal.code.status(refusal.message))
    }

    async fn reply(&self, outcome: Outcome) {
        use pb::call_tool_response::Event;
        for section in outcome.reply.sections {
            for piece in pieces(section) {
                self.send(Ok(message(Event::Section(piece)))).await;
            }
        }
        let error = outcome
            .failure
            .map(|Failure { code, message, .. }| pb::ToolFailure { code: code.name().to_owned(), message });
        self.send(Ok(message(Event::End(pb::End { error })))).await;
    }

    /// Tells the caller. One that went away has cancelled the call, so there is nobody to tell; one that takes nothing any more
    /// is given up in the same way, or its lease would never be idle.
    async fn send(&self, message: Message) {
        if !self.cancel.is_cancelled() && timeout(TAKEN, self.caller.send(message)).await.is_err() {
            tracing::debug!(request = self.request.request_id, "a caller does not read its reply and is given up");
            self.cancel.cancel();
        }
    }

    fn log(&self, outcome: &Outcome, took: Duration) {
        // The front end writes the line for operators; this one is for those who look into one daemon.
        tracing::debug!(
            request = self.request.request_id,
            tool = self.request.tool,
            session = ids::digest(&self.leased.key.session),
            ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            outcome = outcome.failure.as_ref().map_or("ok", |failure| failure.code.name()),
            "call"
        );
    }
}

fn message(event: pb::call_tool_response::Event) -> pb::CallToolResponse {
    pb::CallToolResponse { event: Some(event) }
}

/// A section in pieces that fit a message.
fn pieces(section: Section) -> Vec<pb::Section> {
    let (kind, title, bytes, mime_type) = match section {
        Section::Text { title, body } => (pb::SectionKind::Text, title.to_owned(), body.into_bytes(), ""),
        Section::Image { mime_type, bytes } => (pb::SectionKind::Image, String::new(), bytes, mime_type),
        Section::File { name, mime_type, bytes } => (pb::SectionKind::File, name.into_owned(), bytes, mime_type),
        Section::Download { name, mime_type, bytes } => (pb::SectionKind::Download, name, bytes, mime_type),
        Section::Structured(value) => (pb::SectionKind::Structured, String::new(), value.to_string().into_bytes(), ""),
    };
    let count = bytes.len().div_ceil(pb::SECTION_PIECE_BYTES).max(1);
    (0..count)
        .map(|index| {
            let start = index * pb::SECTION_PIECE_BYTES;
            let end = bytes.len().min(start + pb::SECTION_PIECE_BYTES);
            pb::Section {
                kind: kind.into(),
                title: if index == 0 { title.clone() } else { String::new() },
                data: bytes[start..end].to_vec(),
                mime_type: mime_type.to_owned(),
                last: index + 1 == count,
            }
        })
        .collect()
}

fn arguments(bytes: &[u8]) -> Result<Value, Status> {
    if bytes.is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    match serde_json::from_slice(bytes) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(ErrorCode::InvalidArgument.status("arguments must be a JSON object")),
        Err(error) => Err(ErrorCode::InvalidArgument.status(format!("arguments are not JSON: {error}"))),
    }
}

/// The caller's deadline, from the `grpc-timeout` header: digits and a unit.
fn timeout_of<T>(request: &Request<T>) -> Option<Duration> {
    let text = request.metadata().get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at(text.len().checked_sub(1)?);
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count.checked_mul(3600)?),
        "M" => Duration::from_secs(count.checked_mul(60)?),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use browserfleet_common::egress::EgressRules;
    use futures_util::{FutureExt as _, StreamExt as _};
    use pb::browser_service_server::BrowserService as _;
    use tokio::sync::watch;

    use super::*;
    use crate::{
        pool::{Key, Pressure, driver, test_limits},
        testing::FakeLauncher,
        tools::Reply,
    };

    #[test]
    fn long_sections_travel_in_pieces() {
        let body = "x".repeat(pb::SECTION_PIECE_BYTES + 1);
        let pieces = pieces(Section::Text { title: "Snapshot", body });
        let seen: Vec<_> = pieces.iter().map(|piece| (piece.data.len(), piece.title.as_str(), piece.last)).collect();
        assert_eq!(seen, [(pb::SECTION_PIECE_BYTES, "Snapshot", false), (1, "", true)]);
    }

    #[test]
    fn an_empty_section_is_one_piece() {
        assert_eq!(pieces(Section::Text { title: "Result", body: String::new() }).len(), 1);
    }

    /// The service over fake browsers.
    struct Scene {
        handle: Handle,
        service: Browsers,
        tasks: Tasks,
        _calm: watch::Sender<Pressure>,
    }

    impl Scene {
        fn new() -> Self {
            let tasks = Tasks::new();
            let launcher = FakeLauncher::new(&tasks);
            let (calm, pressure) = watch::channel(Pressure::default());
            let handle = driver::start(test_limits(2, 0), "pool".to_owned(), launcher, pressure, &tasks);
            let second = Duration::from_secs(1);
            let times = Times { action: second, navigation: second, script: second };
            let abilities = Abilities { headed: false, shared: false };
            let service = Browsers::new(handle.clone(), times, abilities, 10 * second, tasks.clone());
            Self { handle, service, tasks, _calm: calm }
        }

        async fn lease(&self, session: &str) -> Arc<Leased> {
            let key = Key { principal: "p".to_owned(), session: session.to_owned(), birth: "1".to_owned() };
            let deadline = Instant::now() + Duration::from_secs(10);
            let rules = EgressRules::default();
            let acquisition = self.handle.acquire(key, rules, Duration::from_mins(1), deadline).await.unwrap();
            acquisition.outcome().await.unwrap()
        }

        async fn call(&self, leased: &Leased) -> CallStream {
            self.call_with(leased, &leased.token).await.unwrap()
        }

        async fn call_with(&self, leased: &Leased, token: &str) -> Result<CallStream, Status> {
            let request = pb::CallToolRequest {
                lease_id: leased.lease_id.clone(),
                token: token.to_owned(),
                tool: "browser_snapshot".to_owned(),
                ..pb::CallToolRequest::default()
            };
            let mut request = Request::new(request);
            request.extensions_mut().insert(Peer::Anyone);
            self.service.call_tool(request).await.map(Response::into_inner)
        }
    }

    /// What the caller is told in place of a reply.
    async fn refusal(stream: CallStream) -> Status {
        let messages: Vec<Message> = stream.collect().await;
        messages.into_iter().next_back().unwrap().expect_err("the caller is told")
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_panics_costs_its_browser_and_nothing_else() {
        let mut scene = Scene::new();
        scene.service.registry = Registry::of("browser_snapshot", || async { panic!("injected") }.boxed());
        let (hit, other) = (scene.lease("hit").await, scene.lease("other").await);
        let status = refusal(scene.call(&hit).await).await;
        assert_eq!(ErrorCode::of(&status), ErrorCode::Internal);
        hit.ended().cancelled().await;
        assert!(hit.lost().unwrap().message.contains("defect of the server"), "{:?}", hit.lost());
        assert!(!other.ended().is_cancelled(), "nothing else");
        assert_eq!(scene.tasks.panicked(), 0, "it was caught where it can be answered");
    }

    /// The token has to count still when the result is told: by then the session may go on elsewhere.
    #[tokio::test(start_paused = true)]
    async fn what_was_done_while_the_lease_ended_is_not_told_as_done() {
        let mut scene = Scene::new();
        let leased = scene.lease("s").await;
        let ends = (scene.handle.clone(), Arc::clone(&leased));
        scene.service.registry = Registry::of("browser_snapshot", move || {
            let (handle, leased) = ends.clone();
            async move {
                handle.session_ended(&leased, "this is why").await.expect("runs");
                Ok(Reply::new())
            }
            .boxed()
        });
        let status = refusal(scene.call(&leased).await).await;
        assert_eq!(ErrorCode::of(&status), ErrorCode::LeaseLost);
        assert!(status.message().contains("this is why"), "{status}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_with_another_leases_token_touches_nothing() {
        let mut scene = Scene::new();
        let (own, other) = (scene.lease("own").await, scene.lease("other").await);
        scene.service.registry = Registry::of("browser_snapshot", || async { panic!("it is run") }.boxed());
        for token in [other.token.as_str(), ""] {
            let status = scene.call_with(&own, token).await.map(drop).expect_err("it is refused");
            assert_eq!(ErrorCode::of(&status), ErrorCode::LeaseLost);
        }
        assert!(!own.ended().is_cancelled() && !other.ended().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_waits_is_told_what_its_browser_died_of() {
        for (code, told) in [
            (ErrorCode::BrowserOutOfMemory, ErrorCode::BrowserOutOfMemory),
            (ErrorCode::BrowserGone, ErrorCode::LeaseLost),
        ] {
            let scene = Scene::new();
            let leased = scene.lease("s").await;
            let before = leased.workspace.wait().unwrap();
            let _turn = before.turn().await;
            let mut waiting = scene.call(&leased).await;
            // By its first message it is in the queue.
            assert!(waiting.next().await.unwrap().is_ok());
            leased.browser.condemn(Death { code, reason: "this is why".to_owned() });
            let status = refusal(waiting).await;
            assert_eq!(ErrorCode::of(&status), told);
            assert!(status.message().contains("this is why"), "{status}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_never_reads_is_given_up() {
        let scene = Scene::new();
        let (caller, _unread) = mpsc::channel(1);
        let job = Job {
            service: scene.service.clone(),
            request: pb::CallToolRequest::default(),
            arguments: Value::Null,
            secrets: Arc::new(Secrets::of(Vec::new()).unwrap()),
            leased: scene.lease("s").await,
            deadline: Instant::now() + Duration::from_secs(1),
            cancel: CancellationToken::new(),
            caller,
        };
        let started = Instant::now();
        for _piece in 0..5 {
            job.send(Ok(pb::CallToolResponse::default())).await;
        }
        assert!(job.cancel.is_cancelled());
        assert_eq!(started.elapsed(), TAKEN, "once, and not for each piece");
    }

    #[test]
    fn the_callers_deadline_is_read() {
        let mut request = Request::new(());
        request.set_timeout(Duration::from_millis(1500));
        assert_eq!(timeout_of(&request), Some(Duration::from_millis(1500)));
    }
}
