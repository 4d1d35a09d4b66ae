//! Chromium's processes, for real: sandbox, users, sockets, and an end without remains.
#![expect(clippy::unwrap_used, reason = "clippy sees test code in #[test] functions only, not in their helpers")]

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use browserfleet_common::lifecycle::Tasks;
use browserfleet_pool_daemon::chromium::{self, Child, Config, Demand, End, Exit, Process, Spawner, WayOut};
use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::{Pid, geteuid},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::unix::pipe,
    time::{sleep, timeout},
};

const LIMIT: Duration = Duration::from_secs(30);
const UID_BASE: u32 = 62_000;

/// The browser to test with. Without one these tests fail: they have nothing to say about a machine without it.
fn executable() -> PathBuf {
    let configured = env::var_os("BROWSERFLEET_TEST_CHROMIUM").map(PathBuf::from);
    chromium::find(configured.as_deref()).unwrap_or_else(|error| {
        panic!("{error}\nthese tests need Chromium: apt-get install chromium-headless-shell, or set BROWSERFLEET_TEST_CHROMIUM")
    })
}

struct Scene {
    spawner: Spawner,
    _dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        Self::with(Demand::Off)
    }

    fn with(network_namespace: Demand) -> Self {
        chromium::become_subreaper().unwrap();
        let dir = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o711)).tempdir().unwrap();
        let config = Config {
            executable: executable(),
            no_sandbox: false,
            launch_timeout: LIMIT,
            term_grace: Duration::from_secs(5),
            kill_grace: LIMIT,
            state_dir: dir.path().join("state"),
            extra_args: Vec::new(),
            uid_base: UID_BASE,
            cgroup: Demand::Off,
            network_namespace,
            memory_limit: 1 << 30,
            max_tasks: 2048,
            download_bytes: 0,
        };
        Self { spawner: Spawner::start(config, &Tasks::new()).unwrap(), _dir: dir }
    }

    async fn launch(&self, slot: u32) -> Browser {
        self.launch_towards(slot, None).await.0
    }

    /// A browser whose proxy is at that port of a network of its own, or nowhere on the machine's; and what listens there.
    async fn launch_towards(&self, slot: u32, inside: Option<u16>) -> (Browser, Option<TcpListener>) {
        let way_out = WayOut { proxy_server: format!("http://127.0.0.1:{}", inside.unwrap_or(1)), inside };
        let Child { read, write, process, listener } = self.spawner.launch(slot, Some(way_out)).await.unwrap();
        let mut browser = Browser {
            read: pipe::Receiver::from_owned_fd(read).unwrap(),
            write: pipe::Sender::from_owned_fd(write).unwrap(),
            buffer: Vec::new(),
            next: 0,
            process,
        };
        let version = browser.call("Browser.getVersion", json!({})).await;
        assert!(version["product"].as_str().unwrap().contains("Chrome/"), "{version}");
        (browser, listener)
    }

    /// Nothing but the lock is left in the daemon's directory.
    fn assert_no_profile(&self) {
        let left: Vec<_> =
            fs::read_dir(self.spawner.instance().path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["lock"]);
    }
}

/// A browser with the least of a protocol client.
struct Browser {
    read: pipe::Receiver,
    write: pipe::Sender,
    buffer: Vec<u8>,
    next: u64,
    process: Process,
}

impl Browser {
    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.call_in(None, method, params).await
    }

    async fn call_in(&mut self, session: Option<&str>, method: &str, params: Value) -> Value {
        self.next += 1;
        let mut message = json!({ "id": self.next, "method": method, "params": params });
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let mut frame = message.to_string().into_bytes();
        frame.push(0);
        self.write.write_all(&frame).await.unwrap();
        loop {
            let message = timeout(LIMIT, self.message()).await.expect("an answer in time");
            if message["id"] == self.next {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].clone();
            }
        }
    }

    async fn message(&mut self) -> Value {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == 0) {
                let frame: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&frame[..end]).unwrap();
            }
            let read = self.read.read_buf(&mut self.buffer).await.unwrap();
            assert_ne!(read, 0, "the browser is gone: {}", self.process.stderr_tail());
        }
    }

    /// Opens a page in a context of its own and answers its session.
    async fn open(&mut self, html: &str) -> String {
        let context = self.call("Target.createBrowserContext", json!({})).await["browserContextId"].clone();
        let url = format!("data:text/html,{html}");
        let target = self.call("Target.createTarget", json!({ "url": url, "browserContextId": context })).await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        self.call("Target.attachToTarget", attach).await["sessionId"].as_str().unwrap().to_owned()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.process.pid().try_into().unwrap())
    }

    /// All processes of the group, zombies included.
    fn group(&self) -> Vec<Proc> {
        let ours = |process: &Proc| process.group == self.pid().as_raw();
        fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| Proc::read(entry.unwrap().file_name().to_str()?.parse().ok()?))
            .filter(ours)
            .collect()
    }
}

