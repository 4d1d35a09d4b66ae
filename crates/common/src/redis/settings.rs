//! Where Redis is, and how long it may take.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use percent_encoding::percent_decode_str;
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo, RedisResult, TlsCertificates,
    io::tcp::TcpSettings,
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use url::Url;

use crate::{
    config::Reader,
    keyring::Keyring,
    secret_file::{self, BadSecretFile},
};

/// What URLs may look like, for people.
const SCHEMES: &str = "redis://[[user]:password@]host[:port][/database], \
     redis+sentinel://[[user]:password@]host[:port],host[:port]/service[/database] or \
     redis+cluster://[[user]:password@]host[:port],host[:port]; over TLS rediss://, rediss+sentinel:// and rediss+cluster://";
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
/// Most addresses in a URL.
const ADDRESSES_MAX: usize = 16;
/// Longest prefix of keys: it is in each of them.
const PREFIX_MAX: usize = 32;

/// `[store]`: where Redis is, and how long it may take.
#[derive(Clone, Debug)]
pub struct Settings {
    pub address: Address,
    /// Every key begins with it, so that deployments can share a server.
    pub prefix: String,
    /// For a new connection.
    pub connect_timeout: Duration,
    /// For a command: waiting for a connection and repeating it over a new one included.
    pub command_timeout: Duration,
    /// Seals and signs what is kept of sessions. None: a secret in Redis does.
    pub keyring: Option<Keyring>,
}

impl Settings {
    /// A server at this address, with the defaults.
    pub fn at(address: Address) -> Self {
        Self {
            address,
            prefix: "bf".to_owned(),
            connect_timeout: Duration::from_secs(1),
            command_timeout: Duration::from_secs(2),
            keyring: None,
        }
    }

    /// Reads the table; what is wrong with it is collected in `reader`. `None`: no Redis is wanted.
    pub fn read(reader: &mut Reader) -> Option<Self> {
        const LEAST: Duration = Duration::from_millis(50);
        const MOST: Duration = Duration::from_secs(30);
        let url = reader.text("store.url", "");
        let default =
            Self::at(Address { user: None, password: None, tls: None, place: Place::Cluster { nodes: Vec::new() } });
        let settings = Self {
            prefix: reader.text("store.prefix", &default.prefix),
            connect_timeout: reader.duration("store.connect_timeout", default.connect_timeout, LEAST..=MOST),
            command_timeout: reader.duration("store.command_timeout", default.command_timeout, LEAST..=MOST),
            ..default
        };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if !(1..=PREFIX_MAX).contains(&settings.prefix.len()) || !settings.prefix.bytes().all(allowed) {
            reader.problem(format!("store.prefix: not allowed; 1 to {PREFIX_MAX} characters of A-Z a-z 0-9 . _ -"));
        }
        if settings.connect_timeout > settings.command_timeout {
            reader.problem(
                "store.connect_timeout is longer than store.command_timeout, so no command could wait for a connection",
            );
        }
        let keyring = read_file(reader, "store.secret_file", Keyring::read);
        let password = read_file(reader, "store.password_file", read_password);
        let authorities = read_file(reader, "store.ca_file", read_authorities);
        if url.is_empty() {
            return None;
        }
        let parsed = url.parse().and_then(|address: Address| {
            let address = password.map_or(Ok(address.clone()), |password| address.with_password(password))?;
            authorities.map_or(Ok(address.clone()), |pem| address.vouched_for_by(pem))
        });
        let refuse = |bad: BadAddress| reader.problem(format!("store.url: {bad}"));
        let address = parsed.map_err(refuse).ok()?;
        Some(Self { address, keyring, ..settings })
    }
}

/// What a file holds that a setting names, if it names one.
fn read_file<T>(reader: &mut Reader, key: &'static str, read: impl Fn(&Path) -> Result<T, BadSecretFile>) -> Option<T> {
    let path = reader.path(key)?;
    read(&path).map_err(|bad| reader.problem(format!("{key} = {bad}"))).ok()
}

