//! Addresses of Redis: one server, sentinels or a cluster, in clear or over TLS.

use std::{fmt, sync::Arc};

use percent_encoding::percent_decode_str;
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo, RedisResult, TlsCertificates,
    io::tcp::TcpSettings,
};
use url::Url;

use crate::{authorities::Authorities, reloaded::Reloaded};

/// What URLs may look like, for people.
const SCHEMES: &str = "redis://[[user]:password@]host[:port][/database], \
     redis+sentinel://[[user]:password@]host[:port],host[:port]/service[/database] or \
     redis+cluster://[[user]:password@]host[:port],host[:port]; over TLS rediss://, rediss+sentinel:// and rediss+cluster://";
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
/// Most addresses in a URL.
const ADDRESSES_MAX: usize = 16;

/// Where a Redis deployment is, and who we are there.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    user: Option<String>,
    password: Option<String>,
    place: Place,
    tls: Option<Tls>,
}

/// Every connection is encrypted, and the server known by a certificate.
#[derive(Clone, Default)]
struct Tls {
    /// Who may vouch for the server. None: the machine's.
    authorities: Option<Arc<Reloaded<Authorities>>>,
}

impl Tls {
    fn vouchers(&self) -> Option<Arc<Authorities>> {
        self.authorities.as_ref().map(|authorities| authorities.get())
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.vouchers() == other.vouchers()
    }
}

impl Eq for Tls {}

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

    /// With the password out of a file, if there is one: addresses are seen by more people.
    pub(super) fn with_password(self, password: Option<String>) -> Result<Self, BadAddress> {
        if password.is_some() && self.password.is_some() {
            return Err(BadAddress::Passwords);
        }
        Ok(Self { password: password.or(self.password), ..self })
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
        let root_cert = self.tls.as_ref()?.vouchers().map(|authorities| authorities.pem().as_bytes().to_vec());
        Some(TlsCertificates { client_tls: None, root_cert })
    }

    /// Who vouches for servers, if there is a file that says so: to be read again before the next connection.
    pub(super) fn authorities(&self) -> Option<Arc<Reloaded<Authorities>>> {
        self.tls.as_ref()?.authorities.clone()
    }

    /// Known by these authorities alone, if there are any.
    pub(super) fn vouched_for_by(self, authorities: Option<Reloaded<Authorities>>) -> Result<Self, BadAddress> {
        match (&self.tls, authorities.map(Arc::new)) {
            (_, None) => Ok(self),
            (None, Some(_)) => Err(BadAddress::NoTls),
            (Some(_), authorities) => Ok(Self { tls: Some(Tls { authorities }), ..self }),
        }
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
        // A password may have an @ or a / in it, what follows it no @.
        let (login, rest) = rest.rsplit_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
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
    use super::*;

    fn parsed(text: &str) -> Result<Address, BadAddress> {
        text.parse()
    }

    #[test]
    fn every_way_to_run_redis_has_its_address() {
        for (text, shown) in [
            ("redis://localhost", "redis://localhost:6379/0"),
            ("redis://me:p%40ss@[::1]:7000/3", "redis://[::1]:7000/3"),
            ("redis://:pa/ss@a/1", "redis://a:6379/1"),
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
}
