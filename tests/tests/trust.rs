//! Who may ask a daemon for what: over its real gRPC interface, with a real browser behind it.

use std::time::Duration;

use browserfleet_common::{
    clock::{Clock as _, SystemClock},
    error_code::ErrorCode,
    pb,
    service::{CLAIM_HEADER, Claim, OperatorToken, Rpc, ServiceSecret, SessionKey},
};
use browserfleet_pool_daemon::grpc::Trust;
use browserfleet_tests::daemon::Daemon;
use pb::{browser_service_client::BrowserServiceClient, pool_service_client::PoolServiceClient};
use serde_json::json;
use tonic::{Code, Request, Status, transport::Channel};

const OPERATOR: &str = "the-token-of-the-operators-0123456789";

struct World {
    daemon: Daemon,
    secret: ServiceSecret,
    channel: Channel,
}

/// What a call brings to show who makes it.
#[derive(Clone, Copy)]
enum As<'a> {
    Nobody,
    Operator,
    Claims(&'a ServiceSecret, Rpc, &'a str, Option<&'a str>),
    Late(&'a ServiceSecret, Rpc, &'a str, Option<&'a str>),
}

fn of(principal: &str) -> SessionKey {
    SessionKey { principal: principal.to_owned(), session: "s".to_owned(), birth: "1".to_owned() }
}

fn with<T>(who: As<'_>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let now = SystemClock.now();
    let (secret, claim) = match who {
        As::Nobody => return request,
        As::Operator => {
            request.metadata_mut().insert("authorization", format!("Bearer {OPERATOR}").parse().expect("it is ASCII"));
            return request;
        }
        As::Claims(secret, rpc, principal, lease) => {
            (secret, Claim::new(rpc, Some(of(principal)), lease, now + Duration::from_secs(30)))
        }
        As::Late(secret, rpc, principal, lease) => {
            (secret, Claim::new(rpc, Some(of(principal)), lease, now.saturating_sub(Duration::from_mins(10))))
        }
    };
    request.metadata_mut().insert(CLAIM_HEADER, secret.sign(&claim).parse().expect("it is ASCII"));
    request
}

fn start() -> anyhow::Result<World> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), OPERATOR)?;
    let secret = ServiceSecret::generate();
    let operators = Some(OperatorToken::read(file.path())?);
    let trust = Trust { secret: Some(secret.clone()), operators };
    let daemon = Daemon::start(|config| config.daemon.trust = trust)?;
    let channel = daemon.channel.clone();
    Ok(World { daemon, secret, channel })
}

impl World {
    fn pool(&self) -> PoolServiceClient<Channel> {
        PoolServiceClient::new(self.channel.clone())
    }

    async fn acquire(&self, who: As<'_>, principal: &str) -> Result<(String, String), Status> {
        let SessionKey { principal, session, birth } = of(principal);
        let wait = Some(pb::to_wire(Duration::from_mins(1)));
        let message = pb::AcquireRequest { principal, session, birth, wait, ..pb::AcquireRequest::default() };
        let mut stream = self.pool().acquire(with(who, message)).await?.into_inner();
        while let Some(message) = stream.message().await? {
            if let Some(pb::acquire_response::Event::Granted(granted)) = message.event {
                return Ok((granted.lease.unwrap_or_default().lease_id, granted.token));
            }
        }
        Err(Status::internal("no grant"))
    }

    async fn renew(&self, who: As<'_>, lease: &(String, String)) -> Result<(), Status> {
        let message = pb::RenewRequest { lease_id: lease.0.clone(), token: lease.1.clone(), ttl: None };
        self.pool().renew(with(who, message)).await.map(drop)
    }

    async fn release(&self, who: As<'_>, lease: &(String, String)) -> Result<(), Status> {
        let message = pb::ReleaseRequest { lease_id: lease.0.clone(), token: lease.1.clone() };
        self.pool().release(with(who, message)).await.map(drop)
    }

    async fn call(&self, who: As<'_>, lease: &(String, String)) -> Result<(), Status> {
        let message = pb::CallToolRequest {
            lease_id: lease.0.clone(),
            token: lease.1.clone(),
            tool: "browser_snapshot".to_owned(),
            arguments: json!({}).to_string().into_bytes(),
            request_id: String::new(),
            ..pb::CallToolRequest::default()
        };
        let mut stream =
            BrowserServiceClient::new(self.channel.clone()).call_tool(with(who, message)).await?.into_inner();
        while stream.message().await?.is_some() {}
        Ok(())
    }

    /// What everything that needs a lease says to a caller, in the order renew, call, release.
    async fn with_lease(&self, who: impl Fn(Rpc) -> As<'static>, lease: &(String, String)) -> [Result<(), Code>; 3] {
        let code = |result: Result<(), Status>| result.map_err(|status| status.code());
        [
            code(self.renew(who(Rpc::Renew), lease).await),
            code(self.call(who(Rpc::CallTool), lease).await),
            code(self.release(who(Rpc::Release), lease).await),
        ]
    }