/// What `/proc` says about a process.
#[derive(Debug)]
struct Proc {
    pid: i32,
    group: i32,
    command: String,
    status: String,
}

impl Proc {
    fn read(pid: i32) -> Option<Self> {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
        let stat = read("stat")?;
        let group = stat.rsplit_once(')')?.1.split_whitespace().nth(2)?.parse().ok()?;
        Some(Self { pid, group, command: read("cmdline")?.replace('\0', " "), status: read("status")? })
    }

    /// The words after `key:`.
    fn field(&self, key: &str) -> Vec<&str> {
        let line = self.status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {key}: {}", self.status)).split_whitespace().collect()
    }

    /// Inodes of the sockets it has open.
    fn sockets(&self) -> Vec<String> {
        // A process that has ended meanwhile has none.
        let Ok(descriptors) = fs::read_dir(format!("/proc/{}/fd", self.pid)) else { return Vec::new() };
        descriptors
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
            .collect()
    }

    /// Lines of its network namespace's socket tables for sockets somebody could connect or send to: TCP in LISTEN, UDP
    /// not connected to one peer.
    fn listening(&self) -> Vec<String> {
        let ours = self.sockets();
        let table = |name: &str| fs::read_to_string(format!("/proc/{}/net/{name}", self.pid)).unwrap_or_default();
        [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")]
            .into_iter()
            .flat_map(|(name, open)| {
                let lines: Vec<String> = table(name).lines().skip(1).map(str::to_owned).collect();
                lines.into_iter().filter(move |line| line.split_whitespace().nth(3) == Some(open))
            })
            .filter(|line| {
                line.split_whitespace().nth(9).is_some_and(|inode| ours.iter().any(|socket| socket == inode))
            })
            .collect()
    }
}

/// Processes that name `path` on their command line or in their environment, wherever they went.
fn mentioning(path: &Path) -> Vec<i32> {
    let needle = path.to_str().unwrap();
    let mentions = |pid: i32, name: &str| {
        fs::read(format!("/proc/{pid}/{name}")).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(needle))
    };
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| mentions(*pid, "cmdline") || mentions(*pid, "environ"))
        .collect()
}

/// The user a browser of `slot` must run as.
fn uid(slot: u32) -> String {
    let uid = if geteuid().is_root() { UID_BASE + slot } else { geteuid().as_raw() };
    uid.to_string()
}

#[tokio::test]
async fn a_page_runs_unprivileged_in_the_sandbox_and_nothing_listens() {
    let scene = Scene::new();
    let mut browser = scene.launch(4).await;
    let session = browser.open("<h1>hello</h1>").await;
    let shot = browser.call_in(Some(&session), "Page.captureScreenshot", json!({ "format": "png" })).await;
    let png = BASE64_STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
    assert!(png.starts_with(b"\x89PNG") && png.len() > 1000, "{} bytes", png.len());

    let group = browser.group();
    for process in &group {
        assert_eq!(process.field("Uid"), [&uid(4); 4], "{process:?}");
        assert_eq!(process.listening(), Vec::<String>::new(), "{process:?}");
    }
    if geteuid().is_root() {
        assert!(
            group.iter().any(|process| process.pid == browser.pid().as_raw() && process.field("Groups").is_empty())
        );
    }
    let renderers: Vec<_> = group.iter().filter(|process| process.command.contains("--type=renderer")).collect();
    assert!(!renderers.is_empty());
    for renderer in renderers {
        assert_eq!(renderer.field("Seccomp"), ["2"], "no system call filter: {renderer:?}");
        assert!(renderer.field("NSpid").len() > 1, "no pid namespace: {renderer:?}");
    }
    assert_eq!(browser.process.end().await.left, 0);
}

#[tokio::test]
async fn the_end_leaves_no_process_no_zombie_and_no_directory() {
    let scene = Scene::new();
    let mut browser = scene.launch(5).await;
    browser.open("<h1>hello</h1>").await;
    let ended = browser.process.end().await;
    assert_eq!((ended.how, ended.left), (End::Terminated, 0));
    assert!(browser.group().is_empty());
    assert_eq!(mentioning(scene.spawner.instance().path()), Vec::<i32>::new());
    scene.assert_no_profile();
    assert_eq!(browser.process.end().await, ended);
}

