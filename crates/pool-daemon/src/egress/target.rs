//! Where something wants to go: a host and a port, as the WHATWG parser reads them, whoever wrote them.
//!
//! The one reader for what agents type, what pages ask their proxy for, and what redirects lead to. What was checked is
//! what is used: the serialised URL goes to the browser, the parsed host is resolved.

use std::fmt;

use browserfleet_common::error_code::ErrorCode;
use url::{Host, Url};

use crate::failure::Failure;

/// Longest URL, in bytes.
const MAX_URL: usize = 8 << 10;

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Names are in lower case, in ASCII, and without a final dot.
    pub host: Host<String>,
    pub port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Target {
    /// Where a URL leads; `None` when nowhere in a network.
    pub fn of(url: &Url) -> Option<Self> {
        let host = match url.host()?.to_owned() {
            // With more than one final dot an address is still written as a name, and whoever looks it up drops them all.
            Host::Domain(name) => Host::parse(name.trim_end_matches('.')).ok()?,
            address => address,
        };
        let port = url.port_or_known_default().filter(|port| *port > 0)?;
        Some(Self { host, port })
    }

    /// Where `host:port` leads, as it stands in a request to a proxy.
    pub fn of_authority(authority: &str) -> Option<Self> {
        let url = Url::parse(&format!("http://{authority}/")).ok()?;
        // An empty user name is none to the parser, and still no part of where something leads.
        let bare = !authority.contains('@') && url.path() == "/";
        let bare = bare && url.query().is_none() && url.fragment().is_none();
        if bare { Self::of(&url) } else { None }
    }
}

/// Reads the address an agent gave, as a browser's address bar would. What comes out is `http`, `https` or `about:blank`.
///
/// # Errors
/// `url_blocked` for schemes that are not for agents and for passwords in URLs, `invalid_argument` for what is no URL.
pub fn parse(text: &str) -> Result<Url, Failure> {
    let text = text.trim();
    if text.len() > MAX_URL {
        let message = format!("the URL has {} bytes, at most {MAX_URL} are allowed", text.len());
        return Err(Failure::new(ErrorCode::UrlBlocked, message));
    }
    let invalid = |error| Failure::invalid(format!("{text:?} is not a URL: {error}"));
    let url = match Url::parse(text) {
        Ok(url) if has_scheme(&url, text) => url,
        Err(error) if text.contains("://") || starts_with_scheme(text) => return Err(invalid(error)),
        _ => Url::parse(&format!("{}://{text}", default_scheme(text))).map_err(invalid)?,
    };
    check(&url)?;
    Ok(url)
}

fn check(url: &Url) -> Result<(), Failure> {
    let blocked = |what: &str| Err(Failure::new(ErrorCode::UrlBlocked, what));
    match url.scheme() {
        "http" | "https" => {}
        "about" if url.as_str() == "about:blank" => return Ok(()),
        scheme => {
            return blocked(&format!("Access to \"{scheme}:\" protocol is blocked. Attempted URL: \"{}\"", shown(url)));
        }
    }
    let Some(target) = Target::of(url) else { return blocked("the URL has no host") };
    // The one character of a host that Chromium writes in another way than the standard: it would go where nobody has looked.
    if target.host.to_string().contains('*') {
        return Err(Failure::invalid("the URL has an asterisk in its host; name one host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return blocked("URLs with a user name or password are blocked; log in on the page instead");
    }
    Ok(())
}

/// What counts as a scheme before a colon without a slash after it.
const KNOWN: [&str; 13] = [
    "http",
    "https",
    "about",
    "file",
    "data",
    "blob",
    "javascript",
    "chrome",
    "devtools",
    "view-source",
    "ftp",
    "ws",
    "wss",
];

/// `localhost:3000` parses as scheme `localhost`: a word before the first colon is a scheme only if it is a known one,
/// or is followed by a slash.
fn has_scheme(url: &Url, text: &str) -> bool {
    let after = text.split_once(':').map(|(_, after)| after);
    KNOWN.contains(&url.scheme()) || after.is_some_and(|after| after.starts_with('/'))
}

/// Whether a text that is no URL was meant to be one.
fn starts_with_scheme(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, _)| KNOWN.contains(&scheme.to_ascii_lowercase().as_str()))
}

