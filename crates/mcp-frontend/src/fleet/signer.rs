//! What daemons are told of a call: for whom it is, which session and lease it is about; signed.

use std::{sync::Arc, time::Duration};

use browserfleet_common::{
    clock::Clock,
    service::{CLAIM_HEADER, Claim, Rpc, ServiceSecret, SessionKey},
    telemetry::TraceParent,
};
use tonic::Request;

use crate::session::Record;

/// Signs what goes to daemons. Without a secret nothing is signed: for daemons that ask for nothing, on loopback.
#[derive(Clone, Debug)]
pub(super) struct Signer {
    secret: Option<ServiceSecret>,
    clock: Arc<dyn Clock>,
}

impl Signer {
    pub(super) fn new(secret: Option<ServiceSecret>, clock: Arc<dyn Clock>) -> Self {
        Self { secret, clock }
    }

    /// A request that says nothing of a session.
    pub(super) fn plain<T>(&self, message: T, rpc: Rpc, within: Duration) -> Request<T> {
        self.request(message, rpc, None, None, within)
    }

    /// A request about a session, and about its lease once it has one. What it claims holds for `within`.
    pub(super) fn about<T>(
        &self,
        message: T,
        rpc: Rpc,
        session: &Record,
        lease: Option<&str>,
        within: Duration,
    ) -> Request<T> {
        let of = SessionKey {
            principal: session.principal.as_str().to_owned(),
            session: session.name.as_str().to_owned(),
            birth: session.birth.clone(),
        };
        self.request(message, rpc, Some(of), lease, within)
    }

    fn request<T>(
        &self,
        message: T,
        rpc: Rpc,
        of: Option<SessionKey>,
        lease: Option<&str>,
        within: Duration,
    ) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(trace) = TraceParent::current() {
            trace.write(request.metadata_mut());
        }
        if let Some(secret) = &self.secret {
            let claim = secret.sign(&Claim::new(rpc, of, lease, self.clock.now() + within));
            request.metadata_mut().insert(CLAIM_HEADER, claim.parse().expect("base64 and points are ASCII"));
        }
        request
    }
}
