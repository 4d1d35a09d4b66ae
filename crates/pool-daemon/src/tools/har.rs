//! A page's requests as an HTTP archive (HAR 1.2), for the tools that read it.

use std::time::Duration;

use browserfleet_tools::HarExport;
use serde_json::{Value, json};
use url::Url;

use super::{
    Call, Registry, Reply, ToolResult,
    network::{exchanges, has_response_body},
};
use crate::page::{Exchange, Progress};

/// Most bytes of a body, and of all bodies.
const MAX_BODY: usize = 256 << 10;
const MAX_BODIES: usize = 4 << 20;

pub(super) fn register(registry: &mut Registry) {
    registry.add(export);
}

async fn export(call: Call, HarExport { bodies, filename: _ }: HarExport) -> ToolResult {
    let exchanges = exchanges(&call).await;
    let (mut entries, mut left, mut without) = (Vec::with_capacity(exchanges.len()), MAX_BODIES, 0);
    for exchange in &exchanges {
        let mut entry = entry(exchange);
        if bodies.unwrap_or(false) && has_response_body(exchange) {
            match body(&call, exchange, left).await {
                Some(text) => {
                    left -= text.len();
                    entry["response"]["content"]["text"] = text.into();
                }
                None => without += 1,
            }
        }
        entries.push(entry);
    }
    let count = entries.len();
    let creator = json!({ "name": "browserfleet", "version": env!("CARGO_PKG_VERSION") });
    let archive = json!({ "log": { "version": "1.2", "creator": creator, "pages": [], "entries": entries } });
    let mut text = format!("{count} requests are in the archive.");
    if without > 0 {
        text = format!("{text} {without} bodies are not in it: no text, too large, or gone from the browser.");
    }
    let bytes = serde_json::to_vec_pretty(&archive).unwrap_or_default();
    let told = json!({ "requests": count, "bodies_left_out": without });
    Ok(Reply::new().result(text).structured(told).file("requests.har", "application/json", bytes))
}

/// A text's body, if it is there, is one, and has room.
async fn body(call: &Call, exchange: &Exchange, left: usize) -> Option<String> {
    let (body, binary) = call.page.response_body(exchange, call.within(call.times.action)).await.ok()?;
    (!binary && body.len() <= MAX_BODY.min(left)).then_some(body)
}

fn entry(exchange: &Exchange) -> Value {
    let Exchange { method, url, kind, mime_type, request_headers, response_headers, progress, sent, duration, .. } =
        exchange;
    let (status, words, error) = match progress {
        Progress::Answered { status, text } => (*status, text.as_str(), Value::Null),
        Progress::Waiting => (0, "", Value::Null),
        Progress::Failed(error) => (0, "", error.as_str().into()),
    };
    let query: Vec<Value> = Url::parse(url).map_or_else(
        |_| Vec::new(),
        |url| url.query_pairs().map(|(name, value)| json!({ "name": name, "value": value })).collect(),
    );
    let time = duration.unwrap_or_default();
    let moved = response_headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("location"));
    let mut entry = json!({
        "startedDateTime": moment(*sent),
        "time": time,
        "request": {
            "method": method, "url": url, "httpVersion": "", "cookies": [], "headers": pairs(request_headers),
            "queryString": query, "headersSize": -1, "bodySize": -1,
        },
        "response": {
            "status": status, "statusText": words, "httpVersion": "", "cookies": [], "headers": pairs(response_headers),
            "content": { "size": -1, "mimeType": mime_type }, "headersSize": -1, "bodySize": -1,
            "redirectURL": moved.map_or("", |(_, to)| to.as_str()),
        },
        "cache": {},
        // Only the whole is known.
        "timings": { "send": 0, "wait": time, "receive": 0 },
        "_resourceType": kind,
    });
    if !error.is_null() {
        entry["response"]["_error"] = error;
    }
    entry
}

fn pairs(headers: &[(String, String)]) -> Vec<Value> {
    headers.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect()
}

/// Seconds since 1970 as ISO 8601 writes them.
fn moment(seconds: f64) -> String {
    let since = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + since).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_archives_have_them() {
        assert_eq!(moment(1_767_323_045.5), "2026-01-02T03:04:05.500Z");
        assert_eq!(moment(f64::NAN), "1970-01-01T00:00:00.000Z", "whatever a browser says");
    }
}