/// Names get TLS, this machine and addresses do not.
fn default_scheme(text: &str) -> &'static str {
    let host = text.split(['/', '?', '#']).next().unwrap_or(text);
    let host = host.rsplit_once(':').map_or(host, |(host, _port)| host);
    let local = host == "localhost" || host.ends_with(".localhost") || host.starts_with('[');
    if local || host.parse::<std::net::Ipv4Addr>().is_ok() { "http" } else { "https" }
}

fn shown(url: &Url) -> String {
    url.as_str().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        parse(text).unwrap().to_string()
    }

    #[test]
    fn addresses_are_read_as_an_address_bar_reads_them() {
        assert_eq!(parsed("http://example.com"), "http://example.com/");
        assert_eq!(parsed("example.com/a?b"), "https://example.com/a?b");
        assert_eq!(parsed("localhost:3000/x"), "http://localhost:3000/x");
        assert_eq!(parsed("127.0.0.1:80"), "http://127.0.0.1/");
        assert_eq!(parsed(" about:blank "), "about:blank");
        assert_eq!(parsed("http:/\\evil"), "http://evil/");
    }

    #[test]
    fn other_schemes_are_blocked_on_the_parsed_url() {
        for text in [
            "file:///etc/passwd",
            "FILE:/etc/passwd",
            "\tfile:///etc/passwd",
            "view-source:file:///etc/passwd",
            "chrome://crash",
            "devtools://devtools",
            "javascript:alert(1)",
            "data:text/html,x",
            "blob:http://a/b",
            "ftp://host/",
            "about:config",
            "foo://bar",
        ] {
            assert_eq!(parse(text).unwrap_err().code, ErrorCode::UrlBlocked, "{text}");
        }
    }

    #[test]
    fn hosts_that_chromium_would_write_otherwise_are_refused() {
        for text in ["http://a*b.example/", "*.example.com", "http://a%2Ab/", "\u{647}.a*b"] {
            let failure = parse(text).unwrap_err();
            assert!(failure.code == ErrorCode::InvalidArgument && failure.message.contains("asterisk"), "{text}");
        }
        for text in ["http://example.com/*", "http://example.com/?a*b#*"] {
            assert_eq!(parsed(text), text);
        }
    }

    /// Every spelling of loopback that Chromium opened, and where the parser says that it leads.
    #[test]
    fn spellings_of_addresses_are_seen_through() {
        for spelling in [
            "127.1",
            "0x7f000001",
            "2130706433",
            "①②⑦.0.0.1",
            "017700000001",
            "127.0.0.1.",
            "127.0.0.1..",
            "0x7f000001...",
            "0x7f.1",
            "%31%32%37.0.0.1",
        ] {
            let target = Target::of(&Url::parse(&format!("http://{spelling}/")).unwrap()).unwrap();
            assert_eq!(target.to_string(), "127.0.0.1:80", "{spelling}");
            assert_eq!(Target::of_authority(&format!("{spelling}:443")).unwrap().to_string(), "127.0.0.1:443");
        }
        for (spelling, host) in [
            ("0", "0.0.0.0"),
            ("localhost.", "localhost"),
            ("LOCALHOST..", "localhost"),
            ("ａ.localhost", "a.localhost"),
        ] {
            assert_eq!(Target::of_authority(spelling).unwrap().host.to_string(), host);
        }
    }

    #[test]
    fn an_authority_is_a_host_and_a_port() {
        for text in ["", ":80", "a:0", "a:65536", "a/b", "u@h:1", "@h:1", ":@h", "a?b", "a b", "[::1", "."] {
            assert_eq!(Target::of_authority(text), None, "{text:?}");
        }
        assert_eq!(Target::of_authority("[::1]:8080").unwrap().to_string(), "[::1]:8080");
    }

    #[test]
    fn credentials_and_monsters_are_blocked() {
        assert_eq!(parse("http://user:pw@host/").unwrap_err().code, ErrorCode::UrlBlocked);
        assert_eq!(parse(&format!("http://h/{}", "x".repeat(9000))).unwrap_err().code, ErrorCode::UrlBlocked);
        assert_eq!(parse("http://").unwrap_err().code, ErrorCode::InvalidArgument);
    }
}