#[tokio::test]
async fn a_killed_browser_is_noticed_and_its_helpers_go_too() {
    let scene = Scene::new();
    let mut browser = scene.launch(6).await;
    browser.open("<h1>hello</h1>").await;
    assert!(browser.group().len() > 1);
    kill(browser.pid(), Signal::SIGKILL).unwrap();
    let exit = timeout(LIMIT, browser.process.exited()).await.unwrap();
    assert_eq!(exit, Exit::Signal(Signal::SIGKILL));
    let ended = browser.process.end().await;
    assert_eq!((ended.how, ended.left), (End::Exited(exit), 0));
    assert!(browser.group().is_empty());
    assert_eq!(mentioning(scene.spawner.instance().path()), Vec::<i32>::new());
    scene.assert_no_profile();
}

#[tokio::test]
async fn a_stopped_browser_is_killed_with_its_helpers() {
    let scene = Scene::new();
    let mut browser = scene.launch(7).await;
    browser.open("<h1>hello</h1>").await;
    killpg(browser.pid(), Signal::SIGSTOP).unwrap();
    let ended = browser.process.end().await;
    assert_eq!((ended.how, ended.left), (End::Killed, 0));
    assert!(browser.group().is_empty());
    scene.assert_no_profile();
}

#[tokio::test]
async fn three_at_once_have_a_user_each() {
    let scene = Scene::new();
    let (mut a, mut b, mut c) = tokio::join!(scene.launch(10), scene.launch(11), scene.launch(12));
    tokio::join!(a.open("a"), b.open("b"), c.open("c"));
    for (browser, slot) in [(&a, 10), (&b, 11), (&c, 12)] {
        assert!(browser.group().iter().all(|process| process.field("Uid") == [&uid(slot); 4]));
    }
    let ended = tokio::join!(a.process.end(), b.process.end(), c.process.end());
    assert_eq!((ended.0.left, ended.1.left, ended.2.left), (0, 0, 0));
    scene.assert_no_profile();
}

#[tokio::test]
async fn a_dropped_browser_goes_by_itself() {
    let scene = Scene::new();
    let browser = scene.launch(13).await;
    let instance = scene.spawner.instance().path().to_owned();
    drop(browser);
    for _ in 0..3000 {
        if fs::read_dir(&instance).unwrap().count() == 1 {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    scene.assert_no_profile();
    assert_eq!(mentioning(&instance), Vec::<i32>::new());
}

#[tokio::test]
async fn a_browser_with_a_network_of_its_own_sends_to_its_proxy_or_nowhere() {
    const PORT: u16 = 3128;
    let scene = Scene::with(Demand::Required);
    assert!(scene.spawner.isolates());
    let (mut browser, listener) = scene.launch_towards(14, Some(PORT)).await;
    let session = browser.open("<h1>hello</h1>").await;
    let online = json!({ "expression": "navigator.onLine" });
    let online = browser.call_in(Some(&session), "Runtime.evaluate", online).await;
    assert_eq!(online["result"]["value"], true, "pages are told that there is no network");

    let ours = fs::read_link("/proc/self/ns/net").unwrap();
    let group = browser.group();
    assert!(group.len() > 1);
    for process in &group {
        assert_eq!(process.field("Uid"), [&uid(14); 4], "{process:?}");
        assert_ne!(fs::read_link(format!("/proc/{}/ns/net", process.pid)).unwrap(), ours, "{process:?}");
    }
    // Its first process, which speaks to the network for all, has no right there, nor a route to anywhere.
    let main = group.iter().find(|process| process.pid == browser.pid().as_raw()).unwrap();
    assert_eq!(main.field("CapEff"), ["0000000000000000"]);
    let of_main = |name: &str| fs::read_to_string(format!("/proc/{}/net/{name}", main.pid)).unwrap();
    let devices = of_main("dev");
    let devices: Vec<_> = devices.lines().skip(2).filter_map(|line| line.split(':').next()).map(str::trim).collect();
    assert_eq!(devices, ["lo", "net0", "net1"]);
    assert_eq!(of_main("route").lines().count(), 1, "{}", of_main("route"));
    // A network that changes costs Chromium the requests that it has running. The kernel would give the cable addresses of IPv6.
    for _ in 0..30 {
        let addresses = of_main("if_inet6");
        assert!(addresses.lines().all(|line| line.ends_with(" lo")), "{addresses}");
        sleep(Duration::from_millis(100)).await;
    }

    let url = "http://somewhere.test/path";
    browser
        .call_in(
            Some(&session),
            "Runtime.evaluate",
            json!({ "expression": format!("fetch({url:?})"), "returnByValue": true }),
        )
        .await;
    let asked = tokio::task::spawn_blocking(move || {
        let listener = listener.unwrap();
        listener.set_nonblocking(false).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        BufReader::new(stream).lines().next().unwrap().unwrap()
    });
    assert_eq!(timeout(LIMIT, asked).await.unwrap().unwrap(), format!("GET {url} HTTP/1.1"));
    assert_eq!(browser.process.end().await.left, 0);
    scene.assert_no_profile();
}
