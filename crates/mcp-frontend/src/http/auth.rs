//! Who asks: a key or an access token in `Authorization: Bearer`, checked before anything else is looked at.
//!
//! Only Host and Origin come earlier (`guard`): MCP wants a foreign page refused whatever it brings, and they say nothing
//! about who has what. `/health` and `/ready` answer everybody, without details.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::State,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use browserfleet_common::{error_code::ErrorCode, metrics::metrics};
use browserfleet_tools::Scope;
use http::{
    Extensions, HeaderMap, HeaderValue, Method, Request, StatusCode, Uri,
    header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde_json::json;

use super::artifacts;
use crate::{
    access::Access,
    core::Core,
    keys::KEY_PREFIX,
    oauth::{Issuer, Rejected},
    usage::Pace,
};

/// What answers everybody: probes have no keys.
const OPEN: &[&str] = &["/health", "/ready"];
/// Parameters of a query that are meant to be credentials. A URL ends up in logs and histories.
const CREDENTIALS: &[&str] = &["access_token", "api_key", "apikey", "authorization", "key", "token"];

const NO_TOKEN: HeaderValue = HeaderValue::from_static("Bearer realm=\"browserfleet\"");
const BAD_TOKEN: HeaderValue = HeaderValue::from_static("Bearer realm=\"browserfleet\", error=\"invalid_token\"");

/// Lets a request in with what its sender may do, which is an extension of it from then on.
pub(super) async fn check(State(core): State<Arc<Core>>, mut request: Request<Body>, next: Next) -> Response {
    let access = match authenticated(&core, request.uri(), request.headers()).await {
        Ok(access) => Arc::new(access.under(&core.config)),
        Err(_refused) if is_open(&core, &request) => return next.run(request).await,
        Err(refused) => return refused.answer(core.issuer.as_ref()),
    };
    if !OPEN.contains(&request.uri().path())
        && let Some(wait) = too_fast(&core, &access).await
    {
        return slow_down(wait);
    }
    // Nobody behind this line needs the key or the token, so nobody can show it.
    request.headers_mut().remove(AUTHORIZATION);
    let is_of_no_use = access.is_empty() && !is_open(&core, &request);
    request.extensions_mut().insert(access);
    if is_of_no_use {
        // A token for this server that allows nothing here: its client may get one with more.
        return forbidden(request.extensions(), Scope::Read);
    }
    next.run(request).await
}

/// Whether a request is answered whoever sends it.
fn is_open(core: &Core, request: &Request<Body>) -> bool {
    let path = request.uri().path();
    let is_metadata = || core.issuer.as_ref().is_some_and(|issuer| issuer.resource().is_described_at(path));
    // Of artifacts the link says that its holder may have them.
    OPEN.contains(&path)
        || (matches!(*request.method(), Method::GET | Method::HEAD)
            && (path.starts_with(artifacts::PATH) || is_metadata()))
}

async fn authenticated(core: &Core, uri: &Uri, headers: &HeaderMap) -> Result<Access, Refused> {
    if core.config.is_open() {
        return Ok(Access::clone(&Access::open()));
    }
    if uri.query().is_some_and(has_credentials) {
        return Err(Refused::InQuery);
    }
    let text = match token(headers) {
        Token::None => return Err(Refused::NoToken),
        Token::Malformed => return Err(Refused::BadToken),
        Token::Text(text) => text,
    };
    match (&core.config.auth, &core.issuer) {
        // A key says itself that it is one.
        (keys, Some(issuer)) if keys.is_none() || !text.starts_with(KEY_PREFIX) => {
            issuer.authenticate(text).await.map_err(|rejected| match rejected {
                Rejected::Invalid(_) => Refused::BadToken,
                Rejected::Away(wait) => Refused::IssuerAway(wait),
            })
        }
        (Some(keys), _) => {
            let access = keys.authenticate(text, core.clock.now()).ok_or(Refused::BadToken)?;
            Ok(Access::clone(&access))
        }
        (None, _) => Err(Refused::BadToken),
    }
}

/// How long the sender has to wait, if there is a limit and it came too early.
async fn too_fast(core: &Core, access: &Access) -> Option<Duration> {
    let per_second = u64::try_from(access.limits.rate?).unwrap_or(u64::MAX);
    match core.usage.pass(Pace::Requests, &access.principal, 1, per_second).await {
        Ok(wait) => wait,
        // Whatever the request wants from the store it will not get either; what it does not want from there it may have.
        Err(error) => {
            tracing::debug!(%error, "requests cannot be counted");
            None
        }
    }
}

/// Why nobody is let in. What is wrong with a key or a token is nobody's business.
#[derive(Clone, Copy, Debug)]
enum Refused {
    NoToken,
    BadToken,
    InQuery,
    /// Nobody can say whether a token is good, for so long.
    IssuerAway(Duration),
}

impl Refused {
    fn answer(self, issuer: Option<&Issuer>) -> Response {
        let challenge = |bad: bool| match issuer {
            Some(issuer) => issuer.resource().challenge(bad),
            None if bad => BAD_TOKEN,
            None => NO_TOKEN,
        };
        let (reason, response) = match self {
            Self::NoToken => ("no_token", unauthorized(challenge(false), issuer.is_some())),
            Self::BadToken => ("bad_token", unauthorized(challenge(true), issuer.is_some())),
            Self::InQuery => ("in_query", in_query()),
            Self::IssuerAway(wait) => ("issuer_away", issuer_away(wait)),
        };
        metrics().unauthenticated.add(reason);
        response
    }
}

/// What a request brings to show who sends it.
enum Token<'a> {
    None,
    Text(&'a str),
    /// More than one, or no text.
    Malformed,
}

fn token(headers: &HeaderMap) -> Token<'_> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Token::None };
    if values.next().is_some() {
        return Token::Malformed;
    }
    let Ok(text) = value.to_str() else { return Token::Malformed };
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Token::Text(token.trim()),
        // Of another scheme, which we do not offer.
        _ => Token::None,
    }
}

