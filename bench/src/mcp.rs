//! A small MCP client over HTTP/1.1 with one connection that is kept alive: what is measured is the server.

use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use browserfleet_common::lifecycle::Tasks;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Duration, timeout},
};

/// Most time of one request.
const LIMIT: Duration = Duration::from_mins(2);

/// Where MCP is served.
const PATH: &str = "/mcp";

const MODERN: &str = "2026-07-28";
const LEGACY: &str = "2025-11-25";

/// How a client speaks.
#[derive(Clone, Debug)]
enum Era {
    /// Every request stands by itself.
    Modern,
    /// Requests belong to a connection that was opened by `initialize`.
    Legacy { connection: String },
}

/// A client of one server.
#[derive(Debug)]
pub(crate) struct Client {
    address: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
    /// Where on the server requests go.
    path: String,
    era: Era,
    requests: u64,
}

/// A call as it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    tool: &'static str,
    body: Bytes,
}

/// What a tool answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Answer {
    /// All texts, one after the other.
    pub(crate) text: String,
    /// The structured form, if there is one.
    pub(crate) structured: Value,
    /// Whether there was a picture, and how large it is.
    pub(crate) picture: bool,
    pub(crate) picture_bytes: usize,
}

impl Client {
    /// A client of 2026-07-28.
    pub(crate) async fn modern(address: SocketAddr, tasks: &Tasks) -> anyhow::Result<Self> {
        let sender = connect(address, tasks).await?;
        Ok(Self { address, sender, path: PATH.to_owned(), era: Era::Modern, requests: 0 })
    }

    /// A client that shakes hands.
    pub(crate) async fn legacy(address: SocketAddr, tasks: &Tasks) -> anyhow::Result<Self> {
        let era = Era::Legacy { connection: String::new() };
        let sender = connect(address, tasks).await?;
        let mut client = Self { address, sender, path: PATH.to_owned(), era, requests: 0 };
        let params = json!({
            "protocolVersion": LEGACY,
            "capabilities": {},
            "clientInfo": { "name": "bench", "version": "1" },
        });
        let (headers, _body) = client.post("initialize", "", Some(params)).await?;
        let connection = headers.get("mcp-session-id").context("a connection's id")?.to_str()?.to_owned();
        client.era = Era::Legacy { connection };
        client.post("notifications/initialized", "", None).await?;
        Ok(client)
    }

    /// Calls a tool that must succeed.
    pub(crate) async fn call(&mut self, tool: &str, arguments: Value) -> anyhow::Result<Answer> {
        let params = json!({ "name": tool, "arguments": arguments });
        let (headers, body) = self.post("tools/call", tool, Some(params)).await?;
        let message = message(&headers, &body, self.requests)?;
        answer(&message).with_context(|| tool.to_owned())
    }

    /// The tools that are listed at a path, such as one with other groups.
    pub(crate) async fn tools(&mut self, path: &str) -> anyhow::Result<Value> {
        path.clone_into(&mut self.path);
        let listed = self.post("tools/list", "", Some(json!({}))).await;
        PATH.clone_into(&mut self.path);
        let (headers, body) = listed?;
        Ok(message(&headers, &body, self.requests)?["result"]["tools"].take())
    }

