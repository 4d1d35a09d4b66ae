//! Who calls the daemon, and what it may ask for: front ends by the claims they sign, operators by their token.
//!
//! Front ends lease browsers and run tools, each for the session of its claim and no other; operators list, look and drain.
//! Health is open. Without a secret everybody may do everything: for a daemon on loopback, or one told so (`--insecure`).

use std::sync::Arc;

use browserfleet_common::{
    clock::{Clock, SystemClock},
    error_code::ErrorCode,
    service::{CLAIM_HEADER, Claim, OperatorToken, Rpc, ServiceSecret},
};
use http::{HeaderMap, header::AUTHORIZATION};
use tonic::{Request, Status, metadata::MetadataMap, service::Interceptor};

use crate::pool::Key;

/// What callers are known by.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Shared with front ends. None: nobody is asked.
    pub secret: Option<ServiceSecret>,
    /// Of operators. None: there are none, unless nobody is asked.
    pub operators: Option<OperatorToken>,
}

/// Lets calls in, with who makes them.
#[derive(Clone, Debug)]
pub struct Authenticator {
    trust: Arc<Trust>,
    clock: Arc<dyn Clock>,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Nobody is asked.
    Anyone,
    Operator,
    FrontEnd(Claim),
}

impl Authenticator {
    pub fn new(trust: Trust) -> Self {
        Self::at(trust, Arc::new(SystemClock))
    }

    fn at(trust: Trust, clock: Arc<dyn Clock>) -> Self {
        Self { trust: Arc::new(trust), clock }
    }

    fn admit(&self, metadata: &MetadataMap) -> Result<Peer, Status> {
        let Some(secret) = &self.trust.secret else { return Ok(Peer::Anyone) };
        if let Some(claim) = metadata.get(CLAIM_HEADER) {
            let claim = claim.to_str().map_err(|_malformed| not_believed())?;
            return secret.verify(claim, self.clock.now()).map(Peer::FrontEnd).map_err(|why| {
                tracing::warn!(%why, "a front end's claim is not believed");
                not_believed()
            });
        }
        if self.trust.operators.as_ref().is_some_and(|operators| is_operator(operators, metadata.as_ref())) {
            return Ok(Peer::Operator);
        }
        Err(ErrorCode::Unauthorized.status(
            "who calls is not known: operators send the token of grpc.operator_token_file (authorization: Bearer …), front \
             ends need the daemon's grpc.secret_file",
        ))
    }
}

/// Whether a request, of gRPC or of plain HTTP, brings the token of operators.
pub(crate) fn is_operator(operators: &OperatorToken, headers: &HeaderMap) -> bool {
    let text = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = text.and_then(|text| text.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    token.is_some_and(|(_, token)| operators.is(token.trim()))
}

/// The same whatever is wrong with it; the log says more.
fn not_believed() -> Status {
    ErrorCode::Unauthorized.status(
        "the front end's claim is not believed: both sides need the same grpc.secret_file, and clocks within 30 s",
    )
}

impl Interceptor for Authenticator {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let peer = self.admit(request.metadata())?;
        request.extensions_mut().insert(peer);
        Ok(request)
    }
}

/// Lets in whom [`Authenticator`] knows, if an operator: for services that know nothing of peers.
#[derive(Clone, Debug)]
pub(super) struct OperatorsOnly(pub(super) Authenticator);

impl Interceptor for OperatorsOnly {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        self.0.admit(request.metadata())?.operator("reflection")?;
        Ok(request)
    }
}

impl Peer {
    /// Who makes a request. One that came past the authenticator is nobody's.
    pub(super) fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        request.extensions().get().cloned().ok_or_else(|| ErrorCode::Unauthorized.status("who calls is not known"))
    }

    /// Refuses everybody but operators.
    pub(super) fn operator(&self, what: &str) -> Result<(), Status> {
        match self {
            Self::Anyone | Self::Operator => Ok(()),
            Self::FrontEnd(_) => {
                Err(ErrorCode::Forbidden.status(format!("{what} is for operators, not for front ends")))
            }
        }
    }

    /// Refuses who claims something else than this call. Operators have no sessions.
    fn claims(&self, rpc: Rpc) -> Result<Option<&Claim>, Status> {
        match self {
            Self::Anyone => Ok(None),
            Self::FrontEnd(claim) if claim.rpc == rpc => Ok(Some(claim)),
            Self::FrontEnd(_) => Err(claims_another()),
            Self::Operator => Err(ErrorCode::Forbidden.status("this is for front ends, not for operators")),
        }
    }

    /// Refuses who is not an operator and has not claimed to look at the pool in this way.
    pub(super) fn may_look(&self, rpc: Rpc) -> Result<(), Status> {
        if *self == Self::Operator { Ok(()) } else { self.claims(rpc).map(drop) }
    }

    /// The session an acquisition is for: the claim's. What the message says of it has to be the same.
    pub(super) fn acquires(&self, asked: &Key) -> Result<(), Status> {
        match self.claims(Rpc::Acquire)? {
            Some(claim) if !is_of(claim, asked) => Err(claims_another()),
            _ => Ok(()),
        }
    }

    /// Refuses who claims another session than that of the lease, or another lease.
    pub(super) fn uses(&self, rpc: Rpc, lease_id: &str, of: &Key) -> Result<(), Status> {
        match self.claims(rpc)? {
            Some(claim) if !(is_of(claim, of) && claim.lease.as_deref() == Some(lease_id)) => Err(claims_another()),
            _ => Ok(()),
        }
    }

    /// As [`Self::uses`], as far as it can be said before the lease is looked up: whoever may not ask learns nothing of it.
    pub(super) fn asks(&self, rpc: Rpc, lease_id: &str) -> Result<(), Status> {
        match self.claims(rpc)? {
            Some(claim) if claim.of.is_none() || claim.lease.as_deref() != Some(lease_id) => Err(claims_another()),
            _ => Ok(()),
        }
    }
}

