//! The way out of real browsers, through the daemon: what is reached, what is not, and how agents are told.

use std::{fs, path::Path, time::Duration};

use anyhow::Context as _;
use browserfleet_common::pb;
use browserfleet_pool_daemon::{
    chromium::Demand,
    config::Config,
    egress::{Network, Opened, Target, target},
};
use browserfleet_tests::{
    daemon::{Daemon, Lease},
    places::{Names, Place, html, redirect},
    processes,
};
use serde_json::json;
use tokio::{net::TcpStream, time::timeout};
use url::Url;

type Outcome = anyhow::Result<()>;

const LIMIT: Duration = Duration::from_secs(30);

/// A site that is open, a place inside that is not, and a daemon whose network is public but for the site. Names that end
/// in `.test` lead where the table says.
struct Scene {
    daemon: Daemon,
    site: Place,
    inside: Place,
}

impl Scene {
    async fn new(adjust: impl FnOnce(&mut Config)) -> anyhow::Result<Self> {
        let inside = Place::start("127.0.0.2:0", |_| html("<title>Inside</title>secret")).await?;
        // The same port on both, so that only the address makes the difference.
        let port = inside.address.port();
        let site = Place::start(&format!("127.0.0.1:{port}"), move |path| answer(path, port)).await?;
        let daemon = Daemon::start(|config| {
            config.egress.network = Network::Public;
            config.egress.allow = vec![Opened::parse("127.0.0.1").expect("an address")];
            config.egress.resolver = Names::new(&[("site.test", "127.0.0.1"), ("inside.test", "127.0.0.2")]);
            adjust(config);
        })?;
        Ok(Self { daemon, site, inside })
    }

    fn named(&self, name: &str, path: &str) -> String {
        format!("http://{name}.test:{}{path}", self.site.address.port())
    }

    async fn lease(&self, session: &str, egress: pb::Egress) -> anyhow::Result<Lease> {
        let request = pb::AcquireRequest {
            principal: "tester".to_owned(),
            session: session.to_owned(),
            birth: "1".to_owned(),
            ttl: None,
            wait: Some(pb::to_wire(Duration::from_mins(1))),
            egress: Some(egress),
            ..pb::AcquireRequest::default()
        };
        self.daemon.granted(request).await
    }

    async fn end(self) -> Outcome {
        assert_eq!(self.inside.seen(), [] as [&str; 0], "nobody has come to the place inside");
        self.daemon.end().await
    }
}

fn answer(path: &str, port: u16) -> String {
    match path {
        "/away" => redirect(&format!("http://inside.test:{port}/from-redirect?secret=1")),
        "/parts" => html(&format!(
            "<title>Parts</title><h1>Parts</h1><img src='http://inside.test:{port}/img'>
             <iframe src='http://inside.test:{port}/frame'></iframe>
             <script>fetch('http://inside.test:{port}/fetch').then(r => r.text()).catch(e => e.message)
             .then(t => {{ document.title = 'got ' + t }})</script>"
        )),
        "/link" => html(&format!("<title>Link</title><a href='http://inside.test:{port}/clicked'>Go in</a>")),
        _ => html("<title>Site</title><h1>Welcome</h1>"),
    }
}

