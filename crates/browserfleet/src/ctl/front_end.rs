//! A front end, asked over HTTP.

use anyhow::{Context as _, bail, ensure};
use http::{Request, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};

use super::{ANSWER, table::Table};

/// A front end: any one of them knows all sessions.
#[derive(Clone, Debug)]
pub(super) struct FrontEnd {
    host: String,
    key: Option<String>,
}

impl FrontEnd {
    pub(super) fn new(address: &str, key: Option<String>) -> anyhow::Result<Self> {
        let uri: Uri = address.parse().with_context(|| format!("{address}: not an address"))?;
        ensure!(uri.scheme_str() == Some("http"), "{address}: an address begins with http://");
        let authority = uri.authority().with_context(|| format!("{address}: no host"))?;
        let host = if authority.port().is_some() { authority.to_string() } else { format!("{authority}:80") };
        Ok(Self { host, key })
    }

    /// The sessions that the key may see, oldest first, each with the calls that run in it.
    pub(super) async fn sessions(&self) -> anyhow::Result<Vec<Value>> {
        let answer = timeout(ANSWER, self.get("/sessions")).await;
        let mut answer = answer.with_context(|| format!("{}: no answer in {} s", self.host, ANSWER.as_secs()))??;
        let calls = answer["calls"].take();
        let Value::Array(mut sessions) = answer["sessions"].take() else { bail!("{}: not a front end", self.host) };
        for session in &mut sessions {
            let of_session = |call: &&Value| call["session"] == session["session"];
            let running = calls.as_array().into_iter().flatten().filter(of_session);
            session["running"] = running.map(|call| call["tool"].clone()).collect();
        }
        Ok(sessions)
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let stream = TcpStream::connect(&self.host).await;
        let stream = stream.with_context(|| format!("{} (is a front end running there? --front-end)", self.host))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut request = Request::get(path).header(header::HOST, &self.host);
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        let asked = async {
            let answer = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
            let status = answer.status();
            let body = answer.into_body().collect().await?.to_bytes();
            ensure!(status.is_success(), "{}: {status} {}(--key-file)", self.host, String::from_utf8_lossy(&body));
            Ok(serde_json::from_slice(&body)?)
        };
        tokio::pin!(connection);
        tokio::select! {
            answer = asked => answer,
            // It ends before its answer when the front end goes away.
            ended = &mut connection => bail!("{}: the connection broke: {ended:?}", self.host),
        }
    }
}

pub(super) fn session_table(sessions: &[Value]) -> Table {
    let columns = [
        "session",
        "principal",
        "client.name",
        "client.version",
        "lease",
        "running",
        "age_seconds",
        "idle_seconds",
        "expires_in_seconds",
    ];
    Table::of(&columns, sessions)
}