/// The first line of a file.
fn read_password(path: &Path) -> Result<String, BadSecretFile> {
    let (text, _) = secret_file::read(path)?;
    let password = text.lines().next().unwrap_or_default();
    if password.is_empty() {
        Err(BadSecretFile::new(path, "no password in its first line"))
    } else {
        Ok(password.to_owned())
    }
}

/// Certificates, which are no secret.
fn read_authorities(path: &Path) -> Result<Vec<u8>, BadSecretFile> {
    let bad = |why: &dyn fmt::Display| BadSecretFile::new(path, why.to_string());
    let pem = std::fs::read(path).map_err(|error| bad(&error))?;
    let certificates =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().map_err(|error| bad(&error))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|error| bad(&error))?;
    }
    if roots.is_empty() { Err(bad(&"there is no certificate in it (PEM)")) } else { Ok(pem) }
}

/// Where a Redis deployment is, and who we are there.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    user: Option<String>,
    password: Option<String>,
    place: Place,
    tls: Option<Tls>,
}

/// Every connection is encrypted, and the server known by a certificate.
#[derive(Clone, Default, PartialEq, Eq)]
struct Tls {
    /// Certificates (PEM) of those who may vouch for the server. None: the machine's.
    authorities: Option<Arc<[u8]>>,
}

/// The three ways to run Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    One { node: Node, database: i64 },
    Sentinel { sentinels: Vec<Node>, service: String, database: i64 },
    Cluster { nodes: Vec<Node> },
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Address {
    /// Whether it is a cluster, of which each node knows its own listeners only.
    pub fn is_cluster(&self) -> bool {
        matches!(self.place, Place::Cluster { .. })
    }

    /// With the password out of a file: addresses are seen by more people.
    fn with_password(self, password: String) -> Result<Self, BadAddress> {
        if self.password.is_some() { Err(BadAddress::Passwords) } else { Ok(Self { password: Some(password), ..self }) }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Who we are at the servers that hold the data.
    pub(super) fn login(&self, database: i64) -> RedisConnectionInfo {
        let mut login = RedisConnectionInfo::default().set_db(database).set_lib_name("browserfleet", "1");
        if let Some(user) = &self.user {
            login = login.set_username(user);
        }
        if let Some(password) = &self.password {
            login = login.set_password(password);
        }
        login
    }

    /// How one server is reached.
    pub(super) fn to(&self, node: &Node, database: i64) -> RedisResult<ConnectionInfo> {
        let info = self.way_to(node).into_connection_info()?.set_redis_settings(self.login(database));
        Ok(info.set_tcp_settings(prompt()))
    }

    /// Who connects to one server.
    pub(super) fn client(&self, node: &Node, database: i64) -> RedisResult<Client> {
        let info = self.to(node, database)?;
        match self.certificates() {
            Some(certificates) => Client::build_with_tls(info, certificates),
            None => Client::open(info),
        }
    }

    pub(super) fn way_to(&self, node: &Node) -> ConnectionAddr {
        let (host, port) = (node.host.clone(), node.port);
        match self.tls {
            Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
            None => ConnectionAddr::Tcp(host, port),
        }
    }

    /// What servers are known by. None: they are not asked.
    pub(super) fn certificates(&self) -> Option<TlsCertificates> {
        let authorities = self.tls.as_ref()?.authorities.as_ref();
        Some(TlsCertificates { client_tls: None, root_cert: authorities.map(|pem| pem.to_vec()) })
    }

    /// Known by these authorities (PEM) alone.
    pub(super) fn vouched_for_by(self, authorities: Vec<u8>) -> Result<Self, BadAddress> {
        if self.tls.is_none() {
            return Err(BadAddress::NoTls);
        }
        Ok(Self { tls: Some(Tls { authorities: Some(authorities.into()) }), ..self })
    }

    /// Whether all of it is on this machine.
    pub fn is_near(&self) -> bool {
        let near = |node: &Node| {
            let address = node.host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
            address || node.host == "localhost"
        };
        match &self.place {
            Place::One { node, .. } => near(node),
            Place::Sentinel { sentinels: nodes, .. } | Place::Cluster { nodes } => nodes.iter().all(near),
        }
    }
}

/// Commands go out at once: many share a connection, and the second would wait until the first is acknowledged.
pub(super) fn prompt() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Without the password, for logs and messages.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |nodes: &[Node]| nodes.iter().map(Node::to_string).collect::<Vec<_>>().join(",");
        f.write_str(if self.tls.is_some() { "rediss" } else { "redis" })?;
        match &self.place {
            Place::One { node, database } => write!(f, "://{node}/{database}"),
            Place::Sentinel { sentinels, service, database } => {
                write!(f, "+sentinel://{}/{service}/{database}", list(sentinels))
            }
            Place::Cluster { nodes } => write!(f, "+cluster://{}", list(nodes)),
        }
    }
}

