//! Who makes a request, and what it came with.

use std::sync::Arc;

use browserfleet_common::{ids::Principal, telemetry::TraceParent};
use http::{Extensions, HeaderMap, header::USER_AGENT, request::Parts};
use rmcp::{RoleServer, service::RequestContext};

use crate::{access::Access, connection, session::Client};

/// The header that names a session, for clients that cannot add an argument.
pub(crate) const SESSION_HEADER: &str = "x-session-id";
/// Most characters kept of what a client says about itself.
const WORDS_MAX: usize = 128;

/// Who makes a request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    pub(crate) access: Arc<Access>,
    /// The legacy or stdio connection it came over. Modern requests have none.
    pub(crate) connection: Option<Arc<connection::Record>>,
    /// The session named by header, unchecked.
    pub(crate) session_header: Option<String>,
    pub(crate) client: Client,
    /// The trace that its request is part of.
    pub(crate) trace: Option<TraceParent>,
}

impl Caller {
    /// The caller of a request over HTTP.
    pub(crate) fn of(parts: &Parts) -> Self {
        let (headers, access) = (&parts.headers, access(&parts.extensions));
        let session_header =
            headers.get(SESSION_HEADER).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let client = Client { user_agent: user_agent(headers), ..Client::default() };
        let (principal, trace) = (access.principal.clone(), TraceParent::of(headers));
        Self { principal, access, connection: None, session_header, client, trace }
    }

    /// The caller of a request over HTTP, for who answers it: the legacy layer says it itself, the modern service hands on the
    /// HTTP request.
    pub(crate) fn over_http(context: &RequestContext<RoleServer>) -> Option<&Self> {
        let modern = || context.extensions.get::<Parts>()?.extensions.get();
        context.extensions.get().or_else(modern)
    }

    /// The same caller, over a connection.
    pub(crate) fn over(self, connection: Arc<connection::Record>) -> Self {
        // What its handshake's URL asked for counts, whatever that of this request says.
        let access = Arc::new(Access::clone(&self.access).asking(connection.caps));
        let user_agent = self.client.user_agent.or_else(|| connection.client.user_agent.clone());
        let client = Client { user_agent, ..connection.client.clone() };
        Self { connection: Some(connection), access, client, ..self }
    }

    /// The same caller, whose request says itself what trace it is part of.
    pub(crate) fn tracing(self, traceparent: Option<&str>, tracestate: Option<&str>) -> Self {
        let said = traceparent.map(|traceparent| TraceParent {
            traceparent: traceparent.to_owned(),
            tracestate: tracestate.map(str::to_owned),
        });
        Self { trace: said.or(self.trace), ..self }
    }

    /// The same caller, as it calls itself.
    pub(crate) fn calling_itself(mut self, name: &str, version: &str) -> Self {
        self.client.name = Some(words(name));
        self.client.version = Some(words(version));
        self
    }
}

/// What the sender of a request over HTTP may do: `http::auth` has found it out before anybody else saw the request.
pub(crate) fn access(extensions: &Extensions) -> Arc<Access> {
    Arc::clone(extensions.get().expect("nothing gets here without having passed http::auth"))
}

fn user_agent(headers: &HeaderMap) -> Option<String> {
    headers.get(USER_AGENT).map(|value| words(&String::from_utf8_lossy(value.as_bytes())))
}

/// A client's words about itself, fit to be kept and shown: short, one line, nothing that steers a terminal.
pub(crate) fn words(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    text.chars().filter(|&c| !steers(c)).take(WORDS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_short_and_harmless() {
        assert_eq!(words("curl/8\u{1b}[31m\r\n\u{202e}evil"), "curl/8[31mevil");
        assert_eq!(words(&"é".repeat(1000)).chars().count(), WORDS_MAX);
    }
}