fn is_of(claim: &Claim, key: &Key) -> bool {
    let Key { principal, session, birth } = key;
    claim.of.as_ref().is_some_and(|of| (&of.principal, &of.session, &of.birth) == (principal, session, birth))
}

fn claims_another() -> Status {
    ErrorCode::Forbidden.status("the call is not what its claim says")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use browserfleet_common::{
        clock::ManualClock,
        service::{SKEW, SessionKey},
    };
    use tonic::Code;

    use super::*;

    /// How long a claim of these tests holds.
    const WHILE: Duration = Duration::from_secs(10);

    struct World {
        secret: ServiceSecret,
        clock: ManualClock,
        authenticator: Authenticator,
    }

    fn world() -> World {
        let (secret, clock) = (ServiceSecret::generate(), ManualClock::default());
        let trust = Trust { secret: Some(secret.clone()), operators: None };
        World { authenticator: Authenticator::at(trust, Arc::new(clock.clone())), secret, clock }
    }

    fn key(principal: &str, session: &str) -> Key {
        Key { principal: principal.to_owned(), session: session.to_owned(), birth: "1".to_owned() }
    }

    fn claim(rpc: Rpc, of: &Key, lease: Option<&str>) -> Claim {
        let Key { principal, session, birth } = of.clone();
        Claim::new(rpc, Some(SessionKey { principal, session, birth }), lease, WHILE)
    }

    fn admitted(authenticator: &Authenticator, header: &'static str, value: &str) -> Result<Peer, Code> {
        let mut metadata = MetadataMap::new();
        metadata.insert(header, value.parse().unwrap());
        authenticator.admit(&metadata).map_err(|status| status.code())
    }

    #[test]
    fn nobody_gets_in_unknown() {
        let World { secret, clock, authenticator } = world();
        let good = secret.sign(&claim(Rpc::Renew, &key("p", "s"), Some("l")));
        assert!(matches!(admitted(&authenticator, CLAIM_HEADER, &good), Ok(Peer::FrontEnd(_))));
        let forged = ServiceSecret::generate().sign(&claim(Rpc::Renew, &key("p", "s"), Some("l")));
        for wrong in ["", "v1", &forged, &good[..good.len() - 1]] {
            assert_eq!(admitted(&authenticator, CLAIM_HEADER, wrong), Err(Code::Unauthenticated), "{wrong}");
        }
        assert_eq!(admitted(&authenticator, "authorization", "Bearer "), Err(Code::Unauthenticated), "no operators");
        assert_eq!(authenticator.admit(&MetadataMap::new()).unwrap_err().code(), Code::Unauthenticated);
        clock.advance(WHILE + SKEW);
        assert_eq!(admitted(&authenticator, CLAIM_HEADER, &good), Err(Code::Unauthenticated), "expired");
        assert!(Peer::of(&Request::new(())).is_err(), "what came past the authenticator is nobody's");
        assert_eq!(Authenticator::new(Trust::default()).admit(&MetadataMap::new()).unwrap(), Peer::Anyone);
    }

    #[test]
    fn a_claim_is_good_for_its_session_lease_and_call_only() {
        let (mine, lease) = (key("p", "s"), "lease");
        let peer = Peer::FrontEnd(claim(Rpc::CallTool, &mine, Some(lease)));
        assert!(peer.uses(Rpc::CallTool, lease, &mine).is_ok() && peer.asks(Rpc::CallTool, lease).is_ok());
        for other in [key("q", "s"), key("p", "t"), Key { birth: "2".to_owned(), ..key("p", "s") }] {
            assert_eq!(
                peer.uses(Rpc::CallTool, lease, &other).unwrap_err().code(),
                Code::PermissionDenied,
                "{other:?}"
            );
            let acquires = Peer::FrontEnd(claim(Rpc::Acquire, &mine, None));
            assert!(acquires.acquires(&mine).is_ok());
            assert_eq!(acquires.acquires(&other).unwrap_err().code(), Code::PermissionDenied);
        }
        assert!(peer.uses(Rpc::CallTool, "another", &mine).is_err() && peer.asks(Rpc::CallTool, "another").is_err());
        for rpc in [Rpc::Renew, Rpc::Release] {
            assert!(peer.uses(rpc, lease, &mine).is_err() && peer.asks(rpc, lease).is_err(), "{rpc:?}");
        }
        assert!(peer.acquires(&mine).is_err() && peer.may_look(Rpc::GetPool).is_err());
        let nobody = Peer::FrontEnd(Claim::new(Rpc::CallTool, None, Some(lease), WHILE));
        assert!(nobody.uses(Rpc::CallTool, lease, &mine).is_err() && nobody.asks(Rpc::CallTool, lease).is_err());
    }

    #[test]
    fn front_ends_do_not_drain_and_operators_do_not_drive() {
        let front_end = Peer::FrontEnd(Claim::new(Rpc::GetPool, None, None, WHILE));
        assert!(front_end.may_look(Rpc::GetPool).is_ok() && Peer::Operator.may_look(Rpc::ListLeases).is_ok());
        assert!(front_end.may_look(Rpc::ListLeases).is_err(), "that is another claim");
        assert_eq!(front_end.operator("draining").unwrap_err().code(), Code::PermissionDenied);
        assert!(Peer::Operator.operator("draining").is_ok());
        assert!(Peer::Operator.acquires(&key("p", "s")).is_err());
        assert!(Peer::Operator.uses(Rpc::CallTool, "lease", &key("p", "s")).is_err());
    }
}