/// A port where nobody listens.
fn closed_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it has an address").port()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_page_is_a_typed_error_that_says_what_led_where() -> Outcome {
    let scene = Scene::new(|_| {}).await?;
    let lease = scene.daemon.lease("a").await?;
    let welcome = lease.ok("browser_navigate", json!({ "url": scene.named("site", "/") })).await?;
    assert!(welcome.text.contains("Welcome"), "{}", welcome.text);

    let port = scene.site.address.port();
    for (url, words) in [
        (scene.named("inside", "/"), "inside.test:PORT leads to 127.0.0.2, an address of this machine"),
        (scene.named("site", "/away"), "Attempted URL: http://inside.test:PORT/from-redirect"),
        (scene.inside.at("/literal"), "127.0.0.2:PORT is an address of this machine: browsers here reach public"),
        (format!("http://[::ffff:127.0.0.2]:{port}/"), "is an address of this machine"),
        ("http://localhost/".to_owned(), "localhost:80 is an address of this machine"),
        ("http://169.254.169.254/".to_owned(), "a cloud metadata address: it hands out credentials"),
        ("https://inside.test/".to_owned(), "inside.test:443 leads to 127.0.0.2"),
    ] {
        let answer = lease.call("browser_navigate", json!({ "url": url })).await?;
        let error = answer.error.unwrap_or_default();
        assert_eq!(error.code, "url_blocked", "{url}: {error:?}");
        assert!(error.message.contains(&words.replace("PORT", &port.to_string())), "{url}: {error:?}");
    }
    // What fails without a gate fails with one, by the same name.
    for (url, words) in [
        (&"http://unknown.test/".to_owned(), "net::ERR_NAME_NOT_RESOLVED"),
        (&format!("http://127.0.0.1:{}/", closed_port()), "net::ERR_CONNECTION_REFUSED"),
        (&format!("https://127.0.0.1:{}/", closed_port()), "net::ERR_CONNECTION_REFUSED"),
    ] {
        let error = lease.call("browser_navigate", json!({ "url": url })).await?.error.unwrap_or_default();
        assert!(error.code == "navigation_failed" && error.message.starts_with(words), "{url}: {error:?}");
    }
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn blocked_parts_are_in_the_list_of_requests_and_nowhere_else() -> Outcome {
    let scene = Scene::new(|_| {}).await?;
    let lease = scene.daemon.lease("a").await?;
    lease.ok("browser_navigate", json!({ "url": scene.named("site", "/parts") })).await?;
    let page = lease.ok("browser_wait_for", json!({ "time": 0.2 })).await?;
    assert!(page.text.contains("got Failed to fetch") && !page.text.contains("secret"), "{}", page.text);
    let list = lease.ok("browser_network_requests", json!({ "static": true })).await?.text;
    for part in ["/img", "/frame", "/fetch"] {
        let line = list.lines().find(|line| line.contains(part)).unwrap_or_default();
        assert!(line.contains("[FAILED] inside.test:") && line.contains("leads to 127.0.0.2"), "{list}");
    }

    lease.ok("browser_navigate", json!({ "url": scene.named("site", "/link") })).await?;
    let clicked = lease.ok("browser_click", json!({ "target": "text=Go in" })).await?;
    let told = clicked.text.contains("/clicked") && clicked.text.contains("could not be loaded: inside.test:");
    assert!(told, "{}", clicked.text);
    let reloaded = lease.call("browser_reload", json!({})).await?;
    assert_eq!(reloaded.outcome(), "url_blocked", "{reloaded:?}");
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_one_browser_have_each_their_own_way_out() -> Outcome {
    let scene = Scene::new(|config| config.limits.contexts_per_browser = 3).await?;
    let only = |origin: String| pb::Egress { allowed_origins: vec![origin], ..pb::Egress::default() };
    let (to_site, elsewhere) = (only("site.test".to_owned()), only("https://elsewhere.test".to_owned()));
    let (a, b) = (scene.lease("a", to_site).await?, scene.lease("b", elsewhere).await?);
    assert_eq!(a.lease.browser_pid, b.lease.browser_pid, "they share a browser");
    a.ok("browser_navigate", json!({ "url": scene.named("site", "/") })).await?;
    let other = b.call("browser_navigate", json!({ "url": scene.named("site", "/") })).await?.error.unwrap_or_default();
    assert!(other.code == "url_blocked" && other.message.contains("allowed_origins"), "{other:?}");
    // From within a page, too, where no tool looks.
    let script = format!("fetch({:?}).then(() => 'reached', e => e.message)", scene.site.at("/from-script"));
    for lease in [&a, &b] {
        let result = lease.ok("browser_evaluate", json!({ "function": format!("() => {script}") })).await?;
        assert!(result.text.contains("Failed to fetch"), "{}", result.text);
    }
    assert_eq!(scene.site.seen(), ["/"]);
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_proxy_is_said_and_nothing_goes_around_it() -> Outcome {
    let scene = Scene::new(|_| {}).await?;
    let dead = pb::Egress { proxy_server: format!("http://127.0.0.1:{}", closed_port()), ..pb::Egress::default() };
    let lease = scene.lease("a", dead).await?;
    for scheme in ["http", "https"] {
        let url = format!("{scheme}://site.test:{}/", if scheme == "http" { 80 } else { 443 });
        let error = lease.call("browser_navigate", json!({ "url": url })).await?.error.unwrap_or_default();
        assert_eq!(error.code, "egress_unavailable", "{error:?}");
        assert!(error.message.contains("proxy_server cannot be connected to"), "{error:?}");
    }
    let bad = pb::Egress { blocked_origins: vec!["ftp://x".to_owned()], ..pb::Egress::default() };
    let refused = scene.lease("b", bad).await.unwrap_err().to_string();
    assert!(refused.contains("blocked_origins: ") && refused.contains("is no origin such as"), "{refused}");
    assert_eq!(scene.site.seen(), [] as [&str; 0]);
    scene.end().await
}

/// The gate that a browser was started with.
fn gate_of(pid: u32) -> String {
    let line = processes::command_line(pid);
    let flag = line.split('\0').find_map(|flag| flag.strip_prefix("--proxy-server=http://"));
    flag.expect("a browser has a gate").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_listen_nowhere_and_their_gates_go_with_them() -> Outcome {
    let scene = Scene::new(|config| config.chromium.network_namespace = Demand::Off).await?;
    let lease = scene.daemon.lease("a").await?;
    lease.ok("browser_navigate", json!({ "url": scene.named("site", "/parts") })).await?;
    assert_eq!(processes::listening(lease.lease.browser_pid), [] as [String; 0]);
    let gate = gate_of(lease.lease.browser_pid);
    // This process is not the browser: it is let in nowhere.
    let mut answer = Vec::new();
    let mut stream = TcpStream::connect(&gate).await?;
    let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer);
    let _reset = timeout(LIMIT, read).await?;
    assert!(answer.is_empty());
    scene.daemon.pool().release(lease.released()).await?;
    let gone = async {
        while TcpStream::connect(&gate).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, gone).await?;
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_of_a_browser_with_a_network_of_its_own_is_there_and_nowhere_else() -> Outcome {
    let scene = Scene::new(|config| config.chromium.network_namespace = Demand::Required).await?;
    let lease = scene.daemon.lease("a").await?;
    let pid = lease.lease.browser_pid;
    lease.ok("browser_navigate", json!({ "url": scene.named("site", "/parts") })).await?;
    assert_eq!(processes::listening(pid), [] as [String; 0]);
    let port: u16 = gate_of(pid).rsplit_once(':').context("an address and a port")?.1.parse()?;
    let listens = |of: &str| {
        let table = fs::read_to_string(format!("/proc/{of}/net/tcp"))?;
        let entry = format!(" 00000000:{port:04X} 00000000:0000 0A ");
        anyhow::Ok(table.lines().any(|line| line.contains(&entry)))
    };
    assert!(listens(&pid.to_string())? && !listens("self")?);
    scene.daemon.pool().release(lease.released()).await?;
    scene.end().await
}

/// What they are made of.
const SCHEMES: [&str; 12] = [
    "http://",
    "https://",
    "HTTP:/",
    "http:\\\\",
    "http:",
    "ws://",
    "file:///",
    "view-source:http://",
    "\thttp://",
    "http:///",
    "chrome://",
    "devtools://",
];
/// … in any order.
const PARTS: [&str; 59] = [
    "127.0.0.1",
    "127.1",
    "0",
    "0x7f000001",
    "0x7f.1",
    "2130706433",
    "017700000001",
    "①②⑦.0.0.1",
    "１２７.１",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::7f00:1]",
    "localhost",
    "LOCALHOST.",
    "a.localhost",
    "ｌocalhost",
    "example.com",
    "exa\u{ad}mple.com",
    "bücher.example",
    "xn--bcher-kva.example",
    "☃.net",
    "a..b",
    ".",
    "%31%32%37.0.0.1",
    "169.254.169.254",
    "256.0.0.1",
    "1.2.3.4.5",
    "0x",
    "08.0.0.1",
    "0..0x1",
    "[fe80::1%25eth0]",
    "user@",
    "user:pw@",
    "a@b@",
    ":80",
    ":443",
    ":0",
    ":65536",
    ":",
    "/",
    "\\",
    "?",
    "#",
    "@",
    " ",
    "\t",
    "\n",
    "%00",
    "%2e",
    "。",
    "．",
    "ß",
    "ﬀ",
    "\u{200b}",
    "*",
    "/../",
    "/x",
];

/// Strings that look like URLs, the stranger the better; always the same ones.
fn strange_urls(many: usize) -> Vec<String> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut draw = move |below: usize| {
        // A linear congruential generator is random enough to mix these.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap_or(0) % below
    };
    let one = |draw: &mut dyn FnMut(usize) -> usize| {
        let parts: Vec<_> = (0..=draw(4)).map(|_| PARTS[draw(PARTS.len())]).collect();
        format!("{}{}", SCHEMES[draw(SCHEMES.len())], parts.concat())
    };
    (0..many).map(|_| one(&mut draw)).collect()
}

/// What fuzzing our reader has found worth keeping, but for what leads nowhere. Long ones would make the page's answer too long.
fn fuzzed_urls() -> std::io::Result<Vec<String>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/url_policy");
    let read = fs::read_dir(corpus)?.map(|entry| fs::read(entry?.path())).collect::<Result<Vec<_>, _>>()?;
    let texts = read.into_iter().filter(|bytes| bytes.len() <= 300).filter_map(|bytes| String::from_utf8(bytes).ok());
    Ok(texts.filter(|url| target::parse(url).is_ok_and(|url| url.scheme() != "about")).collect())
}