    /// Ends a legacy client's connection; others have none.
    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        if let Era::Legacy { .. } = self.era {
            self.send(Method::DELETE, "", "", Bytes::new()).await?;
        }
        Ok(())
    }

    /// A call that is made many times: what this client says is written once.
    ///
    /// # Errors
    /// Never: it is plain data.
    pub(crate) fn prepare(&mut self, tool: &'static str, arguments: &Value) -> anyhow::Result<Prepared> {
        let body = self.request("tools/call", Some(json!({ "name": tool, "arguments": arguments })))?;
        Ok(Prepared { tool, body })
    }

    /// Makes a prepared call, whose answer must have `words` and be no failure.
    pub(crate) async fn repeat(&mut self, call: &Prepared, words: &[u8]) -> anyhow::Result<()> {
        let (_headers, body) = self.send(Method::POST, "tools/call", call.tool, call.body.clone()).await?;
        let has = |words: &[u8]| body.windows(words.len()).any(|part| part == words);
        ensure!(has(words) && !has(b"\"isError\":true"), "{}: {}", call.tool, String::from_utf8_lossy(&body));
        Ok(())
    }

    async fn post(&mut self, method: &str, name: &str, params: Option<Value>) -> anyhow::Result<(HeaderMap, Bytes)> {
        let request = self.request(method, params)?;
        self.send(Method::POST, method, name, request).await
    }

    /// A request, or without `params` a notification.
    fn request(&mut self, method: &str, params: Option<Value>) -> anyhow::Result<Bytes> {
        let mut request = json!({ "jsonrpc": "2.0", "method": method });
        if let Some(mut params) = params {
            self.requests += 1;
            if matches!(self.era, Era::Modern) {
                params["_meta"] = json!({
                    "io.modelcontextprotocol/protocolVersion": MODERN,
                    "io.modelcontextprotocol/clientCapabilities": {},
                    "io.modelcontextprotocol/clientInfo": { "name": "bench", "version": "1" },
                });
            }
            request["id"] = self.requests.into();
            request["params"] = params;
        }
        Ok(serde_json::to_vec(&request)?.into())
    }

    async fn send(
        &mut self,
        verb: Method,
        method: &str,
        name: &str,
        body: Bytes,
    ) -> anyhow::Result<(HeaderMap, Bytes)> {
        let mut request = Request::builder()
            .method(verb)
            .uri(&self.path)
            .header(header::HOST, self.address.to_string())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream");
        match &self.era {
            Era::Modern => {
                request = request.header("mcp-protocol-version", MODERN).header("mcp-method", method);
                request = request.header("mcp-name", name);
            }
            Era::Legacy { connection } if !connection.is_empty() => {
                request = request.header("mcp-protocol-version", LEGACY).header("mcp-session-id", connection);
            }
            Era::Legacy { .. } => {}
        }
        let request = request.body(Full::new(body))?;
        let exchange = async {
            self.sender.ready().await?;
            let (parts, body) = self.sender.send_request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            ensure!(parts.status.is_success(), "HTTP {}: {}", parts.status, String::from_utf8_lossy(&body));
            Ok((parts.headers, body))
        };
        timeout(LIMIT, exchange).await.context("no answer in time")?
    }
}

async fn connect(address: SocketAddr, tasks: &Tasks) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with its sender; what went wrong the sender has been told.
    tasks.spawn("bench.http", async move { drop(connection.await) });
    Ok(sender)
}

/// The response with an id, out of a JSON body or an event stream.
fn message(headers: &HeaderMap, body: &[u8], id: u64) -> anyhow::Result<Value> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("text/event-stream") {
        return Ok(serde_json::from_slice(body)?);
    }
    let text = std::str::from_utf8(body)?;
    text.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data:")?.trim_start()).ok())
        .find(|message| message["id"] == id)
        .context("the stream ended without a response")
}

fn answer(message: &Value) -> anyhow::Result<Answer> {
    if let Some(error) = message.get("error") {
        bail!("refused: {error}");
    }
    let result = &message["result"];
    let mut answer = Answer { structured: result["structuredContent"].clone(), ..Answer::default() };
    for item in result["content"].as_array().into_iter().flatten() {
        match item["type"].as_str() {
            Some("text") => answer.text.push_str(item["text"].as_str().unwrap_or_default()),
            Some("image") => {
                answer.picture = true;
                // Base64, but for what fills up its end.
                answer.picture_bytes += item["data"].as_str().unwrap_or_default().trim_end_matches('=').len() * 3 / 4;
            }
            _ => {}
        }
    }
    ensure!(result["isError"] != true, "failed: {}", answer.text);
    Ok(answer)
}

