//! `/mcp`: takes a request apart and hands it to its era.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Query, State},
    response::Response,
};
use browserfleet_tools::{Groups, Scope, find};
use bytes::Bytes;
use http::{
    HeaderMap, Method, Request, StatusCode,
    header::{ACCEPT, CONTENT_TYPE},
    request::Parts,
};
use rmcp::ServerHandler;
use serde::Deserialize;
use serde_json::Value;

use super::{
    answer,
    envelope::{self, Era, Message},
    legacy,
    modern::Modern,
    strict,
};
use crate::{
    access::Access,
    caller::access,
    changes::Watching,
    config::Tools,
    core::Core,
    http::{
        auth::forbidden,
        body::{self, BodyError},
    },
};

/// What the endpoint needs: among other things who answers what has been taken apart, a clone of it for each request. In the
/// product that is [`super::handler::Handler`].
#[derive(Clone)]
pub(crate) struct Endpoint<H> {
    core: Arc<Core>,
    handler: H,
    modern: Arc<Modern<H>>,
}

impl<H: ServerHandler + Clone> Endpoint<H> {
    pub(crate) fn new(core: &Arc<Core>, handler: H) -> Self {
        let modern = Arc::new(Modern::new(&core.config.http, handler.clone()));
        Self { core: Arc::clone(core), handler, modern }
    }
}

/// Answers every method of `/mcp`.
pub(crate) async fn serve<H: ServerHandler + Clone>(
    State(endpoint): State<Endpoint<H>>,
    mut request: Request<Body>,
) -> Response {
    let method = request.method().clone();
    if let Err(why) = take_caps(&mut request, endpoint.core.config.tools) {
        return answer::refused(StatusCode::BAD_REQUEST, &why);
    }
    if method == Method::POST {
        return post(&endpoint, request).await;
    }
    let (parts, _unread) = request.into_parts();
    // The modern era has one method.
    if envelope::era_of(&parts.headers) == Era::Modern {
        return answer::method_not_allowed("POST");
    }
    if method == Method::GET {
        if !accepts(&parts.headers, "text/event-stream") {
            return answer::refused(StatusCode::NOT_ACCEPTABLE, "Accept must allow text/event-stream");
        }
        legacy::get(&endpoint.core, &parts).await
    } else if method == Method::DELETE {
        legacy::delete(&endpoint.core, &parts).await
    } else {
        answer::method_not_allowed("POST, GET, DELETE")
    }
}

/// What the query of an endpoint's URL may say.
#[derive(Debug, Deserialize)]
struct Parameters {
    /// Groups of tools, parted by commas.
    caps: Option<String>,
}

/// Makes what the URL asks for part of what the sender may use: `?caps=` is another endpoint, with other tools.
fn take_caps(request: &mut Request<Body>, served: Tools) -> Result<(), String> {
    let Query(Parameters { caps }) =
        Query::try_from_uri(request.uri()).map_err(|_malformed| "The query of the URL cannot be read".to_owned())?;
    let asked = caps
        .map(|caps| Groups::parse(caps.split(',')))
        .transpose()
        .map_err(|unknown| format!("caps: {unknown}, all and slim"))?;
    let access = Access::clone(&access(request.extensions())).served(served).asking(asked);
    request.extensions_mut().insert(Arc::new(access));
    Ok(())
}

