//! A page's requests.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use browserfleet_tools::{ImageType, NetworkClear, NetworkRequest, NetworkRequests, RequestPart};
use serde_json::{Map, Value, json};

use super::{
    Call, Registry, Reply, ToolResult,
    find::javascript,
    untrusted::{fenced, origin},
};
use crate::{
    failure::Failure,
    page::{Exchange, Progress},
};

/// Most bytes of a body in a reply.
const MAX_BODY: usize = 256 << 10;

pub(super) fn register(registry: &mut Registry) {
    registry.add(list);
    registry.add(show);
    registry.add(clear);
}

async fn list(call: Call, arguments: NetworkRequests) -> ToolResult {
    let NetworkRequests { r#static, filter, filename: _ } = arguments;
    let filter = filter.filter(|pattern| !pattern.is_empty()).map(|pattern| javascript(&pattern)).transpose()?;
    let everything = r#static.unwrap_or(false);
    let exchanges = exchanges(&call).await;
    let hidden = exchanges.iter().filter(|exchange| !everything && exchange.is_static()).count();
    let listed: Vec<&Exchange> = exchanges
        .iter()
        .filter(|exchange| everything || !exchange.is_static())
        .filter(|exchange| filter.as_ref().is_none_or(|filter| filter.is_match(&exchange.url)))
        .collect();
    let lines: Vec<String> =
        listed.iter().map(|exchange| format!("{}. {}", exchange.number, in_one_line(exchange))).collect();
    let url = call.page.document().url;
    let mut text = Vec::new();
    if !lines.is_empty() {
        text.push(fenced(&lines.join("\n"), &url));
    }
    match hidden {
        0 => {}
        1 => text.push("Note: 1 static request not shown, run with \"static\" option to see it.".to_owned()),
        _ => text.push(format!("Note: {hidden} static requests not shown, run with \"static\" option to see them.")),
    }
    let requests: Vec<Value> = listed.into_iter().map(in_short).collect();
    let structured = json!({ "hidden": hidden, "origin": origin(&url), "requests": requests });
    Ok(Reply::new().result(text.join("\n\n")).structured(structured))
}

/// The page's requests. Why the egress gate refused one Chromium does not know.
pub(super) async fn exchanges(call: &Call) -> Vec<Exchange> {
    let mut exchanges = call.page.exchanges().await;
    let Some(gate) = call.workspace.context().gate() else { return exchanges };
    for exchange in &mut exchanges {
        if let Progress::Failed(error) = &exchange.progress
            && let Some(refusal) = gate.explain(error, &exchange.url)
        {
            exchange.progress = Progress::Failed(refusal.to_string());
        }
    }
    exchanges
}

fn in_one_line(exchange: &Exchange) -> String {
    let Exchange { method, url, progress, .. } = exchange;
    match progress {
        Progress::Waiting => format!("[{method}] {url}"),
        Progress::Answered { .. } | Progress::Failed(_) => format!("[{method}] {url} => {}", status(progress)),
    }
}

/// A request for programs. What is not known yet is no member.
fn in_short(exchange: &Exchange) -> Value {
    let Exchange { number, method, url, progress, .. } = exchange;
    let mut told = json!({ "index": number, "method": method, "url": url });
    match progress {
        Progress::Waiting => {}
        Progress::Answered { status, .. } => told["status"] = json!(status),
        Progress::Failed(error) => told["error"] = json!(error),
    }
    told
}

/// All that is known of a request, for programs.
fn in_full(exchange: &Exchange) -> Value {
    let mut told = in_short(exchange);
    told["type"] = json!(exchange.kind);
    told["mime_type"] = json!(exchange.mime_type);
    if let Some(duration) = exchange.duration {
        told["duration_ms"] = json!(duration);
    }
    told["request_headers"] = by_name(&exchange.request_headers);
    told["response_headers"] = by_name(&exchange.response_headers);
    told
}

/// Headers by their names in small letters; what a name has several times is parted by commas.
fn by_name(headers: &[(String, String)]) -> Value {
    let mut told: Map<String, Value> = Map::new();
    for (name, value) in headers {
        let name = name.to_lowercase();
        let value = match told.get(&name).and_then(Value::as_str) {
            Some(before) => format!("{before}, {value}"),
            None => value.clone(),
        };
        told.insert(name, value.into());
    }
    told.into()
}

fn status(progress: &Progress) -> String {
    match progress {
        Progress::Waiting => "waiting".to_owned(),
        Progress::Answered { status, text } => format!("[{status}] {text}").trim_end().to_owned(),
        Progress::Failed(error) => format!("[FAILED] {error}"),
    }
}

async fn show(call: Call, arguments: NetworkRequest) -> ToolResult {
    let NetworkRequest { index, part, filename: _ } = arguments;
    let exchanges = exchanges(&call).await;
    let Some(exchange) = exchanges.iter().find(|exchange| exchange.number == index) else {
        let message = format!("Request #{index} not found. Use browser_network_requests to see available indexes.");
        return Err(Failure::invalid(message));
    };
    let deadline = call.within(call.times.action);
    let (reply, from) = (Reply::new(), exchange.url.as_str());
    let told = |key: &str, value: Value| json!({ "index": index, key: value });
    match part {
        None => {
            let text = format!("{}{}", fenced(&details(exchange), from), more(exchange));
            Ok(reply.result(text).structured(in_full(exchange)))
        }
        Some(RequestPart::RequestHeaders) => {
            let structured = told("request_headers", by_name(&exchange.request_headers));
            Ok(reply.untrusted(&headers(&exchange.request_headers, ""), from).structured(structured))
        }
        Some(RequestPart::ResponseHeaders) => {
            let structured = told("response_headers", by_name(&exchange.response_headers));
            Ok(reply.untrusted(&headers(&exchange.response_headers, ""), from).structured(structured))
        }
        Some(RequestPart::RequestBody) if !exchange.has_request_body => Ok(reply.result("The request has no body.")),
        Some(RequestPart::RequestBody) => {
            let body = cut(call.page.request_body(exchange, deadline).await?);
            Ok(reply.untrusted(&body, from).structured(told("body", json!(body))))
        }
        Some(RequestPart::ResponseBody) if !has_response_body(exchange) => {
            Ok(reply.result("The response has no body."))
        }
        Some(RequestPart::ResponseBody) => {
            let (body, binary) = call.page.response_body(exchange, deadline).await?;
            if binary {
                return Ok(shown(reply, exchange, &body));
            }
            let body = cut(body);
            Ok(reply.untrusted(&body, from).structured(told("body", json!(body))))
        }
    }
}

/// A body that is no text: a picture is shown, anything else described.
fn shown(reply: Reply, exchange: &Exchange, body: &str) -> Reply {
    let bytes = STANDARD.decode(body).unwrap_or_default();
    let described = format!("{} bytes of {}", bytes.len(), exchange.mime_type);
    let format = match exchange.mime_type.as_str() {
        "image/png" => ImageType::Png,
        "image/jpeg" => ImageType::Jpeg,
        "image/webp" => ImageType::Webp,
        _ => return reply.result(format!("The body is not text: {described}")),
    };
    reply.result(described).image(format, bytes)
}

pub(super) fn has_response_body(exchange: &Exchange) -> bool {
    let answered = matches!(exchange.progress, Progress::Answered { status, .. } if status != 204 && status != 304);
    answered && !exchange.redirected
}

fn details(exchange: &Exchange) -> String {
    let mut text = format!("#{} [{}] {}\n\n  General\n", exchange.number, exchange.method, exchange.url);
    // Writing to a String cannot fail.
    let _infallible = writeln!(text, "    status:    {}", status(&exchange.progress));
    if let Some(duration) = exchange.duration {
        let _infallible = writeln!(text, "    duration:  {duration}ms");
    }
    let _infallible = writeln!(text, "    type:      {}", exchange.kind);
    if !exchange.mime_type.is_empty() {
        let _infallible = writeln!(text, "    mimeType:  {}", exchange.mime_type);
    }
    for (title, list) in [("Request", &exchange.request_headers), ("Response", &exchange.response_headers)] {
        if !list.is_empty() {
            let _infallible = write!(text, "\n  {title} headers\n{}\n", headers(list, "    "));
        }
    }
    text.trim_end().to_owned()
}

/// How to see the rest of a request.
fn more(exchange: &Exchange) -> String {
    let parts = [("request", exchange.has_request_body), ("response", has_response_body(exchange))];
    let there = parts.iter().filter(|(_, there)| *there);
    let calls = there
        .map(|(part, _)| format!("\nCall browser_network_request with part=\"{part}-body\" to read the {part} body."));
    calls.collect()
}

fn headers(headers: &[(String, String)], indent: &str) -> String {
    let lines: Vec<_> =
        headers.iter().map(|(name, value)| format!("{indent}{}: {value}", name.to_lowercase())).collect();
    lines.join("\n")
}

fn cut(mut body: String) -> String {
    if body.len() > MAX_BODY {
        let size = body.len();
        body.truncate(body.floor_char_boundary(MAX_BODY));
        let shown = body.len();
        // Writing to a String cannot fail.
        let _infallible = write!(body, "\n[cut here: {shown} of {size} bytes are shown]");
    }
    body
}

async fn clear(call: Call, NetworkClear {}: NetworkClear) -> ToolResult {
    call.page.forget_exchanges();
    Ok(Reply::new().result("Network requests cleared"))
}
