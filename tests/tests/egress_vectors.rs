//! No packet of a browser reaches a forbidden place, by any of the ways that pages have.
//!
//! In a network namespace that the test makes itself, by running once more inside: there `10.77.0.1` is a network of
//! ours that nobody may reach, `93.184.216.34` a public site, and whatever leaves the machine ends at a cable's other end.
//! Every packet is seen by a raw socket. That this works, and that the pages try, is shown by the same pages where they
//! may: in a `local` network, and, for what Chromium's flags prevent, in a Chromium without them.

use std::{collections::BTreeSet, net::IpAddr, process::Stdio, time::Duration};

use anyhow::Context as _;
use browserfleet_pool_daemon::{
    chromium::Demand,
    egress::{Network, Opened},
};
use browserfleet_tests::{
    browsers,
    daemon::{Daemon, Lease},
    packets::{Packet, Packets},
    places::{Names, Place, html, redirect, respond},
    processes,
};
use serde_json::json;
use tokio::{process::Command, time::timeout};

type Outcome = anyhow::Result<()>;

/// Says that the test runs inside its namespace.
const INSIDE: &str = "EGRESS_TEST_IS_INSIDE";
const SITE: &str = "93.184.216.34";
/// Where pages are in a secure context without TLS: service workers, worklets and `WebTransport` exist only there.
const PAGES: &str = "site.localhost:8080";
const FORBIDDEN: &str = "10.77.0.1";
/// Of everything inside.
const LIMIT: Duration = Duration::from_mins(5);
/// For what is certain to come.
const SOON: Duration = Duration::from_mins(1);

/// Pages that go elsewhere themselves.
const TOP: [&str; 5] = ["top-302", "top-meta", "top-js", "top-form", "top-post"];
/// Pages that try one thing that only secure contexts have. Where QUIC is off some of their renderers crash.
const ALONE: [&str; 4] = ["webtransport", "service-worker", "worklet", "speculation"];
/// What must come, where it may.
const VECTORS: &[&str] = &[
    "img",
    "srcset",
    "picture",
    "input-image",
    "svg-image",
    "script",
    "module",
    "module-import",
    "dynamic-import",
    "modulepreload",
    "css",
    "css-import",
    "css-background",
    "css-font",
    "iframe",
    "iframe-location",
    "iframe-meta",
    "iframe-302",
    "object",
    "embed",
    "video",
    "poster",
    "audio",
    "preload",
    "prefetch",
    "fetch",
    "fetch-post",
    "fetch-keepalive",
    "xhr",
    "beacon",
    "ping",
    "event-source",
    "websocket",
    "shared-worker",
    "form",
    "form-post",
    "window-open",
    "csp-report",
];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the right to make a network namespace: make test-egress"]
async fn no_packet_reaches_a_forbidden_place() -> Outcome {
    if std::env::var_os(INSIDE).is_some() {
        return timeout(LIMIT, inside()).await.context("the whole of it took too long")?;
    }
    let own_namespace: &[&str] = if nix::unistd::geteuid().is_root() {
        &["--net"]
    } else {
        &["--user", "--map-current-user", "--keep-caps", "--net"]
    };
    let mut again = Command::new("unshare");
    again.args(own_namespace).arg("--").arg(std::env::current_exe()?).args(["--include-ignored", "--nocapture"]);
    let status = again.env(INSIDE, "1").kill_on_drop(true).status();
    let status = timeout(LIMIT, status).await?.context("unshare (package util-linux) makes the namespace")?;
    anyhow::ensure!(status.success(), "inside the namespace: {status}");
    Ok(())
}

async fn ip(arguments: &str) -> Outcome {
    let done = Command::new("ip").args(arguments.split(' ')).status().await.context("ip (package iproute2)")?;
    anyhow::ensure!(done.success(), "ip {arguments}: {done}");
    Ok(())
}

async fn network() -> Outcome {
    ip("link set lo up").await?;
    ip("link add outside0 type veth peer name outside1").await?;
    for end in ["outside0", "outside1"] {
        // Its own announcements are nobody's attempt.
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{end}/disable_ipv6"), "1")?;
        // Nobody is there to be asked for: packets go out all the same.
        ip(&format!("link set {end} arp off up")).await?;
    }
    ip("addr add 192.0.2.1/24 dev outside0").await?;
    ip("route add default dev outside0").await?;
    ip(&format!("addr add {SITE}/32 dev lo")).await?;
    ip(&format!("addr add {FORBIDDEN}/32 dev lo")).await
}

/// The site, and the two places nobody may reach.
struct World {
    /// Secure pages.
    _pages: Place,
    site: Place,
    forbidden: [Place; 2],
    packets: Packets,
}

impl World {
    async fn new() -> anyhow::Result<Self> {
        network().await?;
        let packets = Packets::watch()?;
        let hit = |_path: &str| respond("200 OK", "Content-Type: text/plain\r\n", "reached");
        let forbidden =
            [Place::start(&format!("{FORBIDDEN}:80"), hit).await?, Place::start("127.0.0.1:80", hit).await?];
        let pages = Place::start("127.0.0.1:8080", site).await?;
        let site = Place::start(&format!("{SITE}:80"), site).await?;
        Ok(Self { _pages: pages, site, forbidden, packets })
    }

