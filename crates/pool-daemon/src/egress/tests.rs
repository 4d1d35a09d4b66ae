//! A gate against names and servers of the test's own. This process plays the browser.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use browserfleet_common::{egress::Egress, error_code::ErrorCode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{Duration, timeout},
};

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

/// Answers of the look-ups of a name, one after the other; the last one stays.
#[derive(Debug, Default)]
struct Names(Mutex<HashMap<String, VecDeque<Vec<IpAddr>>>>);

#[async_trait]
impl Resolve for Names {
    async fn resolve(&self, name: &str, _share: &Share) -> Vec<IpAddr> {
        let mut names = self.0.lock().unwrap();
        let Some(answers) = names.get_mut(name) else { return Vec::new() };
        if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() }
    }
}

struct Scene {
    exits: Exits,
    tasks: Tasks,
}

impl Scene {
    /// Names are given as "name address,address address": what each look-up answers, commas between addresses.
    fn new(network: Network, allow: &[&str], names: &[&str]) -> Self {
        let names = names.iter().map(|line| {
            let (name, answers) = line.split_once(' ').unwrap();
            let addresses = |answer: &str| answer.split(',').map(|address| address.parse().unwrap()).collect();
            (name.to_owned(), answers.split(' ').map(addresses).collect())
        });
        let resolver = Arc::new(Names(Mutex::new(names.collect())));
        let allow = allow.iter().map(|text| Opened::parse(text).unwrap()).collect();
        let tasks = Tasks::new();
        Self { exits: Exits::new(Config { network, allow, resolver }, &tasks), tasks }
    }

    async fn gate(&self, egress: &Egress) -> Gate {
        let gate = self.gate_of(std::process::id()).await;
        gate.lease(egress.rules().unwrap());
        gate
    }

    /// One on the machine's loopback that nothing is leased through.
    async fn gate_of(&self, pid: u32) -> Gate {
        let entrance = Entrance::on_the_machine();
        entrance.open(&self.exits, pid, None).unwrap();
        Gate::open(&self.exits, &entrance).await.unwrap()
    }

    async fn open(&self) -> Gate {
        self.gate(&Egress::default()).await
    }
}

/// Answers every request with its own head, and counts connections.
async fn server(at: &str, tasks: &Tasks) -> (SocketAddr, Arc<AtomicUsize>) {
    answering(at, tasks, |head| {
        format!("HTTP/1.1 200 Fine\r\nX-Own: 1\r\nKeep-Alive: 1\r\nContent-Length: {}\r\n\r\n{head}", head.len())
    })
    .await
}

