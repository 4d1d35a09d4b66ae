//! Servers that say who came: the sites and the forbidden places of tests about the way out.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use async_trait::async_trait;
use browserfleet_pool_daemon::egress::resolve::{Resolve, Share};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::AbortHandle,
};

use crate::spawn;

/// Most bytes of a request that are read.
const MAX_HEAD: usize = 16 << 10;

/// A server; it stops when dropped.
#[derive(Debug)]
pub struct Place {
    pub address: SocketAddr,
    seen: Arc<watch::Sender<Vec<String>>>,
    server: AbortHandle,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Place {
    /// Starts answering each request by its path. What is no request counts as the path `?`.
    pub async fn start(at: &str, answer: impl Fn(&str) -> String + Send + Sync + 'static) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(at).await?;
        let address = listener.local_addr()?;
        let (seen, answer) = (Arc::new(watch::Sender::new(Vec::new())), Arc::new(answer));
        let seeing = Arc::clone(&seen);
        let server = spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, answer) = (Arc::clone(&seeing), Arc::clone(&answer));
                spawn(serve(stream, seen, answer));
            }
        });
        Ok(Self { address, seen, server: server.abort_handle() })
    }

    pub fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The paths that were asked for, in order.
    pub fn seen(&self) -> Vec<String> {
        self.seen.borrow().clone()
    }

    pub fn forget(&self) {
        self.seen.send_modify(Vec::clear);
    }

    /// Waits until what was seen is enough.
    pub async fn until(&self, enough: impl Fn(&[String]) -> bool) {
        let mut seen = self.seen.subscribe();
        // The sending end is ours: it is there as long as we are.
        let _never_closed = seen.wait_for(|seen| enough(seen)).await;
    }
}

async fn serve(
    mut stream: TcpStream,
    seen: Arc<watch::Sender<Vec<String>>>,
    answer: Arc<impl Fn(&str) -> String + Send + Sync + 'static>,
) {
    let mut head = Vec::new();
    let mut piece = [0; 4096];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < MAX_HEAD {
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => break,
            Ok(read) => head.extend_from_slice(&piece[..read]),
        }
        // Not HTTP: what it is shows from its first byte.
        if !head[0].is_ascii_uppercase() {
            break;
        }
    }
    let head = String::from_utf8_lossy(&head);
    let path = head.split(' ').nth(1).filter(|path| path.starts_with('/')).unwrap_or("?").to_owned();
    seen.send_modify(|seen| seen.push(path.clone()));
    // Whoever came may have gone.
    let _gone = stream.write_all(answer(&path).as_bytes()).await;
    let _gone = stream.shutdown().await;
}

/// An answer with a document.
pub fn html(body: &str) -> String {
    respond("200 OK", "Content-Type: text/html; charset=utf-8\r\n", body)
}

/// An answer that leads elsewhere.
pub fn redirect(to: &str) -> String {
    respond("302 Found", &format!("Location: {to}\r\n"), "")
}

/// An answer; whoever asks may read it.
pub fn respond(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\n{headers}Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Headers: *\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Names that only a test knows.
#[derive(Debug)]
pub struct Names(HashMap<String, Vec<IpAddr>>);

impl Names {
    pub fn new(names: &[(&str, &str)]) -> Arc<Self> {
        let known = names.iter().filter_map(|(name, address)| Some(((*name).to_owned(), vec![address.parse().ok()?])));
        Arc::new(Self(known.collect()))
    }
}

#[async_trait]
impl Resolve for Names {
    async fn resolve(&self, name: &str, _share: &Share) -> Vec<IpAddr> {
        self.0.get(name).cloned().unwrap_or_default()
    }
}