    /// The vectors that have reached a forbidden place.
    fn hits(&self) -> BTreeSet<String> {
        let seen = self.forbidden.iter().flat_map(Place::seen);
        seen.filter_map(|path| path.strip_prefix("/hit/").map(|hit| hit.split('?').next().unwrap_or(hit).to_owned()))
            .collect()
    }

    fn forget(&self) {
        self.forbidden.iter().for_each(Place::forget);
        self.packets.forget();
    }

    /// Has a session's browser try everything that leads to `base`.
    async fn try_all(&self, lease: &Lease, base: &str) -> Outcome {
        self.site.forget();
        let tried = |seen: &[String]| seen.iter().any(|path| path == "/tried");
        let url = format!("http://site.test/all?{base}");
        // Some of these crash Chromium's renderer now and then: then once more.
        for _ in 0..5 {
            let outcome = lease.call("browser_navigate", json!({ "url": url })).await?;
            if outcome.error.is_none() && timeout(SOON / 3, self.site.until(tried)).await.is_ok() {
                break;
            }
        }
        anyhow::ensure!(tried(&self.site.seen()), "the page that tries has never come to its end");
        let tops = TOP.iter().map(|page| ("site.test", page));
        for (host, page) in tops.chain(ALONE.iter().map(|page| (PAGES, page))) {
            // Whether it fails is not the question here.
            let url = format!("http://{host}/{page}?{base}");
            let _outcome = lease.call("browser_navigate", json!({ "url": url })).await?;
            let _settled = lease.call("browser_wait_for", json!({ "time": 0.5 })).await?;
        }
        Ok(())
    }
}

async fn inside() -> Outcome {
    let world = World::new().await?;
    counter_works(&world).await?;
    flags_matter(&world).await?;

    for own in [Demand::Off, Demand::Required] {
        eprintln!("networks of their own: {own:?}");
        nowhere_but_where_they_may(&world, own).await?;
    }
    Ok(())
}

/// Holds for the flags and gates of a browser on the machine's network, and for a network of its own.
async fn nowhere_but_where_they_may(world: &World, own: Demand) -> Outcome {
    // Where they may, the pages reach what they try to: nothing below is silent for want of trying.
    let daemon = daemon(Network::Local, own)?;
    let lease = daemon.lease("local").await?;
    world.try_all(&lease, &format!("http://{FORBIDDEN}")).await?;
    let hits = world.hits();
    let silent: Vec<_> = VECTORS.iter().chain(&TOP).filter(|vector| !hits.contains(**vector)).collect();
    eprintln!("{} ways lead to a place that may be reached: {hits:?}", hits.len());
    assert!(silent.is_empty(), "these pages did not even try: {silent:?}");
    assert_eq!(processes::listening(lease.lease.browser_pid), [] as [String; 0]);
    daemon.end().await?;
    world.forget();

    let daemon = self::daemon(Network::Public, own)?;
    let bases = [
        FORBIDDEN,
        "127.0.0.1",
        "inside.test",
        "localhost",
        "site.test/to/10.77.0.1",
        "site.test/to/127.0.0.1",
        "[::ffff:10.77.0.1]",
    ];
    for (index, base) in bases.into_iter().enumerate() {
        let lease = daemon.lease(&index.to_string()).await?;
        world.try_all(&lease, &format!("http://{base}")).await?;
        assert_eq!(processes::listening(lease.lease.browser_pid), [] as [String; 0]);
        daemon.pool().release(lease.released()).await?;
        let forbidden: Vec<_> = world.packets.seen().into_iter().filter(is_forbidden).collect();
        assert_eq!((world.hits(), forbidden), (BTreeSet::new(), Vec::new()), "on the way to {base}");
        eprintln!("{base}: 0 packets");
    }
    daemon.end().await
}

fn daemon(network: Network, own: Demand) -> anyhow::Result<Daemon> {
    Daemon::start(|config| {
        config.chromium.network_namespace = own;
        config.egress.network = network;
        config.egress.allow = vec![Opened::parse(PAGES).expect("a host and a port")];
        config.egress.resolver = Names::new(&[("site.test", SITE), ("inside.test", FORBIDDEN)]);
    })
}

/// All but a browser's way to its gate, and the gate's to the site.
fn is_forbidden(packet: &Packet) -> bool {
    let site = packet.to == SITE.parse::<IpAddr>().expect("an address");
    let gate = packet.to == IpAddr::from([127, 0, 0, 1]) && packet.port != 80;
    !(packet.is_tcp() && (site || gate))
}

async fn counter_works(world: &World) -> Outcome {
    let socket = tokio::net::UdpSocket::bind("0.0.0.0:0").await?;
    for to in [format!("{FORBIDDEN}:9"), "8.8.8.8:53".to_owned()] {
        socket.send_to(b"x", &to).await?;
        let (address, port) = to.rsplit_once(':').context("an address and a port")?;
        let (address, port): (IpAddr, u16) = (address.parse()?, port.parse()?);
        let seen =
            world.packets.until(|packets| packets.iter().any(|packet| packet.to == address && packet.port == port));
        timeout(SOON, seen).await?;
        assert!(world.packets.seen().iter().any(is_forbidden));
    }
    world.forget();
    Ok(())
}

