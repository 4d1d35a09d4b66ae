//! The settings of a front end: one table, with defaults and allowed ranges.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use browserfleet_common::{config::Reader, redis};
use browserfleet_tools::{Groups, SnapshotMode};

use crate::{audit::Audit, connection, http::tls::Tls, keys::ApiKeys, limits::Limits, oauth, secrets::Secrets};

/// The settings of a front end.
#[derive(Clone, Debug)]
pub struct Config {
    pub http: Http,
    pub session: Session,
    pub call: Call,
    pub tools: Tools,
    /// `[store]`: what front ends share. None: this one keeps everything itself.
    pub store: Option<redis::Settings>,
    /// Where this one keeps sessions and connections, to find them again when it starts anew.
    pub state_dir: Option<PathBuf>,
    /// `[auth]`: who gets in with an API key. Without keys and tokens everybody is the same principal, who may do everything.
    pub auth: Option<ApiKeys>,
    /// `[oauth]`: who gets in with an access token.
    pub oauth: Option<oauth::Settings>,
    /// `[limits]`: of each key that does not say otherwise, and the most of any token.
    pub limits: Limits,
    /// `[audit]`: where calls that have ended are noted, if anywhere.
    pub audit: Option<Audit>,
    /// `[secrets]`: what callers type without seeing it.
    pub secrets: Arc<Secrets>,
}

/// `[http]`: what may come in, and for how long.
#[derive(Clone, Debug)]
pub struct Http {
    pub listen: SocketAddr,
    /// What it is known by over TLS. None: it speaks in clear.
    pub tls: Option<Tls>,
    /// Values of `Host` that are answered: a name, or a name and a port. Guards against DNS rebinding.
    pub allowed_hosts: Vec<String>,
    /// Browser origins besides our own: scheme, name, port.
    pub allowed_origins: Vec<String>,
    /// Most bytes of a request's body.
    pub max_body: usize,
    /// From the first byte of a request to the last of its headers.
    pub header_timeout: Duration,
    /// For the whole body.
    pub body_timeout: Duration,
    /// Between two requests of a connection, and for a client that does not read what we write.
    pub idle_timeout: Duration,
    /// TCP connections at a time; one more is told to come back.
    pub max_connections: usize,
    /// Comments on a silent event stream, so that proxies keep it open.
    pub keep_alive: Duration,
    /// How long running calls may go on after the stop signal.
    pub drain_timeout: Duration,
    /// How clients reach this server, without a slash at the end. None: replies hold no links for downloads.
    pub public_url: Option<String>,
    /// How long such a link holds good.
    pub link_ttl: Duration,
}

/// `[session]`: how long sessions live, and how many there may be.
#[derive(Clone, Debug)]
pub struct Session {
    /// A session ends after this time without a call.
    pub idle_ttl: Duration,
    /// A session ends after this time, used or not.
    pub max_lifetime: Duration,
    pub per_principal: usize,
    /// Of all principals together.
    pub max_total: usize,
    /// How long a legacy MCP connection is remembered after its last request. Clients do not recover when it is not.
    pub connection_ttl: Duration,
    /// Legacy MCP connections remembered at a time.
    pub max_connections: usize,
    /// Of one principal, so that the others have some, too.
    pub connections_per_principal: usize,
    /// Bytes kept of a session as artifacts: cut replies, pictures, files. Beyond, the oldest go.
    pub artifact_bytes: usize,
}

/// `[call]`: how long a tool call may take, and how much it answers.
#[derive(Clone, Debug)]
pub struct Call {
    /// The whole call, the wait for a browser included.
    pub timeout: Duration,
    /// As [`Self::timeout`], of a call that runs tasks: each of them has that one.
    pub tasks_timeout: Duration,
    /// In the queue for a browser.
    pub queue_wait: Duration,
    /// Most bytes of a reply's texts; for the rest of it there is a cursor.
    pub reply_bytes: usize,
    /// How much of the page replies show where the call does not say.
    pub snapshot: SnapshotMode,
    /// Larger pictures are not in the reply: they are resources.
    pub inline_bytes: usize,
}