async fn post<H: ServerHandler + Clone>(endpoint: &Endpoint<H>, request: Request<Body>) -> Response {
    let headers = request.headers();
    if !(accepts(headers, "application/json") && accepts(headers, "text/event-stream")) {
        let why = "Accept must allow both application/json and text/event-stream";
        return answer::refused(StatusCode::NOT_ACCEPTABLE, why);
    }
    if !is_json(headers) {
        return answer::refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Type must be application/json");
    }
    let (parts, body) = request.into_parts();
    let settings = &endpoint.core.config.http;
    let body = match body::read(body, &parts.headers, settings.max_body, settings.body_timeout).await {
        Ok(body) => body,
        Err(error) => return not_read(&error),
    };
    let message = match strict::parse(&body) {
        Ok(message) => message,
        Err(error) => {
            let why = format!("Parse error: line {}, column {}", error.line(), error.column());
            return answer::error(StatusCode::BAD_REQUEST, &Value::Null, -32700, &why);
        }
    };
    let kind = match envelope::check(&message) {
        Ok(kind) => kind,
        Err(malformed) => return answer::malformed(&malformed),
    };
    if let Some(scope) = lacked(&parts, &kind, &message) {
        return forbidden(&parts.extensions, scope);
    }
    match envelope::era(&message, &parts.headers) {
        Era::Modern if kind == Message::Response => {
            answer::refused(StatusCode::BAD_REQUEST, "Invalid Request: nobody asked for a response")
        }
        Era::Modern => modern(endpoint, parts, &kind, body).await,
        Era::Legacy => legacy::post(&endpoint.core, endpoint.handler.clone(), &parts, kind, message).await,
    }
}

/// The scope of a call that its sender's token lacks. That is told in the terms of HTTP, as MCP wants it: clients then ask for a
/// token with more, and try again. Whoever has a key cannot; its agent is told by the call's result.
fn lacked(parts: &Parts, kind: &Message, message: &Value) -> Option<Scope> {
    let access = access(&parts.extensions);
    access.resource()?;
    let is_call = matches!(kind, Message::Request { method, .. } if method == "tools/call");
    let name = is_call.then(|| message["params"]["name"].as_str()).flatten()?;
    access.lacks(find(name)?)
}

async fn modern<H: ServerHandler + Clone>(
    endpoint: &Endpoint<H>,
    mut parts: Parts,
    kind: &Message,
    body: Bytes,
) -> Response {
    if matches!(kind, Message::Request { method, .. } if method == "subscriptions/listen") {
        match endpoint.core.changes.watch(access(&parts.extensions)).await {
            Ok(watch) => drop(parts.extensions.insert(Watching::new(watch))),
            Err(error) => return answer::unavailable(&error),
        }
    }
    endpoint.modern.serve(parts, body).await
}

fn not_read(error: &BodyError) -> Response {
    let (status, why) = match error {
        BodyError::TooLarge { limit } => {
            (StatusCode::PAYLOAD_TOO_LARGE, format!("The body has more than {limit} bytes"))
        }
        BodyError::TooSlow => (StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time".to_owned()),
        BodyError::Broken => (StatusCode::BAD_REQUEST, "The body broke off".to_owned()),
    };
    body::closing(answer::refused(status, &why))
}

/// Whether a media type is acceptable. A client that does not say takes anything; wildcards count.
fn accepts(headers: &HeaderMap, wanted: &str) -> bool {
    let mut values = headers.get_all(ACCEPT).iter().peekable();
    if values.peek().is_none() {
        return true;
    }
    let family = wanted.split('/').next().unwrap_or_default();
    let matches = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let refused = parts.any(|parameter| matches!(parameter, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        !refused && (kind == wanted || kind == "*/*" || kind.strip_suffix("/*") == Some(family))
    };
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(matches)
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value
        .and_then(|value| value.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_is_read_as_http_means_it() {
        let both = |value: &str| {
            let headers = HeaderMap::from_iter([(ACCEPT, value.parse().unwrap())]);
            accepts(&headers, "application/json") && accepts(&headers, "text/event-stream")
        };
        for fine in
            ["application/json, text/event-stream", "*/*", "application/*;q=0.5,text/*", "Application/JSON,*/*;q=0.1"]
        {
            assert!(both(fine), "{fine}");
        }
        for wrong in ["application/json", "text/event-stream", "text/html", "application/json, text/event-stream;q=0"] {
            assert!(!both(wrong), "{wrong}");
        }
        assert!(accepts(&HeaderMap::new(), "application/json"));
    }
}
