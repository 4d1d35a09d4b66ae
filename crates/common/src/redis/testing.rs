//! A real Redis for a test.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::{Redis, Settings, settings::Address};

/// How long a server may take to start.
const START: Duration = Duration::from_secs(10);
/// How often another port is tried: between its choice and its use somebody may take it.
const TRIES: usize = 5;

/// A server on a port of its own in a directory of its own. It ends with this value.
#[derive(Debug)]
pub struct Server {
    port: u16,
    directory: TempDir,
    arguments: Vec<String>,
    /// Of its address: it becomes another one when it is a cluster.
    scheme: &'static str,
    /// Its certificate (PEM), where it speaks TLS.
    certificate: Option<String>,
    process: Option<Child>,
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
        Self::start_as(|port, directory| {
            let port = port.to_string();
            let always = ["--bind", "127.0.0.1", "--port", &port, "--save", "", "--dir", directory];
            always.iter().chain(options).map(|&argument| argument.to_owned()).collect()
        })
        .await
    }

    /// Starts a cluster of one node that has every slot.
    ///
    /// # Panics
    /// When it does not become one.
    pub async fn cluster() -> Self {
        let bus = free_port().expect("a free port").to_string();
        let mut server = Self::with(&["--cluster-enabled", "yes", "--cluster-port", &bus]).await;
        let mut slots = redis::cmd("CLUSTER");
        server.client().query::<()>(slots.arg("ADDSLOTSRANGE").arg(0).arg(16383)).await.expect("its slots");
        let started = Instant::now();
        while !server.info("CLUSTER").await.contains("cluster_state:ok") {
            assert!(started.elapsed() < START, "it does not become a cluster");
            sleep(Duration::from_millis(20)).await;
        }
        server.scheme = "redis+cluster";
        server
    }

    async fn info(&self, of: &str) -> String {
        self.client().query(redis::cmd(of).arg("INFO")).await.expect("it says what it is")
    }

    /// Starts a sentinel that watches a server under a name.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn sentinel(of: &Self, service: &str) -> Self {
        let watched = of.port;
        Self::start_as(|port, directory| {
            let file = format!("{directory}/sentinel.conf");
            let lines = format!("bind 127.0.0.1\nport {port}\nsentinel monitor {service} 127.0.0.1 {watched} 1\n");
            std::fs::write(&file, lines).expect("its configuration");
            vec![file, "--sentinel".to_owned()]
        })
        .await
    }

    /// Starts a server that speaks TLS only. Who trusts [`Self::certificate`] may connect.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn tls() -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        let certificate = made.cert.pem();
        let (pem, key) = (certificate.clone(), made.signing_key.serialize_pem());
        let arguments = move |port: u16, directory: &str| {
            let (pem_file, key_file) = (format!("{directory}/cert.pem"), format!("{directory}/key.pem"));
            std::fs::write(&pem_file, &pem).expect("its certificate");
            std::fs::write(&key_file, &key).expect("its key");
            let port = port.to_string();
            let fixed = ["--bind", "127.0.0.1", "--port", "0", "--save", "", "--dir", directory, "--tls-port", &port];
            let tls = ["--tls-auth-clients", "no", "--tls-cert-file", &pem_file, "--tls-key-file", &key_file];
            let own = ["--tls-ca-cert-file", &pem_file];
            fixed.iter().chain(&tls).chain(&own).map(|&argument| argument.to_owned()).collect()
        };
        Self::start_with(arguments, "rediss", Some(certificate)).await
    }

    /// The certificate (PEM) of a server that speaks TLS.
    ///
    /// # Panics
    /// When it does not.
    pub fn certificate(&self) -> &str {
        self.certificate.as_deref().expect("it speaks TLS")
    }

    async fn start_as(arguments: impl Fn(u16, &str) -> Vec<String>) -> Self {
        Self::start_with(arguments, "redis", None).await
    }

    async fn start_with(
        arguments: impl Fn(u16, &str) -> Vec<String>,
        scheme: &'static str,
        certificate: Option<String>,
    ) -> Self {
        let directory = tempfile::tempdir().expect("a directory for Redis");
        let path = directory.path().display().to_string();
        let mut server = Self { port: 0, directory, arguments: Vec::new(), scheme, certificate, process: None };
        for _ in 0..TRIES {
            server.port = free_port().expect("a free port");
            server.arguments = arguments(server.port, &path);
            if server.run().await {
                return server;
            }
        }
        panic!("redis-server does not start");
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Settings of this server, with a command limit that a busy machine keeps.
    ///
    /// # Panics
    /// Never: the address is one.
    pub fn settings(&self) -> Settings {
        let mut address: Address = format!("{}://127.0.0.1:{}", self.scheme, self.port).parse().expect("an address");
        if let Some(certificate) = &self.certificate {
            address = address.vouched_for_by(certificate.clone().into_bytes()).expect("it is over TLS");
        }
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

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> io::Result<u16> {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?.local_addr().map(|address| address.port())
}