    async fn operators_only(&self, who: As<'_>) -> [Result<(), Code>; 3] {
        let code = |result: Result<(), Status>| result.map_err(|status| status.code());
        let watched = self.pool().watch_pool(with(who, pb::WatchPoolRequest {})).await.map(drop);
        let revoked = self.pool().revoke(with(who, pb::RevokeRequest { lease_id: "none".to_owned() })).await;
        // Who may ask is told that there is no such lease.
        let revoked = revoked.map(drop).or_else(|status| match ErrorCode::of(&status) {
            ErrorCode::LeaseLost => Ok(()),
            _ => Err(status),
        });
        let grace = Some(pb::to_wire(Duration::from_hours(1)));
        let drained = self.pool().drain(with(who, pb::DrainRequest { grace })).await.map(drop);
        [code(watched), code(revoked), code(drained)]
    }
}

/// Lives as long as the test program: closures over it are simpler to say so.
fn kept(secret: ServiceSecret) -> &'static ServiceSecret {
    Box::leak(Box::new(secret))
}

fn leaked(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

#[tokio::test]
async fn a_lease_is_used_by_its_own_principal_and_nobody_else() -> anyhow::Result<()> {
    let world = start()?;
    let ours = kept(world.secret.clone());
    let forger = kept(ServiceSecret::generate());
    let unknown = Err(Code::Unauthenticated);
    let refused = Err(Code::PermissionDenied);

    for who in [As::Nobody, As::Claims(forger, Rpc::Acquire, "p", None), As::Late(ours, Rpc::Acquire, "p", None)] {
        assert_eq!(world.acquire(who, "p").await.map_err(|status| status.code()), Err(Code::Unauthenticated));
    }
    for who in [As::Operator, As::Claims(ours, Rpc::Acquire, "q", None), As::Claims(ours, Rpc::GetPool, "p", None)] {
        assert_eq!(world.acquire(who, "p").await.map_err(|status| status.code()), Err(Code::PermissionDenied));
    }
    assert!(world.daemon.app.handle().list().await.unwrap().is_empty(), "nobody has a browser by that");

    let lease = world.acquire(As::Claims(ours, Rpc::Acquire, "p", None), "p").await?;
    let id = leaked(&lease.0);
    assert_eq!(world.with_lease(|_| As::Nobody, &lease).await, [unknown; 3]);
    assert_eq!(world.with_lease(|rpc| As::Claims(forger, rpc, "p", Some(id)), &lease).await, [unknown; 3]);
    assert_eq!(world.with_lease(|rpc| As::Late(ours, rpc, "p", Some(id)), &lease).await, [unknown; 3]);
    assert_eq!(world.with_lease(|_| As::Operator, &lease).await, [refused; 3]);
    assert_eq!(world.with_lease(|rpc| As::Claims(ours, rpc, "q", Some(id)), &lease).await, [refused; 3], "of another");
    assert_eq!(world.with_lease(|rpc| As::Claims(ours, rpc, "p", Some("x")), &lease).await, [refused; 3], "replayed");
    assert_eq!(world.with_lease(|rpc| As::Claims(ours, rpc, "p", None), &lease).await, [refused; 3]);
    assert_eq!(
        world.with_lease(|_| As::Claims(ours, Rpc::GetPool, "p", Some(id)), &lease).await,
        [refused; 3],
        "of another call"
    );
    assert_eq!(world.with_lease(|rpc| As::Claims(ours, rpc, "p", Some(id)), &lease).await, [Ok(()); 3]);
    world.daemon.end().await
}

#[tokio::test]
async fn operators_look_and_drain_and_front_ends_do_not() -> anyhow::Result<()> {
    let world = start()?;
    let ours = kept(world.secret.clone());
    assert_eq!(world.operators_only(As::Nobody).await, [Err(Code::Unauthenticated); 3]);
    assert_eq!(world.operators_only(As::Claims(ours, Rpc::GetPool, "p", None)).await, [Err(Code::PermissionDenied); 3]);
    let look = async |who| world.pool().get_pool(with(who, pb::GetPoolRequest {})).await.map(drop);
    assert_eq!(look(As::Nobody).await.unwrap_err().code(), Code::Unauthenticated);
    assert!(look(As::Operator).await.is_ok() && look(As::Claims(ours, Rpc::GetPool, "p", None)).await.is_ok());

    let list = async |who| world.pool().list_leases(with(who, pb::ListLeasesRequest::default())).await.map(drop);
    assert_eq!(list(As::Claims(ours, Rpc::GetPool, "p", None)).await.unwrap_err().code(), Code::PermissionDenied);
    assert!(list(As::Operator).await.is_ok() && list(As::Claims(ours, Rpc::ListLeases, "p", None)).await.is_ok());

    let mut health = tonic_health::pb::health_client::HealthClient::new(world.channel.clone());
    assert!(health.check(tonic_health::pb::HealthCheckRequest::default()).await.is_ok(), "probes have no token");
    assert_eq!(reflected(&world, As::Nobody).await, Err(Code::Unauthenticated));
    assert_eq!(reflected(&world, As::Claims(ours, Rpc::GetPool, "p", None)).await, Err(Code::PermissionDenied));
    assert_eq!(reflected(&world, As::Operator).await, Ok(()));
    assert_eq!(world.operators_only(As::Operator).await, [Ok(()); 3]);
    world.daemon.end().await
}

/// Asks for the list of services.
async fn reflected(world: &World, who: As<'_>) -> Result<(), Code> {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest,
    };
    let asked = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..ServerReflectionRequest::default()
    };
    let request = with(who, tokio_stream::once(asked));
    let mut client = ServerReflectionClient::new(world.channel.clone());
    let mut answers = client.server_reflection_info(request).await.map_err(|status| status.code())?.into_inner();
    answers.message().await.map(drop).map_err(|status| status.code())
}
