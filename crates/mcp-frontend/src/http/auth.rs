//! Who asks: a key in `Authorization: Bearer`, checked before anything else is looked at.
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
    HeaderMap, HeaderValue, Method, Request, StatusCode,
    header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde_json::json;

use super::artifacts;
use crate::{access::Access, core::Core, keys::Keyring};

/// What answers everybody: probes have no keys.
const OPEN: &[&str] = &["/health", "/ready"];
/// Parameters of a query that are meant to be credentials. A URL ends up in logs and histories.
const CREDENTIALS: &[&str] = &["access_token", "api_key", "apikey", "authorization", "key", "token"];

const NO_TOKEN: HeaderValue = HeaderValue::from_static("Bearer realm=\"browserfleet\"");
const BAD_TOKEN: HeaderValue = HeaderValue::from_static("Bearer realm=\"browserfleet\", error=\"invalid_token\"");

/// Lets a request in with what its sender may do, which is an extension of it from then on.
pub(super) async fn check(State(core): State<Arc<Core>>, mut request: Request<Body>, next: Next) -> Response {
    let access = match &core.config.auth {
        None => Access::open(),
        Some(keys) => match authenticated(&core, keys, &request) {
            Ok(access) => access,
            Err(_refused) if is_open(&request) => return next.run(request).await,
            Err(refused) => return refused.answer(),
        },
    };
    if !OPEN.contains(&request.uri().path())
        && let Some(wait) = too_fast(&core, &access).await
    {
        return slow_down(wait);
    }
    // Nobody behind this line needs the key, so nobody can show it.
    request.headers_mut().remove(AUTHORIZATION);
    request.extensions_mut().insert(access);
    next.run(request).await
}

/// Whether a request is answered whoever sends it.
fn is_open(request: &Request<Body>) -> bool {
    let path = request.uri().path();
    // Of artifacts the link says that its holder may have them.
    OPEN.contains(&path)
        || (matches!(*request.method(), Method::GET | Method::HEAD) && path.starts_with(artifacts::PATH))
}

fn authenticated(core: &Core, keys: &Keyring, request: &Request<Body>) -> Result<Arc<Access>, Refused> {
    if request.uri().query().is_some_and(has_credentials) {
        return Err(Refused::InQuery);
    }
    match token(request.headers()) {
        Token::None => Err(Refused::NoToken),
        Token::Text(text) => keys.authenticate(text, core.clock.now()).ok_or(Refused::BadToken),
        Token::Malformed => Err(Refused::BadToken),
    }
}

/// How long the sender has to wait, if its key has a limit and it came too early.
async fn too_fast(core: &Core, access: &Access) -> Option<Duration> {
    match core.usage.pass(&access.principal, access.limits.rate?).await {
        Ok(wait) => wait,
        // Whatever the request wants from the store it will not get either; what it does not want from there it may have.
        Err(error) => {
            tracing::debug!(%error, "requests cannot be counted");
            None
        }
    }
}

/// Why nobody is let in. What is wrong with a token is nobody's business.
#[derive(Clone, Copy, Debug)]
enum Refused {
    NoToken,
    BadToken,
    InQuery,
}

impl Refused {
    fn answer(self) -> Response {
        let (reason, response) = match self {
            Self::NoToken => ("no_token", unauthorized(NO_TOKEN)),
            Self::BadToken => ("bad_token", unauthorized(BAD_TOKEN)),
            Self::InQuery => ("in_query", in_query()),
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

fn unauthorized(challenge: HeaderValue) -> Response {
    let body = json!({
        "error": ErrorCode::Unauthorized.name(),
        "message": "A valid API key is needed: send it as Authorization: Bearer <key>",
    });
    (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, challenge)], Json(body)).into_response()
}

fn slow_down(wait: Duration) -> Response {
    let body = json!({
        "error": ErrorCode::QuotaExceeded.name(),
        "message": "More requests per second than this key allows: wait as Retry-After says",
        "retry_after_ms": u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
    });
    metrics().throttled.add("per_second");
    // Whole seconds, and never none.
    let seconds = wait.as_secs() + 1;
    (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, HeaderValue::from(seconds))], Json(body)).into_response()
}

fn in_query() -> Response {
    let body = json!({
        "error": ErrorCode::InvalidArgument.name(),
        "message": "Credentials do not belong in a URL: send Authorization: Bearer <key>, and make a new key if this one was real",
    });
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

/// Refuses who lacks a scope.
pub(super) fn forbidden(scope: Scope) -> Response {
    let challenge = format!("Bearer realm=\"browserfleet\", error=\"insufficient_scope\", scope=\"{scope}\"");
    let body = json!({ "error": ErrorCode::Forbidden.name(), "message": format!("This needs the scope {scope}") });
    let mut response = (StatusCode::FORBIDDEN, Json(body)).into_response();
    if let Ok(challenge) = HeaderValue::from_str(&challenge) {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
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