/// As [`fmt::Display`]: a password is in no log.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// Why a text is no address. It says what to do and shows nothing of the text, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    #[error("not an address of Redis; allowed are {SCHEMES}")]
    Scheme,
    #[error(
        "store.ca_file says who vouches for a server over TLS: use rediss://, rediss+sentinel:// or rediss+cluster://"
    )]
    NoTls,
    #[error("a password is in store.password_file as well: give one")]
    Passwords,
    #[error("{0:?} is not a host with a port; allowed are {SCHEMES}")]
    Host(String),
    #[error("1 to {ADDRESSES_MAX} hosts are allowed")]
    Count,
    #[error("{0}; allowed are {SCHEMES}")]
    Path(&'static str),
}

impl std::str::FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let (scheme, rest) = text.split_once("://").ok_or(BadAddress::Scheme)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        // A password may have an @ in it, a host may not.
        let (login, hosts) =
            authority.rsplit_once('@').map_or((None, authority), |(login, hosts)| (Some(login), hosts));
        let (scheme, tls) = match scheme {
            "rediss" => ("redis", Some(Tls::default())),
            "rediss+sentinel" => ("redis+sentinel", Some(Tls::default())),
            "rediss+cluster" => ("redis+cluster", Some(Tls::default())),
            scheme => (scheme, None),
        };
        let place = match scheme {
            "redis" => {
                let [node] = <[Node; 1]>::try_from(nodes(hosts, PORT)?).map_err(|_more| BadAddress::Count)?;
                Place::One { node, database: database(path)? }
            }
            "redis+sentinel" => {
                let (service, path) = path.split_once('/').unwrap_or((path, ""));
                if service.is_empty() {
                    return Err(BadAddress::Path("the name of the service is missing"));
                }
                let (service, sentinels) = (decoded(service), nodes(hosts, SENTINEL_PORT)?);
                Place::Sentinel { sentinels, service, database: database(path)? }
            }
            "redis+cluster" if path.is_empty() => Place::Cluster { nodes: nodes(hosts, PORT)? },
            "redis+cluster" => return Err(BadAddress::Path("a cluster has no databases")),
            _ => return Err(BadAddress::Scheme),
        };
        let (user, password) = login.map_or((None, None), |login| {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            let given = |text: &str| (!text.is_empty()).then(|| decoded(text));
            (given(user), given(password))
        });
        Ok(Self { user, password, place, tls })
    }
}

fn nodes(hosts: &str, port: u16) -> Result<Vec<Node>, BadAddress> {
    let nodes: Vec<Node> = hosts.split(',').map(|host| node(host.trim(), port)).collect::<Result<_, _>>()?;
    if nodes.len() > ADDRESSES_MAX { Err(BadAddress::Count) } else { Ok(nodes) }
}

/// One host, by the grammar of URLs.
fn node(text: &str, port: u16) -> Result<Node, BadAddress> {
    let bad = || BadAddress::Host(text.chars().take(80).collect());
    let url = Url::parse(&format!("redis://{text}")).map_err(|_malformed| bad())?;
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(bad)?;
    if !url.path().is_empty() || url.query().is_some() || url.fragment().is_some() {
        return Err(bad());
    }
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(Node { host, port: url.port().unwrap_or(port) })
}

