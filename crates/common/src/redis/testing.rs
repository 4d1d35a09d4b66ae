//! A real Redis for a test.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::{Redis, Settings, address::Address};
use crate::{authorities::Authorities, reloaded::Reloaded};

/// How long a server may take to start.
const START: Duration = Duration::from_secs(10);
/// How often another port is tried: between its choice and its use somebody may take it.
const TRIES: usize = 5;
/// The file of a server's certificate, in its directory.
const CERTIFICATE: &str = "cert.pem";

/// A server on a port of its own in a directory of its own. It ends with this value.
#[derive(Debug)]
pub struct Server {
    port: u16,
    directory: TempDir,
    arguments: Vec<String>,
    is_cluster: bool,
    /// None: it speaks in clear. Otherwise over TLS only.
    certificate: Option<Certificate>,
    process: Option<Child>,
}

/// What a server is known by: it vouches for itself.
#[derive(Clone, Debug)]
struct Certificate {
    pem: String,
    key: String,
}

impl Server {
    /// Starts a server that keeps everything in memory.
    ///
    /// # Panics
    /// When there is none to start: the text says how to install it.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Starts a server with more options, such as `["--appendonly", "yes"]`.
    ///
    /// # Panics
    /// When there is none to start: the text says how to install it.
    pub async fn with(options: &[&str]) -> Self {
        Self::start_with(None, |_directory| owned(options)).await
    }