/// `[tools]`: which groups of tools are served, beside core and session.
#[derive(Clone, Copy, Debug)]
pub struct Tools {
    /// To whoever's URL asks for none.
    pub caps: Groups,
    /// Whatever a URL asks for, no other ones.
    pub allowed: Groups,
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

impl Default for Config {
    /// The table's defaults.
    fn default() -> Self {
        Self {
            http: Http {
                listen: SocketAddr::from(([127, 0, 0, 1], 8931)),
                tls: None,
                allowed_hosts: LOOPBACK_HOSTS.iter().map(|&host| host.to_owned()).collect(),
                allowed_origins: Vec::new(),
                max_body: 1 << 20,
                header_timeout: 10 * SECOND,
                body_timeout: 30 * SECOND,
                idle_timeout: MINUTE,
                max_connections: 1024,
                keep_alive: 15 * SECOND,
                drain_timeout: 25 * SECOND,
                public_url: None,
                link_ttl: 10 * MINUTE,
            },
            session: Session {
                idle_ttl: 10 * MINUTE,
                max_lifetime: 8 * HOUR,
                per_principal: 10,
                max_total: 1000,
                connection_ttl: 24 * HOUR,
                max_connections: 10_000,
                connections_per_principal: 2500,
                artifact_bytes: 16 << 20,
            },
            call: Call {
                timeout: 2 * MINUTE,
                tasks_timeout: 10 * MINUTE,
                queue_wait: 30 * SECOND,
                reply_bytes: 40_000,
                snapshot: SnapshotMode::Full,
                inline_bytes: 1 << 20,
            },
            tools: Tools { caps: Groups::default(), allowed: Groups::ALL },
            store: None,
            state_dir: None,
            auth: None,
            oauth: None,
            limits: Limits::default(),
            audit: None,
            secrets: Arc::default(),
        }
    }
}

/// Hosts that are answered when nothing else is configured.
const LOOPBACK_HOSTS: &[&str] = &["localhost", "127.0.0.1", "[::1]"];

impl Config {
    /// Reads the table; what is wrong with it is collected in `reader`.
    pub fn read(reader: &mut Reader) -> Self {
        let by_token = !reader.text("oauth.issuer", "").is_empty();
        let by_key = reader.path("auth.keys_file").is_some();
        let http = Http::read(reader, by_key || by_token);
        let config = Self {
            oauth: oauth::Settings::read(reader, http.public_url.as_deref()),
            limits: Limits::read(reader),
            http,
            session: Session::read(reader),
            call: Call::read(reader),
            tools: Tools::read(reader),
            store: redis::Settings::read(reader),
            state_dir: reader.path("store.state_dir"),
            auth: reader.file("auth.keys_file", ApiKeys::open),
            audit: reader.path("audit.file").and_then(|path| open_trail(reader, &path)),
            secrets: reader.file("secrets.file", Secrets::read).map(Arc::new).unwrap_or_default(),
        };
        if config.store.is_some() && config.state_dir.is_some() {
            reader.problem("store.url and store.state_dir: sessions are kept in one of them; give either");
        }
        if config.session.idle_ttl > config.session.max_lifetime {
            reader.problem("session.idle_ttl is longer than session.max_lifetime");
        }
        if config.call.queue_wait >= config.call.timeout {
            reader.problem("call.queue_wait leaves no time for the call: it must be shorter than call.timeout");
        }
        config
    }

    /// Whether everybody who reaches it may do everything.
    pub fn is_open(&self) -> bool {
        self.auth.is_none() && self.oauth.is_none()
    }