fn has_credentials(query: &str) -> bool {
    query.split('&').any(|parameter| {
        let name = parameter.split('=').next().unwrap_or_default();
        CREDENTIALS.iter().any(|known| name.eq_ignore_ascii_case(known)) || parameter.contains("=bf_")
    })
}

fn unauthorized(challenge: HeaderValue, with_tokens: bool) -> Response {
    let message = if with_tokens {
        "A valid access token is needed: get one as WWW-Authenticate says, and send it as Authorization: Bearer <token>"
    } else {
        "A valid API key is needed: send it as Authorization: Bearer <key>"
    };
    let body = json!({ "error": ErrorCode::Unauthorized.name(), "message": message });
    (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, challenge)], Json(body)).into_response()
}

/// No 401: a client would throw away a token that may be good.
fn issuer_away(wait: Duration) -> Response {
    let body = json!({
        "error": ErrorCode::StoreUnavailable.name(),
        "message": "Access tokens cannot be checked right now, because their issuer does not answer: wait as Retry-After says",
        "retry_after_ms": u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
    });
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, whole_seconds(wait))], Json(body)).into_response()
}

/// Never none.
fn whole_seconds(wait: Duration) -> HeaderValue {
    HeaderValue::from(wait.as_secs() + 1)
}

fn slow_down(wait: Duration) -> Response {
    let body = json!({
        "error": ErrorCode::QuotaExceeded.name(),
        "message": "More requests per second than this key or token allows: wait as Retry-After says",
        "retry_after_ms": u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
    });
    metrics().throttled.add("per_second");
    (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, whole_seconds(wait))], Json(body)).into_response()
}

fn in_query() -> Response {
    let body = json!({
        "error": ErrorCode::InvalidArgument.name(),
        "message": "Credentials do not belong in a URL: send Authorization: Bearer <key or token>, and end this one if it was real",
    });
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

/// Refuses who lacks a scope. With a token it is told how to get one that has it.
pub(crate) fn forbidden(extensions: &Extensions, scope: Scope) -> Response {
    let access = extensions.get::<Arc<Access>>();
    let plain = || {
        let challenge = format!("Bearer realm=\"browserfleet\", error=\"insufficient_scope\", scope=\"{scope}\"");
        HeaderValue::from_str(&challenge).unwrap_or(BAD_TOKEN)
    };
    let challenge = access.and_then(|access| access.resource()).map_or_else(plain, |resource| resource.wants(scope));
    let body = json!({ "error": ErrorCode::Forbidden.name(), "message": format!("This needs the scope {scope}") });
    (StatusCode::FORBIDDEN, [(WWW_AUTHENTICATE, challenge)], Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(values: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        match token(&headers) {
            Token::None => "none".to_owned(),
            Token::Text(text) => text.to_owned(),
            Token::Malformed => "malformed".to_owned(),
        }
    }

    #[test]
    fn one_bearer_token_is_one() {
        assert_eq!(kind(&["Bearer abc"]), "abc");
        assert_eq!(kind(&["bEARER  abc "]), "abc");
        for none in [&[][..], &["Basic abc"], &["abc"], &["Bearer"], &[""]] {
            assert_eq!(kind(none), "none", "{none:?}");
        }
        for malformed in [&["Bearer a", "Bearer b"][..], &["Bearer é"]] {
            assert_eq!(kind(malformed), "malformed", "{malformed:?}");
        }
    }

    #[test]
    fn credentials_are_seen_in_a_query() {
        for some in ["access_token=x", "a=1&API_KEY=x", "token", "q=bf_0123456789ab_secret"] {
            assert!(has_credentials(some), "{some}");
        }
        for none in ["", "caps=vision", "monkey=1", "tokens=2"] {
            assert!(!has_credentials(none), "{none}");
        }
    }
}