/// The gate's reader and Chromium's agree on where a URL leads, or ours refuses it.
#[tokio::test(flavor = "multi_thread")]
async fn chromium_reads_urls_as_we_do() -> Outcome {
    let scene = Scene::new(|_| {}).await?;
    let lease = scene.daemon.lease("a").await?;
    let (mut compared, mut refused) = (0, Vec::new());
    let mut strange = strange_urls(6000);
    strange.extend(fuzzed_urls()?);
    for urls in strange.chunks(1500) {
        // Each as it was written, and each as we would hand it on.
        let ours: Vec<_> = urls.iter().map(|url| target::parse(url).ok()).collect();
        let handed_on: Vec<_> = ours.iter().map(|url| url.as_ref().map(Url::as_str)).collect();
        let function = format!(
            "() => {{ const read = u => {{ try {{ const p = new URL(u); return /^https?:$/.test(p.protocol) ? p.protocol + p.hostname + ':' + p.port : p.protocol }} catch {{ return null }} }}; \
             return [{}, {}].map(list => list.map(u => u === null ? null : read(u))) }}",
            json!(urls),
            json!(handed_on)
        );
        let result = lease.ok("browser_evaluate", json!({ "function": function })).await?.text;
        let json = result
            .lines()
            .skip_while(|line| !line.starts_with('['))
            .take_while(|line| !line.starts_with("###"))
            .collect::<String>();
        let theirs: Vec<Vec<Option<String>>> = serde_json::from_str(&json)?;
        for (index, url) in urls.iter().enumerate() {
            let shown = |url: &Url| {
                format!(
                    "{}:{}:{}",
                    url.scheme(),
                    url.host_str().unwrap_or_default(),
                    url.port().map_or(String::new(), |port| port.to_string())
                )
            };
            match &ours[index] {
                Some(ours) => {
                    let shown = shown(ours);
                    assert_eq!(theirs[1][index].as_deref(), Some(shown.as_str()), "{url:?} handed on as {ours}");
                    // Chromium reads an address bar's shorthand in its own way; a whole URL as everybody does.
                    let whole = |theirs: &&str| theirs.starts_with("http:") || theirs.starts_with("https:");
                    if let Some(theirs) = theirs[0][index].as_deref().filter(whole) {
                        assert_eq!(theirs, shown, "{url:?}");
                        assert!(Target::of(ours).is_some());
                        compared += 1;
                    }
                }
                None => refused.push(url),
            }
        }
    }
    assert!(compared > 1000, "only {compared} URLs were compared; {} were refused", refused.len());
    scene.end().await
}