    /// The most that anybody may use whose limits somebody else has written.
    pub(crate) fn most(&self) -> Limits {
        let Session { per_principal, idle_ttl, max_lifetime, .. } = self.session;
        Limits {
            sessions: Some(per_principal),
            session_idle: Some(idle_ttl),
            session_lifetime: Some(max_lifetime),
            ..self.limits
        }
    }
}

fn open_trail(reader: &mut Reader, path: &Path) -> Option<Audit> {
    let opened = Audit::append_to(path);
    opened
        .inspect_err(|error| reader.problem(format!("audit.file: {}: cannot be appended to ({error})", path.display())))
        .ok()
}

impl Http {
    fn read(reader: &mut Reader, guarded: bool) -> Self {
        let default = Config::default().http;
        let listen = reader.address("http.listen", default.listen);
        let hosts = reader.list("http.allowed_hosts", &[]);
        let insecure = reader.flag("unsafe.insecure", false);
        if !listen.ip().is_loopback() && !guarded && !insecure {
            reader.problem(format!(
                "http.listen = {listen}: not a loopback address, so clients need keys: make one (browserfleet keys create) \
                 and name the file in auth.keys_file (--keys); or tokens, see oauth.issuer; or serve everybody who \
                 can reach it: unsafe.insecure = true (--insecure)"
            ));
        }
        if !listen.ip().is_loopback() && hosts.is_empty() {
            reader.problem(
                "http.allowed_hosts is needed when http.listen is not a loopback address: the names clients use",
            );
        }
        let origins = reader.list("http.allowed_origins", &[]);
        for origin in origins.iter().filter(|origin| !is_origin(origin)) {
            reader.problem(format!("http.allowed_origins: {origin:?} is no origin such as https://app.example.com"));
        }
        Self {
            listen,
            tls: read_tls(reader),
            allowed_hosts: if hosts.is_empty() { default.allowed_hosts } else { hosts },
            allowed_origins: origins,
            max_body: reader.count("http.max_body", default.max_body, 1024..=16 << 20),
            header_timeout: reader.duration("http.header_timeout", default.header_timeout, SECOND..=MINUTE),
            body_timeout: reader.duration("http.body_timeout", default.body_timeout, SECOND..=10 * MINUTE),
            idle_timeout: reader.duration("http.idle_timeout", default.idle_timeout, SECOND..=HOUR),
            max_connections: reader.count("http.max_connections", default.max_connections, 1..=100_000),
            keep_alive: reader.duration("http.keep_alive", default.keep_alive, SECOND..=5 * MINUTE),
            drain_timeout: reader.duration("http.drain_timeout", default.drain_timeout, Duration::ZERO..=HOUR),
            public_url: read_public_url(reader),
            link_ttl: reader.duration("http.link_ttl", default.link_ttl, SECOND..=24 * HOUR),
        }
    }
}

impl Session {
    /// What is kept of connections.
    pub(crate) fn connections(&self) -> connection::Bounds {
        let (ttl, most, per_principal) = (self.connection_ttl, self.max_connections, self.connections_per_principal);
        connection::Bounds { ttl, most, per_principal }
    }

    fn read(reader: &mut Reader) -> Self {
        let default = Config::default().session;
        Self {
            idle_ttl: reader.duration("session.idle_ttl", default.idle_ttl, MINUTE..=24 * HOUR),
            max_lifetime: reader.duration("session.max_lifetime", default.max_lifetime, MINUTE..=7 * 24 * HOUR),
            per_principal: reader.count("session.per_principal", default.per_principal, 1..=10_000),
            max_total: reader.count("session.max_total", default.max_total, 1..=1_000_000),
            connection_ttl: reader.duration("session.connection_ttl", default.connection_ttl, HOUR..=30 * 24 * HOUR),
            max_connections: reader.count("session.max_connections", default.max_connections, 1..=1_000_000),
            connections_per_principal: reader.count(
                "session.connections_per_principal",
                default.connections_per_principal,
                1..=1_000_000,
            ),
            artifact_bytes: reader.count("session.artifact_bytes", default.artifact_bytes, 1 << 20..=1 << 30),
        }
    }
}

impl Call {
    fn read(reader: &mut Reader) -> Self {
        let default = Config::default().call;
        Self {
            timeout: reader.duration("call.timeout", default.timeout, SECOND..=10 * MINUTE),
            tasks_timeout: reader.duration("call.tasks_timeout", default.tasks_timeout, SECOND..=HOUR),
            queue_wait: reader.duration("call.queue_wait", default.queue_wait, Duration::ZERO..=10 * MINUTE),
            reply_bytes: reader.count("call.reply_bytes", default.reply_bytes, 8192..=1 << 20),
            snapshot: reader.choice("call.snapshot", default.snapshot, SnapshotMode::ALL),
            inline_bytes: reader.count("call.inline_bytes", default.inline_bytes, 0..=16 << 20),
        }
    }
}

fn read_public_url(reader: &mut Reader) -> Option<String> {
    let text = reader.text("http.public_url", "");
    let url = text.trim_end_matches('/');
    let usable = url.parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some() && uri.query().is_none()
    });
    if !url.is_empty() && !usable {
        reader.problem(format!(
            "http.public_url = {url}: not how clients reach this server, such as https://browsers.example.com"
        ));
    }
    usable.then(|| url.to_owned())
}