    /// Starts a server that speaks TLS only. Who trusts its [`Self::authorities`] may connect.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn tls() -> Self {
        Self::start_with(Some(Certificate::new()), |_directory| Vec::new()).await
    }

    /// Starts a cluster of one node that has every slot.
    ///
    /// # Panics
    /// When it does not become one.
    pub async fn cluster() -> Self {
        Self::start_cluster(None).await
    }

    /// Starts a cluster of one node that speaks TLS only.
    ///
    /// # Panics
    /// When it does not become one.
    pub async fn tls_cluster() -> Self {
        Self::start_cluster(Some(Certificate::new())).await
    }

    async fn start_cluster(certificate: Option<Certificate>) -> Self {
        let bus = free_port().expect("a free port").to_string();
        let options = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--tls-cluster", yes(certificate.is_some())];
        let mut server = Self::start_with(certificate, |_directory| owned(&options)).await;
        let mut slots = redis::cmd("CLUSTER");
        server.client().query::<()>(slots.arg("ADDSLOTSRANGE").arg(0).arg(16383)).await.expect("its slots");
        let started = Instant::now();
        while !server.info("CLUSTER").await.contains("cluster_state:ok") {
            assert!(started.elapsed() < START, "it does not become a cluster");
            sleep(Duration::from_millis(20)).await;
        }
        server.is_cluster = true;
        server
    }

    async fn info(&self, of: &str) -> String {
        self.client().query(redis::cmd(of).arg("INFO")).await.expect("it says what it is")
    }

    /// Starts a sentinel that watches a server under a name; over TLS when the server speaks that.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn sentinel(of: &Self, service: &str) -> Self {
        let watched = of.port;
        Self::start_with(of.certificate.clone(), |directory| {
            let file = format!("{directory}/sentinel.conf");
            let monitored = format!("sentinel monitor {service} 127.0.0.1 {watched} 1\n");
            std::fs::write(&file, monitored).expect("its configuration");
            owned(&[&file, "--sentinel", "--tls-replication", yes(of.certificate.is_some())])
        })
        .await
    }

    /// Who vouches for a server that speaks TLS.
    ///
    /// # Panics
    /// Never: its file is there.
    pub fn authorities(&self) -> Option<Reloaded<Authorities>> {
        self.certificate.as_ref()?;
        Some(Authorities::reloaded(&self.certificate_file()).expect("it is one"))
    }

    /// The certificate of a server that speaks TLS.
    pub fn certificate_file(&self) -> PathBuf {
        self.directory.path().join(CERTIFICATE)
    }

    /// With the options that `own` gives for a directory.
    async fn start_with(certificate: Option<Certificate>, own: impl Fn(&str) -> Vec<String>) -> Self {
        let directory = tempfile::tempdir().expect("a directory for Redis");
        let path = directory.path().display().to_string();
        let own = own(&path);
        let mut server =
            Self { port: 0, directory, arguments: Vec::new(), is_cluster: false, certificate, process: None };
        for _ in 0..TRIES {
            server.port = free_port().expect("a free port");
            server.arguments = [own.clone(), server.always()].concat();
            if server.run().await {
                return server;
            }
        }
        panic!("redis-server does not start");
    }

    fn always(&self) -> Vec<String> {
        let (port, directory) = (self.port.to_string(), self.directory.path().display().to_string());
        let fixed = owned(&["--bind", "127.0.0.1", "--save", "", "--dir", &directory]);
        let listening = match &self.certificate {
            None => owned(&["--port", &port]),
            Some(certificate) => {
                [owned(&["--port", "0", "--tls-port", &port]), certificate.options(&directory)].concat()
            }
        };
        [fixed, listening].concat()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Settings of this server, with a command limit that a busy machine keeps.
    ///
    /// # Panics
    /// Never: the address is one.
    pub fn settings(&self) -> Settings {
        let scheme = if self.certificate.is_some() { "rediss" } else { "redis" };
        let cluster = if self.is_cluster { "+cluster" } else { "" };
        self.settings_at(&format!("{scheme}{cluster}://127.0.0.1:{}", self.port))
    }

    /// Settings of another way to this server.
    ///
    /// # Panics
    /// When there is no such address.
    pub fn settings_at(&self, address: &str) -> Settings {
        let address: Address = address.parse().expect("an address");
        let address = address.vouched_for_by(self.authorities()).expect("it is over TLS");
        Settings { command_timeout: Duration::from_secs(5), ..Settings::at(address) }
    }

    /// A connection of its own to this server.
    pub fn client(&self) -> Redis {
        Redis::new(self.settings())
    }

    /// Kills the server without a warning. What it had in memory only is lost.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself.
            let _ended = process.kill();
            let _status = process.wait();
        }
    }

    /// Starts the server again, on the same port and in the same directory.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        self.kill();
        assert!(self.run().await, "redis-server does not start again");
    }

    /// Forgets everything, as nobody should.
    ///
    /// # Panics
    /// When the server does not run.
    pub async fn empty(&self) {
        self.client().query::<()>(&redis::cmd("FLUSHALL")).await.expect("it runs");
    }

    /// Stops or continues the process: a server that answers nothing, and whose connections stay open.
    ///
    /// # Panics
    /// When it does not run.
    pub fn freeze(&self, frozen: bool) {
        use nix::sys::signal::{Signal, kill};
        let process = self.process.as_ref().expect("it runs");
        let id = nix::unistd::Pid::from_raw(i32::try_from(process.id()).expect("a process id"));
        kill(id, if frozen { Signal::SIGSTOP } else { Signal::SIGCONT }).expect("it is our child");
    }

    async fn run(&mut self) -> bool {
        let mut command = Command::new("redis-server");
        command.args(&self.arguments).current_dir(&self.directory).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().unwrap_or_else(|error| {
            panic!("redis-server: {error}; install it with scripts/setup-redis.sh or your system's packages")
        });
        self.process = Some(process);
        let (started, client) = (Instant::now(), self.client());
        while started.elapsed() < START {
            if client.is_reachable().await {
                return true;
            }
            if self.process.as_mut().is_some_and(|process| matches!(process.try_wait(), Ok(Some(_)))) {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        self.kill();
        false
    }
}

impl Certificate {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        Self { pem: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    /// What a server in this directory is started with.
    fn options(&self, directory: &str) -> Vec<String> {
        let (pem, key) = (format!("{directory}/{CERTIFICATE}"), format!("{directory}/key.pem"));
        std::fs::write(&pem, &self.pem).expect("its certificate");
        std::fs::write(&key, &self.key).expect("its key");
        let files = ["--tls-cert-file", &pem, "--tls-key-file", &key, "--tls-ca-cert-file", &pem];
        [owned(&files), owned(&["--tls-auth-clients", "no"])].concat()
    }
}

fn owned(options: &[&str]) -> Vec<String> {
    options.iter().map(|&option| option.to_owned()).collect()
}

fn yes(is_so: bool) -> &'static str {
    if is_so { "yes" } else { "no" }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> io::Result<u16> {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?.local_addr().map(|address| address.port())
}