fn database(path: &str) -> Result<i64, BadAddress> {
    if path.is_empty() {
        return Ok(0);
    }
    path.parse().ok().filter(|number| (0..1024).contains(number)).ok_or(BadAddress::Path("a database is a number"))
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::config::Flag;

    fn parsed(text: &str) -> Result<Address, BadAddress> {
        text.parse()
    }

    #[test]
    fn every_way_to_run_redis_has_its_address() {
        for (text, shown) in [
            ("redis://localhost", "redis://localhost:6379/0"),
            ("redis://me:p%40ss@[::1]:7000/3", "redis://[::1]:7000/3"),
            ("redis+sentinel://:pa@ss@a:1,b/main", "redis+sentinel://a:1,b:26379/main/0"),
            ("redis+sentinel://a/main/2", "redis+sentinel://a:26379/main/2"),
            ("redis+cluster://10.0.0.7:7000, 10.0.0.8:7001", "redis+cluster://10.0.0.7:7000,10.0.0.8:7001"),
            ("rediss://:secret@a", "rediss://a:6379/0"),
            ("rediss+sentinel://a/main", "rediss+sentinel://a:26379/main/0"),
            ("rediss+cluster://a", "rediss+cluster://a:6379"),
        ] {
            assert_eq!(parsed(text).map(|address| address.to_string()), Ok(shown.to_owned()), "{text}");
        }
        let login = parsed("redis://me:p%40ss@localhost").unwrap();
        assert_eq!((login.user.as_deref(), login.password.as_deref()), (Some("me"), Some("p@ss")));
        let info = parsed("redis://a").unwrap().to(&Node { host: "a".to_owned(), port: 1 }, 0).unwrap();
        assert!(info.tcp_settings().nodelay(), "commands do not wait for each other");
        assert!(parsed("redis://127.0.0.1").unwrap().is_near() && !parsed("redis://10.0.0.7").unwrap().is_near());
    }

    #[test]
    fn what_is_no_address_is_told_without_the_password() {
        for (text, why) in [
            ("localhost:6379", BadAddress::Scheme),
            ("http://:secret@localhost", BadAddress::Scheme),
            ("redis://:secret@a,b", BadAddress::Count),
            ("redis://:secret@", BadAddress::Host(String::new())),
            ("redis://:secret@a:99999", BadAddress::Host("a:99999".to_owned())),
            ("redis://:secret@a/x", BadAddress::Path("a database is a number")),
            ("redis+sentinel://:secret@a", BadAddress::Path("the name of the service is missing")),
            ("redis+cluster://:secret@a/1", BadAddress::Path("a cluster has no databases")),
        ] {
            let bad = parsed(text).unwrap_err();
            assert!(bad == why && !bad.to_string().contains("secret"), "{text}: {bad}");
        }
        assert!(!format!("{:?}", parsed("redis://:secret@a")).contains("secret"));
    }

    #[test]
    fn a_password_may_be_in_a_file() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"p@ss:word\n").unwrap();
        let read = |url: &str, path: &Path| {
            let flags: [Flag<'_>; 2] = [("store.url", Some(&url)), ("store.password_file", Some(&path))];
            let mut reader = Reader::new(None, &flags);
            let settings = Settings::read(&mut reader);
            (settings.and_then(|settings| settings.address.password), reader.finish(&[]))
        };
        assert_eq!(read("redis://a", file.path()), (Some("p@ss:word".to_owned()), Ok(())));
        let (_, twice) = read("redis://:other@a", file.path());
        assert!(twice.unwrap_err().to_string().contains("give one"));
        let (_, empty) = read("redis://a", tempfile::NamedTempFile::new().unwrap().path());
        assert!(empty.unwrap_err().to_string().contains("store.password_file"));
    }
}
