//! What a session asks for about its way out: which origins, through which proxy. Front ends check and keep it, daemons
//! enforce it.

use std::fmt;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::pb;

/// Most patterns of one list, and most bytes of each and of a proxy's URL.
pub const MAX_ORIGINS: usize = 100;
const MAX_TEXT: usize = 512;

/// What is wrong with a session's wishes; names the argument, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{argument}: {what}")]
pub struct BadEgress {
    argument: &'static str,
    what: String,
}

/// What a session's owner asks for, as it was written. The default asks for nothing.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Egress {
    /// If there are any, nothing else is reached.
    pub allowed_origins: Vec<String>,
    /// Not reached, even if allowed.
    pub blocked_origins: Vec<String>,
    /// Where everything goes through. May hold a password.
    pub proxy_server: Option<String>,
}

/// Says whether there is a proxy and not which: its URL may hold a password.
impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Egress")
            .field("allowed_origins", &self.allowed_origins)
            .field("blocked_origins", &self.blocked_origins)
            .field("proxy_server", &self.proxy_server.as_ref().map(|_secret| "…"))
            .finish()
    }
}

/// The same, understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressRules {
    /// What this was read from.
    pub asked: Egress,
    pub session: OriginRules,
    /// What the API key of its owner allows: both must.
    pub key: OriginRules,
    pub upstream: Option<ProxyServer>,
}

/// Which origins are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginRules {
    /// If there are any, nothing else is.
    pub allowed: Vec<Origin>,
    /// Not reached, even if allowed.
    pub blocked: Vec<Origin>,
}

impl OriginRules {
    /// Reads the origins of an API key.
    ///
    /// # Errors
    /// The first list that cannot be understood.
    pub fn of_key(allowed: &[String], blocked: &[String]) -> Result<Self, BadEgress> {
        Ok(Self { allowed: origins("allowed", allowed)?, blocked: origins("blocked", blocked)? })
    }
}

impl Egress {
    /// Reads what was asked for.
    ///
    /// # Errors
    /// The first argument that cannot be understood.
    pub fn rules(&self) -> Result<EgressRules, BadEgress> {
        let upstream = self.proxy_server.as_deref().map(ProxyServer::parse).transpose();
        let session = OriginRules {
            allowed: origins("allowed_origins", &self.allowed_origins)?,
            blocked: origins("blocked_origins", &self.blocked_origins)?,
        };
        Ok(EgressRules {
            asked: self.clone(),
            session,
            key: OriginRules::default(),
            upstream: upstream.map_err(|what| BadEgress { argument: "proxy_server", what })?,
        })
    }

    /// As it travels to a daemon.
    pub fn to_wire(&self) -> pb::Egress {
        pb::Egress {
            allowed_origins: self.allowed_origins.clone(),
            blocked_origins: self.blocked_origins.clone(),
            proxy_server: self.proxy_server.clone().unwrap_or_default(),
        }
    }

    /// As it came from a front end.
    pub fn from_wire(wire: pb::Egress) -> Self {
        Self {
            allowed_origins: wire.allowed_origins,
            blocked_origins: wire.blocked_origins,
            proxy_server: Some(wire.proxy_server).filter(|proxy| !proxy.is_empty()),
        }
    }
}

fn origins(argument: &'static str, texts: &[String]) -> Result<Vec<Origin>, BadEgress> {
    if texts.len() > MAX_ORIGINS {
        return Err(BadEgress {
            argument,
            what: format!("{} origins, at most {MAX_ORIGINS} are allowed", texts.len()),
        });
    }
    texts.iter().map(|text| Origin::parse(text).map_err(|what| BadEgress { argument, what })).collect()
}

/// Some origins: a host, or every subdomain of one (`*.example.com`), or all (`*`), at one port or at any.
///
/// Of `https://example.com` the scheme stands for its port: what is inside a TLS connection cannot be seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    host: HostPattern,
    /// `None`: any.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostPattern {
    Any,
    /// As the WHATWG parser writes it, without a final dot.
    Is(String),
    /// Below this one.
    Below(String),
}

impl Origin {
    /// Reads `[scheme://]host[:port]`; the port may be `*`, and is the scheme's if there is one. Without scheme and port:
    /// any.
    ///
    /// # Errors
    /// What is wrong, for whoever wrote it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            let shown: String = text.chars().take(80).collect();
            format!("{shown:?} is no origin such as https://example.com, *.example.com or localhost:3000")
        };
        let (scheme, rest) = text.split_once("://").map_or((None, text), |(scheme, rest)| (Some(scheme), rest));
        let scheme_port = match scheme {
            None => None,
            Some("http" | "ws") => Some(80),
            Some("https" | "wss") => Some(443),
            Some(_) => return Err(wrong()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.is_empty() || text.len() > MAX_TEXT || rest.contains(['/', '\\', '?', '#', '@', ' ', '\t', '\n', '\r'])
        {
            return Err(wrong());
        }
        // The last colon, unless it is one within an IPv6 address.
        let (host, port) = match rest.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
            Some((host, "*")) => (host, None),
            Some((host, port)) => (host, Some(port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?)),
            None => (rest, scheme_port),
        };
        let host = match (host, host.strip_prefix("*.")) {
            ("*", _) => HostPattern::Any,
            (_, Some(parent)) => HostPattern::Below(canonical(parent).ok_or_else(wrong)?),
            (host, None) => HostPattern::Is(canonical(host).ok_or_else(wrong)?),
        };
        Ok(Self { host, port })
    }

    /// Whether a place is among these. `host` is as the WHATWG parser writes it, without a final dot.
    pub fn matches(&self, host: &str, port: u16) -> bool {
        let host_matches = match &self.host {
            HostPattern::Any => true,
            HostPattern::Is(is) => is == host,
            HostPattern::Below(parent) => host.strip_suffix(parent).is_some_and(|sub| sub.ends_with('.')),
        };
        host_matches && self.port.is_none_or(|only| only == port)
    }
}

