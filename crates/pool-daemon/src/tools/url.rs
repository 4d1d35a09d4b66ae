//! Which URLs an agent may open. The serialised form of what was checked is what goes to the browser.

use browserfleet_common::error_code::ErrorCode;
use url::{Host, Url};

use crate::failure::Failure;

/// Longest URL, in bytes.
const MAX_URL: usize = 8 << 10;

/// Reads the address an agent gave, as a browser's address bar would, and checks it.
pub(super) fn parse(text: &str) -> Result<Url, Failure> {
    let text = text.trim();
    if text.len() > MAX_URL {
        let message = format!("the URL has {} bytes, at most {MAX_URL} are allowed", text.len());
        return Err(Failure::new(ErrorCode::UrlBlocked, message));
    }
    let invalid = |error| Failure::invalid(format!("{text:?} is not a URL: {error}"));
    let url = match Url::parse(text) {
        Ok(url) if has_scheme(&url, text) => url,
        Err(error) if text.contains("://") => return Err(invalid(error)),
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
    if url.host().is_none_or(|host| matches!(host, Host::Domain(""))) {
        return blocked("the URL has no host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return blocked("URLs with a user name or password are blocked; log in on the page instead");
    }
    Ok(())
}

/// `localhost:3000` parses as scheme `localhost`: a word before the first colon is a scheme only if it is a known one,
/// or is followed by a slash.
fn has_scheme(url: &Url, text: &str) -> bool {
    const KNOWN: [&str; 12] = [
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
    ];
    let after = text.split_once(':').map(|(_, after)| after);
    KNOWN.contains(&url.scheme()) || after.is_some_and(|after| after.starts_with('/'))
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
    fn credentials_and_monsters_are_blocked() {
        assert_eq!(parse("http://user:pw@host/").unwrap_err().code, ErrorCode::UrlBlocked);
        assert_eq!(parse(&format!("http://h/{}", "x".repeat(9000))).unwrap_err().code, ErrorCode::UrlBlocked);
        assert_eq!(parse("http://").unwrap_err().code, ErrorCode::InvalidArgument);
    }
}