impl Answer {
    /// The ref of the first line that contains `words`.
    pub(crate) fn ref_of(&self, words: &str) -> anyhow::Result<String> {
        let line = self.text.lines().find(|line| line.contains(words) && line.contains("[ref="));
        let (_, rest) =
            line.and_then(|line| line.split_once("[ref=")).with_context(|| format!("no ref of {words:?}"))?;
        Ok(rest.split(']').next().unwrap_or(rest).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use axum::{Json, Router, http::HeaderMap as Headers, routing::post};
    use tokio::net::TcpListener;

    use super::*;

    fn headers(kind: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, kind.parse().unwrap())])
    }

    #[test]
    fn a_response_is_found_in_json_and_in_a_stream() {
        let json = br#"{"jsonrpc":"2.0","id":7,"result":{}}"#;
        assert_eq!(message(&headers("application/json"), json, 7).unwrap()["id"], 7);
        let stream = b": open\n\nevent: message\ndata: {\"method\":\"notifications/progress\"}\n\n\
                       data: {\"id\":6}\n\nevent: message\ndata: {\"id\":7,\"result\":{\"a\":1}}\n\n";
        assert_eq!(message(&headers("text/event-stream"), stream, 7).unwrap()["result"]["a"], 1);
        assert!(message(&headers("text/event-stream"), b": open\n\n", 7).is_err());
    }

    #[test]
    fn failures_are_errors() {
        assert!(answer(&json!({ "error": { "code": -1 } })).is_err());
        let failed = json!({ "result": { "isError": true, "content": [{ "type": "text", "text": "why" }] } });
        assert!(format!("{:#}", answer(&failed).unwrap_err()).contains("why"));
    }

    #[test]
    fn texts_and_pictures_are_told_apart() {
        let message = json!({ "result": { "content": [
            { "type": "text", "text": "- button \"Go\" [ref=e1]\n" },
            { "type": "text", "text": "- button \"Press\" [active] [ref=f2e12]: x" },
            { "type": "image", "data": "" },
        ] } });
        let answer = answer(&message).unwrap();
        assert!(answer.picture);
        assert_eq!(answer.ref_of("Press").unwrap(), "f2e12");
        assert!(answer.ref_of("Stop").is_err());
    }

    #[tokio::test]
    async fn one_connection_serves_both_eras() {
        let (tasks, listener) = (Tasks::new(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let address = listener.local_addr().unwrap();
        let handler = |headers: Headers, Json(request): Json<Value>| async move {
            let seen = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
            let text = format!("{} {} {}", seen("mcp-protocol-version"), seen("mcp-session-id"), seen("mcp-name"));
            let result = json!({ "content": [{ "type": "text", "text": text }] });
            ([("mcp-session-id", "c1")], Json(json!({ "jsonrpc": "2.0", "id": request["id"], "result": result })))
        };
        let router = Router::new().route("/mcp", post(handler).delete(|| async {}));
        let server = tasks.spawn("server", async move { axum::serve(listener, router).await.unwrap() });
        let mut modern = Client::modern(address, &tasks).await.unwrap();
        for _ in 0..2 {
            let answer = modern.call("browser_snapshot", json!({})).await.unwrap();
            assert_eq!(answer.text, "2026-07-28  browser_snapshot");
        }
        let prepared = modern.prepare("browser_snapshot", &json!({})).unwrap();
        modern.repeat(&prepared, b"2026-07-28").await.unwrap();
        assert!(modern.repeat(&prepared, b"something else").await.is_err());
        let mut legacy = Client::legacy(address, &tasks).await.unwrap();
        assert_eq!(legacy.call("browser_snapshot", json!({})).await.unwrap().text, "2025-11-25 c1 ");
        legacy.end().await.unwrap();
        drop(modern);
        server.abort();
    }
}