impl Tools {
    fn read(reader: &mut Reader) -> Self {
        let mut groups = |key, default: &[&str]| {
            let names = reader.list(key, default);
            Groups::parse(names.iter().map(String::as_str)).unwrap_or_else(|unknown| {
                reader.problem(format!("{key}: {unknown}, all and slim"));
                Groups::default()
            })
        };
        Self { caps: groups("tools.caps", &[]), allowed: groups("tools.allowed", &["all"]) }
    }
}

fn read_tls(reader: &mut Reader) -> Option<Tls> {
    let key = reader.path("http.tls_key_file");
    let opened = reader.file("http.tls_cert_file", |chain| match &key {
        Some(key) => Tls::open(chain, key).map_err(|bad| bad.to_string()),
        None => Err(format!("{}: http.tls_key_file is needed with it", chain.display())),
    });
    if key.is_some() && reader.path("http.tls_cert_file").is_none() {
        reader.problem("http.tls_key_file is of use only with http.tls_cert_file, the certificate that it is for");
    }
    opened
}

/// Whether a text is a scheme, a host and perhaps a port, as browsers write it.
fn is_origin(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| rest.parse::<http::uri::Authority>().is_ok_and(|host| !host.as_str().contains('@')))
        && !text.chars().any(|c| c.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use browserfleet_common::config::Problems;

    use super::*;
    use crate::keys::command::{Create, create};

    fn problems(toml: &str) -> Vec<String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(toml.as_bytes()).unwrap();
        let mut reader = Reader::new(Some(file.path()), &[]);
        Config::read(&mut reader);
        reader.finish(&[]).err().map(|Problems(lines)| lines).unwrap_or_default()
    }

    #[test]
    fn the_defaults_are_allowed() {
        assert_eq!(problems(""), Vec::<String>::new());
    }

    #[test]
    fn an_open_address_needs_a_loud_word_and_the_names_of_hosts() {
        let open = "[http]\nlisten = \"0.0.0.0:8931\"\n";
        let both = problems(open);
        assert!(
            both.len() == 2 && both[0].contains("unsafe.insecure") && both[1].contains("allowed_hosts"),
            "{both:?}"
        );
        assert_eq!(problems(&format!("{open}allowed_hosts = \"fleet.example\"\n[unsafe]\ninsecure = true\n")).len(), 0);
    }

    #[test]
    fn an_open_address_is_served_with_keys_and_only_with_good_ones() {
        let directory = tempfile::tempdir().unwrap();
        let keys = directory.path().join("keys.json");
        let settings = format!(
            "[http]\nlisten = \"0.0.0.0:8931\"\nallowed_hosts = \"fleet.example\"\n[auth]\nkeys_file = {:?}\n",
            keys.display().to_string()
        );
        assert!(problems(&settings)[0].contains("no such file"));
        create(&keys, &Create::named("ci", &["admin"]), Duration::ZERO).unwrap();
        assert_eq!(problems(&settings), Vec::<String>::new());
        std::fs::write(&keys, "{}").unwrap();
        assert!(problems(&settings)[0].contains("not a file of keys"));
    }

    #[test]
    fn a_wrong_store_is_told_with_everything_else_and_without_its_password() {
        let wrong = problems("[store]\nurl = \"rediss://:secret@a,b\"\nprefix = \"a b\"\ncommand_timeout = \"1h\"\n");
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert!(wrong.iter().any(|line| line.contains("hosts are allowed")), "{wrong:?}");
        assert!(!wrong.iter().any(|line| line.contains("secret")), "{wrong:?}");
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        assert_eq!(problems("[call]\ntimeout = \"20s\"\n").len(), 1);
        assert_eq!(problems("[session]\nmax_lifetime = \"5m\"\n").len(), 1);
        assert_eq!(problems("[store]\nurl = \"redis://localhost\"\nconnect_timeout = \"5s\"\n").len(), 1);
        assert_eq!(problems("[http]\nallowed_origins = \"example.com\"\n").len(), 1);
    }

    #[test]
    fn groups_of_tools_are_named() {
        assert_eq!(problems("[tools]\ncaps = \"storage,testing\"\nallowed = [\"storage\"]\n"), Vec::<String>::new());
        let wrong = problems("[tools]\ncaps = \"storage,nonsense\"\n");
        assert!(wrong.len() == 1 && wrong[0].starts_with("tools.caps: no such group of tools"), "{wrong:?}");
    }
}