/// A host as the WHATWG parser writes it, without a final dot.
fn canonical(host: &str) -> Option<String> {
    if host.contains('*') {
        return None;
    }
    let url = Url::parse(&format!("http://{host}/")).ok()?;
    let host = url.host_str()?.trim_end_matches('.');
    (!host.is_empty() && url.port().is_none()).then(|| host.to_owned())
}

/// A proxy of the session's own, reached by HTTP.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyServer {
    pub host: Host<String>,
    pub port: u16,
    /// User name and password.
    pub credentials: Option<(String, String)>,
}

/// Without the password.
impl fmt::Debug for ProxyServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyServer({}:{})", self.host, self.port)
    }
}

impl ProxyServer {
    /// Reads `http://[user:password@]host:port`.
    ///
    /// # Errors
    /// What is wrong, for whoever wrote it; without the text, which may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            Err(format!(
                "{what}; it looks like http://proxy.example.com:3128, with user:password@ before the host if needed"
            ))
        };
        let url = if text.contains("://") { Url::parse(text) } else { Url::parse(&format!("http://{text}")) };
        let url = match url {
            Ok(url) if text.len() <= MAX_TEXT => url,
            _ => return wrong("this is no URL of a proxy"),
        };
        if url.scheme() != "http" {
            return wrong("only proxies that are reached by http are supported");
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return wrong("a proxy has no path");
        }
        let Some(host) = url.host().map(|host| host.to_owned()) else { return wrong("the proxy has no host") };
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let credentials = (!url.username().is_empty() || url.password().is_some())
            .then(|| (decoded(url.username()), decoded(url.password().unwrap_or_default())));
        Ok(Self { host, port: url.port().unwrap_or(80), credentials })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matching(pattern: &str, host: &str, port: u16) -> bool {
        Origin::parse(pattern).unwrap().matches(host, port)
    }

    #[test]
    fn origins_are_hosts_and_ports() {
        assert!(
            matching("https://example.com", "example.com", 443) && !matching("https://example.com", "example.com", 80)
        );
        assert!(matching("example.com", "example.com", 8080) && matching("EXAMPLE.com.", "example.com", 1));
        assert!(matching("http://localhost:*", "localhost", 3000) && matching("localhost:3000", "localhost", 3000));
        assert!(!matching("localhost:3000", "localhost", 3001) && matching("*", "anything", 1));
        assert!(
            matching("[::1]:8080", "[::1]", 8080) && matching("[::1]", "[::1]", 9) && matching("127.1", "127.0.0.1", 9)
        );
        assert!(matching("bücher.example", "xn--bcher-kva.example", 80));
    }

    #[test]
    fn a_star_stands_for_subdomains_only() {
        assert!(matching("*.example.com", "a.example.com", 80) && matching("*.example.com", "a.b.example.com", 80));
        assert!(!matching("*.example.com", "example.com", 80) && !matching("*.example.com", "badexample.com", 80));
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        let long = format!("{}.example", "x".repeat(600));
        for text in [
            "", "ftp://a", "http://", "a/b", "a b", "u@h", "a:0", "a:99999", "a:b", "*a", "a.*.b", "://a", "file:",
            &long,
        ] {
            assert!(Origin::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn errors_name_the_argument_and_never_show_a_proxys_password() {
        let egress = Egress { blocked_origins: vec!["ftp://a".to_owned()], ..Egress::default() };
        assert!(egress.rules().unwrap_err().to_string().starts_with("blocked_origins: \"ftp://a\" is no origin"));
        for proxy in ["socks5://u:secret@h:1", "http://u:secret@", "http://u:secret@h:1/path"] {
            let egress = Egress { proxy_server: Some(proxy.to_owned()), ..Egress::default() };
            let text = format!("{} {egress:?}", egress.rules().unwrap_err());
            assert!(text.starts_with("proxy_server: ") && !text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn a_proxy_may_have_credentials() {
        let proxy = ProxyServer::parse("http://me:p%40ss@proxy.example:3128").unwrap();
        assert_eq!((proxy.host.to_string().as_str(), proxy.port), ("proxy.example", 3128));
        assert_eq!(proxy.credentials, Some(("me".to_owned(), "p@ss".to_owned())));
        assert_eq!(ProxyServer::parse("proxy.example:3128").unwrap().credentials, None);
    }

    #[test]
    fn the_wire_keeps_everything() {
        let egress = Egress {
            allowed_origins: vec!["a".to_owned()],
            blocked_origins: vec!["b".to_owned()],
            proxy_server: Some("http://p:1".to_owned()),
        };
        assert_eq!(Egress::from_wire(egress.to_wire()), egress);
        assert_eq!(Egress::from_wire(pb::Egress::default()), Egress::default());
    }
}
