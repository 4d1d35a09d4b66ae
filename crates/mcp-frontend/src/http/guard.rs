//! Who may be asked, and by which pages: `Host` against DNS rebinding, `Origin` against foreign pages in a browser.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{
    HeaderMap, Request, StatusCode, Uri,
    header::{HOST, ORIGIN},
    uri::Authority,
};

use crate::config::Http;

/// What is let through.
#[derive(Debug)]
pub(super) struct Guard {
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl Guard {
    pub(super) fn new(config: &Http) -> Self {
        let lower = |list: &[String]| list.iter().map(|entry| entry.to_ascii_lowercase()).collect();
        Self { hosts: lower(&config.allowed_hosts), origins: lower(&config.allowed_origins) }
    }

    fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), (StatusCode, &'static str)> {
        let host = host(uri, headers).ok_or((StatusCode::BAD_REQUEST, "Host is missing, malformed or ambiguous"))?;
        if !self.hosts.iter().any(|allowed| *allowed == host.name || *allowed == host.full) {
            return Err((StatusCode::FORBIDDEN, "Host is not allowed; see http.allowed_hosts"));
        }
        let forbidden = Err((StatusCode::FORBIDDEN, "Origin is not allowed; see http.allowed_origins"));
        let mut origins = headers.get_all(ORIGIN).iter();
        // Programs send no Origin; browsers always do.
        let Some(origin) = origins.next() else { return Ok(()) };
        let Ok(origin) = origin.to_str() else { return forbidden };
        // Browsers write origins in lower case: another spelling is no browser's.
        let own = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        let allowed = own == Some(host.full.as_str()) || self.origins.iter().any(|allowed| allowed == origin);
        if allowed && origins.next().is_none() { Ok(()) } else { forbidden }
    }
}

/// The host a request is for, in lower case.
#[derive(Debug)]
struct Host {
    name: String,
    /// With the port, if there is one.
    full: String,
}

fn host(uri: &Uri, headers: &HeaderMap) -> Option<Host> {
    let mut values = headers.get_all(HOST).iter();
    let header = values.next().map(|value| value.to_str().ok()?.parse::<Authority>().ok());
    if values.next().is_some() {
        return None;
    }
    let authority = match (uri.authority(), header) {
        // Two hosts in one request: which one would be meant?
        (Some(target), Some(header)) if header.as_ref() != Some(target) => return None,
        (Some(target), _) => target.clone(),
        (None, header) => header??,
    };
    if authority.as_str().contains(['@', '%']) || authority.host().is_empty() {
        return None;
    }
    let full = authority.as_str().to_ascii_lowercase();
    Some(Host { name: authority.host().to_ascii_lowercase(), full })
}

/// Checks every request, whatever its path.
pub(super) async fn check(State(guard): State<Arc<Guard>>, request: Request<Body>, next: Next) -> Response {
    match guard.check(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err((status, why)) => {
            tracing::debug!(status = status.as_u16(), why, "request refused");
            (status, why).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    fn status(hosts: &[&str], origins: &[&str]) -> u16 {
        let mut config = Config::default().http;
        config.allowed_hosts.push("fleet.example".to_owned());
        config.allowed_hosts.push("port.example:8443".to_owned());
        config.allowed_origins = vec!["https://good.example".to_owned()];
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, host.parse().unwrap());
        }
        for origin in origins {
            headers.append(ORIGIN, origin.parse().unwrap());
        }
        let checked = Guard::new(&config).check(&Uri::from_static("/mcp"), &headers);
        checked.map_or_else(|(status, _)| status.as_u16(), |()| 200)
    }

    #[test]
    fn hosts() {
        for fine in ["localhost", "localhost:8931", "127.0.0.1:1", "[::1]:8931", "FLEET.example", "port.example:8443"] {
            assert_eq!(status(&[fine], &[]), 200, "{fine}");
        }
        for foreign in
            ["evil.example", "localhost.evil.example", "127.0.0.2", "port.example", "port.example:1", "[::2]"]
        {
            assert_eq!(status(&[foreign], &[]), 403, "{foreign}");
        }
        for broken in [&["user@localhost"][..], &["[::1%25lo]"], &[""], &["a b"], &["localhost", "localhost"], &[]] {
            assert_eq!(status(broken, &[]), 400, "{broken:?}");
        }
    }

    #[test]
    fn origins() {
        let own = ["localhost:8931"];
        for fine in ["http://localhost:8931", "https://localhost:8931", "https://good.example"] {
            assert_eq!(status(&own, &[fine]), 200, "{fine}");
        }
        for foreign in [
            "null",
            "",
            "https://evil.example",
            "https://good.example.evil",
            "https://good.example:8443",
            "HTTPS://GOOD.EXAMPLE",
            "http://good.example",
            "http://localhost:8932",
            "http://localhost",
            "localhost:8931",
            "file://localhost:8931",
        ] {
            assert_eq!(status(&own, &[foreign]), 403, "{foreign}");
        }
        assert_eq!(status(&own, &["https://good.example", "https://good.example"]), 403);
    }

    #[test]
    fn an_absolute_target_and_a_different_host_contradict_each_other() {
        let guard = Guard::new(&Config::default().http);
        let target = Uri::from_static("http://localhost:8931/mcp");
        let header = |host: &str| HeaderMap::from_iter([(HOST, host.parse().unwrap())]);
        assert!(guard.check(&target, &header("localhost:8931")).is_ok());
        assert_eq!(guard.check(&target, &header("127.0.0.1:8931")).unwrap_err().0, StatusCode::BAD_REQUEST);
    }
}