async fn answering(
    at: &str,
    tasks: &Tasks,
    answer: impl Fn(&str) -> String + Send + Sync + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(at).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (hits, own, answer) = (Arc::new(AtomicUsize::new(0)), tasks.clone(), Arc::new(answer));
    let counted = Arc::clone(&hits);
    tasks.spawn("test.server", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let answer = Arc::clone(&answer);
            own.spawn("test.connection", async move {
                loop {
                    let head = head(&mut stream).await;
                    if head.is_empty() || stream.write_all(answer(&head).as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, hits)
}

/// Everything up to the empty line, or to the end.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match timeout(LIMIT, stream.read(&mut byte)).await.expect("an answer or an end in time") {
            Ok(1) => head.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8(head).unwrap()
}

async fn connect(gate: &Gate) -> TcpStream {
    TcpStream::connect(gate.server().strip_prefix("http://").unwrap()).await.unwrap()
}

async fn get(stream: &mut TcpStream, url: &str) -> String {
    let request = format!(
        "GET {url} HTTP/1.1\r\nHost: x\r\nProxy-Connection: keep-alive\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-Case: 1\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = head(stream).await;
    let length = answer.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    timeout(LIMIT, stream.read_exact(&mut body)).await.unwrap().unwrap();
    answer + &String::from_utf8(body).unwrap()
}

async fn tunnel(stream: &mut TcpStream, authority: &str) -> String {
    stream.write_all(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes()).await.unwrap();
    head(stream).await
}

#[tokio::test]
async fn requests_are_forwarded_over_one_connection() {
    let scene = Scene::new(Network::Local, &[], &["site.test 127.0.0.1"]);
    let (address, hits) = server("127.0.0.1:0", &scene.tasks).await;
    let gate = scene.open().await;
    let mut stream = connect(&gate).await;
    let url = format!("http://site.test:{}/a%20b?c", address.port());
    let answer = get(&mut stream, &url).await;
    assert!(answer.starts_with("HTTP/1.1 200 Fine\r\n") && answer.contains("X-Own: 1"), "{answer}");
    assert!(!answer.to_lowercase().contains("keep-alive"), "{answer}");
    assert!(answer.contains("GET /a%20b?c HTTP/1.1\r\n") && answer.contains("X-Case: 1"), "{answer}");
    assert!(!answer.contains("X-Hop") && !answer.contains("Proxy-"), "{answer}");
    get(&mut stream, &url).await;
    assert_eq!(hits.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn tunnels_end_with_their_gate() {
    let scene = Scene::new(Network::Local, &[], &[]);
    let (address, _) = server("127.0.0.1:0", &scene.tasks).await;
    let gate = scene.open().await;
    let mut stream = connect(&gate).await;
    assert!(tunnel(&mut stream, &address.to_string()).await.starts_with("HTTP/1.1 200"));
    stream.write_all(b"hello\r\n\r\n").await.unwrap();
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 200 Fine"));
    gate.close();
    let mut rest = Vec::new();
    // An end, whether in order or not.
    let _ended = timeout(LIMIT, stream.read_to_end(&mut rest)).await.expect("the tunnel ends");
    while TcpStream::connect(gate.server().strip_prefix("http://").unwrap()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(scene.exits.gates().len(), 0);
}

/// Only 127.0.0.1 is open here; 127.0.0.2 is this test's internal network.
async fn guarded(names: &[&str]) -> (Scene, Gate, u16, Arc<AtomicUsize>) {
    let scene = Scene::new(Network::Public, &["127.0.0.1"], names);
    let (inside, hits) = server("127.0.0.2:0", &scene.tasks).await;
    // The same port outside, so that only the address makes the difference.
    let (_, _) = server(&format!("127.0.0.1:{}", inside.port()), &scene.tasks).await;
    let gate = scene.open().await;
    (scene, gate, inside.port(), hits)
}

#[tokio::test]
async fn a_name_that_leads_inside_is_refused_without_a_word() {
    let names = [
        "inside.test 127.0.0.2",
        "mixed.test 127.0.0.1,127.0.0.2",
        "six.test ::1",
        "mapped.test ::ffff:127.0.0.2",
        "nat64.test 64:ff9b::7f00:2",
        "meta.test 169.254.169.254",
    ];
    let (_scene, gate, port, hits) = guarded(&names).await;
    for host in [
        "inside.test",
        "mixed.test",
        "six.test",
        "mapped.test",
        "nat64.test",
        "meta.test",
        "127.0.0.2",
        "[::ffff:127.0.0.2]",
        "2130706434",
        "localhost",
    ] {
        let url = format!("http://{host}:{port}/");
        assert_eq!(get(&mut connect(&gate).await, &url).await, "", "{host}");
        let answer = tunnel(&mut connect(&gate).await, &format!("{host}:{port}")).await;
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("content-length: 0"), "{host}: {answer}");
        assert!(matches!(gate.refused(&url), Some(Refusal::Blocked(_))), "{host}: {:?}", gate.refused(&url));
    }
    assert_eq!(hits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_name_that_changes_its_mind_leads_nowhere_else() {
    let (_scene, gate, port, hits) = guarded(&["rebinding.test 127.0.0.1 127.0.0.2"]).await;
    let url = format!("http://rebinding.test:{port}/");
    let mut stream = connect(&gate).await;
    assert!(get(&mut stream, &url).await.starts_with("HTTP/1.1 200"));
    assert!(get(&mut stream, &url).await.starts_with("HTTP/1.1 200"), "a kept connection leads where it led");
    assert_eq!(get(&mut connect(&gate).await, &url).await, "");
    assert!(tunnel(&mut connect(&gate).await, &format!("rebinding.test:{port}")).await.starts_with("HTTP/1.1 403"));
    assert_eq!(hits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_name_without_addresses_and_a_dead_server_fail_as_without_a_gate() {
    let (_scene, gate, port, _) = guarded(&["closed.test 127.0.0.1"]).await;
    let failure = async |url: &str| {
        assert_eq!(get(&mut connect(&gate).await, url).await, "");
        gate.failure("net::ERR_EMPTY_RESPONSE", url)
    };
    let unknown = failure(&format!("http://unknown.test:{port}/")).await;
    assert_eq!(unknown.code, ErrorCode::NavigationFailed);
    assert!(unknown.message.starts_with("net::ERR_NAME_NOT_RESOLVED at http://unknown.test"), "{unknown}");
    let closed = failure("http://closed.test:1/").await;
    assert!(closed.message.starts_with("net::ERR_CONNECTION_REFUSED at "), "{closed}");
}

#[tokio::test]
async fn every_hop_of_a_redirect_is_asked_about() {
    let (_scene, gate, port, hits) = guarded(&[]).await;
    let mut stream = connect(&gate).await;
    assert!(get(&mut stream, &format!("http://127.0.0.1:{port}/")).await.starts_with("HTTP/1.1 200"));
    // What a browser does on the same connection when it is sent elsewhere.
    assert_eq!(get(&mut stream, &format!("http://127.0.0.2:{port}/")).await, "");
    assert_eq!(hits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn nobody_else_uses_a_gate() {
    let scene = Scene::new(Network::Local, &[], &[]);
    let (address, hits) = server("127.0.0.1:0", &scene.tasks).await;
    let url = format!("http://{address}/");
    let unleased = scene.gate_of(std::process::id()).await;
    assert_eq!(get(&mut connect(&unleased).await, &url).await, "");
    assert_eq!(unleased.refused(&url), Some(Refusal::Blocked(Blocked::Unleased)));

    // The browser is process 1, and we are somebody else.
    let foreign = scene.gate_of(1).await;
    foreign.lease(browserfleet_common::egress::EgressRules::default());
    let mut stream = connect(&foreign).await;
    // It may be closed before it is written to.
    let _closed = stream.write_all(format!("GET {url} HTTP/1.1\r\n\r\n").as_bytes()).await;
    let mut answer = Vec::new();
    let _reset = timeout(LIMIT, stream.read_to_end(&mut answer)).await.expect("it is closed");
    assert_eq!((answer.len(), hits.load(Ordering::SeqCst)), (0, 0));

    // A page of one browser asks for the gate of another, by every name it has.
    let gate = scene.open().await;
    let port = foreign.server().rsplit_once(':').unwrap().1.to_owned();
    for host in ["127.0.0.1", "localhost", "0", "[::ffff:127.0.0.1]"] {
        let url = format!("http://{host}:{port}/");
        assert_eq!(get(&mut connect(&gate).await, &url).await, "");
        assert!(matches!(gate.refused(&url), Some(Refusal::Blocked(Blocked::Own { .. }))), "{host}");
    }
}

fn through(proxy: &str) -> Egress {
    Egress { proxy_server: Some(proxy.to_owned()), ..Egress::default() }
}

#[tokio::test]
async fn a_sessions_own_proxy_gets_everything_and_nothing_goes_around_it() {
    let scene = Scene::new(Network::Local, &[], &["site.test 127.0.0.1"]);
    let (site, direct) = server("127.0.0.1:0", &scene.tasks).await;
    let (proxy, _) = server("127.0.0.1:0", &scene.tasks).await;
    let gate = scene.gate(&through(&format!("http://me:secret@{proxy}"))).await;
    let url = format!("http://unknown.test:{}/x", site.port());
    let answer = get(&mut connect(&gate).await, &url).await;
    assert!(answer.contains(&format!("GET {url} HTTP/1.1")) && answer.contains("Basic bWU6c2VjcmV0"), "{answer}");
    let mut stream = connect(&gate).await;
    assert!(tunnel(&mut stream, "unknown.test:443").await.starts_with("HTTP/1.1 200"));
    drop(stream);

    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (unwilling, _) = answering("127.0.0.1:0", &scene.tasks, |_| {
        "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n".to_owned()
    })
    .await;
    for (proxy, words) in [(nobody, "cannot be connected to"), (unwilling, "another user name")] {
        let gate = scene.gate(&through(&proxy.to_string())).await;
        let url = format!("http://site.test:{}/", site.port());
        assert_eq!(get(&mut connect(&gate).await, &url).await, "");
        let failure = gate.failure("net::ERR_EMPTY_RESPONSE", &url);
        assert!(failure.code == ErrorCode::EgressUnavailable && failure.message.contains(words), "{failure}");
        assert!(
            tunnel(&mut connect(&gate).await, &format!("site.test:{}", site.port())).await.starts_with("HTTP/1.1 403")
        );
    }
    assert_eq!(direct.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_sessions_own_proxy_is_no_way_inside() {
    let (scene, _gate, port, hits) = guarded(&["proxy.test 127.0.0.2"]).await;
    for proxy in [format!("127.0.0.2:{port}"), format!("proxy.test:{port}")] {
        let gate = scene.gate(&through(&proxy)).await;
        assert_eq!(get(&mut connect(&gate).await, "http://8.8.8.8/").await, "");
        assert!(matches!(gate.refused("http://8.8.8.8/"), Some(Refusal::Blocked(_))));
    }
    // Nor for addresses that are written out.
    let gate = scene.gate(&through(&format!("127.0.0.1:{port}"))).await;
    assert_eq!(get(&mut connect(&gate).await, &format!("http://127.0.0.2:{port}/")).await, "");
    assert_eq!(hits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_server_cannot_ask_for_the_proxys_password() {
    let scene = Scene::new(Network::Local, &[], &[]);
    let (address, _) = answering("127.0.0.1:0", &scene.tasks, |_| {
        "HTTP/1.1 407 Give\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n".to_owned()
    })
    .await;
    let gate = scene.open().await;
    let url = format!("http://{address}/");
    assert_eq!(get(&mut connect(&gate).await, &url).await, "");
    assert_eq!(gate.refused(&url), Some(Refusal::AsksForCredentials));
}

/// More than there are places for: the last are closed at once, and the first are served.
#[tokio::test]
async fn connections_are_bounded() {
    let scene = Scene::new(Network::Local, &[], &[]);
    let (address, _) = server("127.0.0.1:0", &scene.tasks).await;
    let gate = scene.open().await;
    let url = format!("http://{address}/");
    let mut held = Vec::new();
    for _ in 0..128 {
        let mut stream = connect(&gate).await;
        assert!(get(&mut stream, &url).await.starts_with("HTTP/1.1 200"));
        held.push(stream);
    }
    let mut one_more = connect(&gate).await;
    let mut answer = Vec::new();
    let _reset = timeout(LIMIT, one_more.read_to_end(&mut answer)).await.expect("it is closed");
    assert!(answer.is_empty());
}

#[tokio::test]
async fn gates_of_a_browser_with_a_network_of_its_own_are_told_apart_by_address() {
    let scene = Scene::new(Network::Local, &[], &[]);
    let (address, hits) = server("127.0.0.1:0", &scene.tasks).await;
    let url = format!("http://{address}/");
    let entrance = Entrance::inside();
    // The test's network plays the browser's: it has another port to listen at.
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (one, other) =
        (Gate::open(&scene.exits, &entrance).await.unwrap(), Gate::open(&scene.exits, &entrance).await.unwrap());
    assert_ne!(one.server(), other.server());
    entrance.open(&scene.exits, 1, Some(listener)).unwrap();
    one.lease(Egress::default().rules().unwrap());
    let connect = async |gate: &Gate| {
        let server: std::net::SocketAddrV4 = gate.server().strip_prefix("http://").unwrap().parse().unwrap();
        assert_eq!(Some(server.port()), entrance.port());
        TcpStream::connect((*server.ip(), port)).await.unwrap()
    };
    assert!(get(&mut connect(&one).await, &url).await.starts_with("HTTP/1.1 200"));
    assert_eq!(get(&mut connect(&other).await, &url).await, "");
    assert_eq!(other.refused(&url), Some(Refusal::Blocked(Blocked::Unleased)));
    // No gate is there.
    assert_eq!(get(&mut TcpStream::connect(("127.9.9.9", port)).await.unwrap(), &url).await, "");
    let mut kept = connect(&one).await;
    assert!(get(&mut kept, &url).await.starts_with("HTTP/1.1 200"));
    one.close();
    assert_eq!(get(&mut kept, &url).await, "");
    assert_eq!(get(&mut connect(&one).await, &url).await, "", "its address is nobody's any more");
    assert_eq!(hits.load(Ordering::SeqCst), 2);
    drop((one, other, entrance));
    // Whoever listens goes with the last of them.
    let refused = async || TcpStream::connect(("127.0.0.1", port)).await.is_err();
    assert!(timeout(LIMIT, async { while !refused().await {} }).await.is_ok());
}