/// What our flags prevent does happen without them: STUN over UDP, TURN over TCP, QUIC, asking a name server.
async fn flags_matter(world: &World) -> Outcome {
    let (config, dir) = browsers::settings()?;
    let mut plain = Command::new(&config.chromium.executable);
    plain
        .args(["--headless", "--no-sandbox", "--no-first-run", "--disable-background-networking"])
        // It shall go straight there, whatever this shell's environment says about proxies.
        .env_clear()
        .args(["--no-proxy-server", "--disable-features=LocalNetworkAccessChecks"])
        .arg(format!("--user-data-dir={}", dir.path().join("plain").display()))
        .arg("--dump-dom")
        .arg(format!("http://{PAGES}/both?http://{FORBIDDEN}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    let mut browser = plain.spawn()?;
    let came = |packets: &BTreeSet<Packet>| {
        let udp = |port| packets.iter().any(|packet| !packet.is_tcp() && packet.port == port);
        let turn = packets.iter().any(|packet| packet.is_tcp() && packet.port == 3479);
        [("STUN", udp(3478)), ("TURN", turn), ("QUIC", udp(443)), ("DNS", udp(53))]
    };
    let all = timeout(SOON, world.packets.until(|packets| came(packets).iter().all(|(_, came)| *came))).await;
    let seen = world.packets.seen();
    // The group: its renderers do not end with it at once.
    if let Some(pid) = browser.id() {
        let group = nix::unistd::Pid::from_raw(i32::try_from(pid)?);
        nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL)?;
    }
    browser.wait().await?;
    while browser.id().is_some_and(|pid| processes::in_group(pid) > 0) {
        tokio::task::yield_now().await;
    }
    eprintln!("without flags: {:?}", came(&seen));
    all.with_context(|| format!("without flags these should all be seen: {:?}", came(&seen)))?;
    world.forget();
    Ok(())
}

/// The site: pages that try to reach the base in their query.
fn site(path: &str) -> String {
    let (path, base) = path.split_once('?').unwrap_or((path, ""));
    let hit = |name: &str| format!("{base}/hit/{name}");
    match path {
        "/all" => html(ALL),
        "/sw.js" => respond(
            "200 OK",
            "Content-Type: text/javascript\r\n",
            &format!("fetch('{}', {{mode:'no-cors'}})", hit("service-worker")),
        ),
        "/shared.js" => respond(
            "200 OK",
            "Content-Type: text/javascript\r\n",
            &format!(
                "fetch('{}', {{mode:'no-cors'}}); onconnect = e => e.ports[0].postMessage('tried')",
                hit("shared-worker")
            ),
        ),
        "/imports.js" => {
            respond("200 OK", "Content-Type: text/javascript\r\n", &format!("import '{}'", hit("module-import")))
        }
        "/csp" => respond(
            "200 OK",
            &format!(
                "Content-Type: text/html\r\nContent-Security-Policy: img-src 'none'; report-uri {}\r\n",
                hit("csp-report")
            ),
            "<img src=/x.png>",
        ),
        "/webtransport" => html(&format!(
            "<script>new WebTransport('{}:443/hit/webtransport')</script>",
            base.replace("http:", "https:")
        )),
        "/service-worker" => html(&format!("<script>navigator.serviceWorker.register('/sw.js?{base}')</script>")),
        "/worklet" => {
            html(&format!("<script>new AudioContext().audioWorklet.addModule('{}')</script>", hit("worklet")))
        }
        "/speculation" => html(&format!(
            r#"<script type=speculationrules>{{"prefetch":[{{"source":"list","urls":["{0}"],"eagerness":"immediate"}}],
             "prerender":[{{"source":"list","urls":["{0}"],"eagerness":"immediate"}}]}}</script>"#,
            hit("speculation")
        )),
        "/both" => html(&format!("<iframe src='/all?{base}'></iframe><iframe src='/webtransport?{base}'></iframe>")),
        "/302" => redirect(&hit("iframe-302")),
        "/top-302" => redirect(&hit("top-302")),
        "/meta" => html(&format!("<meta http-equiv=refresh content='0;url={}'>", hit("iframe-meta"))),
        "/top-meta" => html(&format!("<meta http-equiv=refresh content='0;url={}'>", hit("top-meta"))),
        "/top-js" => html(&format!("<script>location = '{}'</script>", hit("top-js"))),
        "/top-form" => {
            html(&format!("<form action='{}'></form><script>document.forms[0].submit()</script>", hit("top-form")))
        }
        "/top-post" => html(&format!(
            "<form method=post action='{}'></form><script>document.forms[0].submit()</script>",
            hit("top-post")
        )),
        // A detour: this site sends whoever asks for /to/HOST/PATH there.
        _ => path.strip_prefix("/to/").map_or_else(|| html(""), |to| redirect(&format!("http://{to}"))),
    }
}

const ALL: &str = include_str!("egress_vectors.html");
