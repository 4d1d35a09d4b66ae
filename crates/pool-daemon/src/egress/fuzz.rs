//! What agents call addresses, and what pages ask their proxy for, whatever it is: for fuzzing (`fuzz/`), and for its corpus
//! among the tests.

use std::{net::IpAddr, sync::Arc};

use browserfleet_common::egress::EgressRules;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use url::{Host, Url};

use super::{
    Network, Target,
    policy::Policy,
    serve::{asked_for, strip, to_origin},
    target,
};

/// Reads an address as an agent writes it.
///
/// # Panics
/// When what is handed on would be read otherwise than what was checked, or leads inside although only the outside is open.
pub fn url_policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(url) = target::parse(text) else { return };
    if url.as_str() == "about:blank" {
        return;
    }
    assert!(matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none());
    assert_eq!(Url::parse(url.as_str()).as_ref(), Ok(&url), "what is handed on is what was checked");
    is_sound(&Target::of(&url).expect("an address that is taken leads somewhere"));
}

/// Reads a request to a proxy: its first line, then its headers, a line each.
///
/// # Panics
/// When it leads elsewhere than it says, or says things to a server that are between a browser and its proxy.
pub fn proxy_request(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut words = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
    let (Some(method), Some(uri)) = (words.next(), words.next()) else { return };
    let (Ok(method), Ok(uri)) = (Method::from_bytes(method), Uri::try_from(uri)) else { return };
    let mut request = Request::new(());
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(&value[1..])) {
            request.headers_mut().append(name, value);
        }
    }
    let Some(target) = asked_for(&method, &uri) else { return };
    assert!(!uri.authority().is_some_and(|authority| authority.as_str().contains('@')), "nobody logs in by an address");
    is_sound(&target);
    (*request.method_mut(), *request.uri_mut()) = (method, uri);
    strip(request.headers_mut());
    has_nothing_between_hops(request.headers());
    if to_origin(&mut request).is_ok() {
        assert!(request.uri().authority().is_none() && request.uri().path().starts_with('/'));
    }
}

/// What holds for wherever something leads.
fn is_sound(target: &Target) {
    let again = Target::of_authority(&target.to_string());
    assert_eq!(again.as_ref(), Some(target), "it is written as it was read");
    let policy = Policy::new(Network::Public, Arc::new([]), EgressRules::default());
    if policy.admit(target).is_err() {
        return;
    }
    assert!(matches!(target.port, 80 | 443), "{target}");
    match &target.host {
        Host::Domain(name) => {
            assert!(name != "localhost" && !name.ends_with(".localhost") && !name.ends_with('.'), "{name}");
            assert!(name.parse::<IpAddr>().is_err(), "an address is no name: {name}");
        }
        Host::Ipv4(address) => {
            let inside = address.is_loopback() || address.is_private() || address.is_link_local();
            assert!(!inside && !address.is_unspecified() && !address.is_multicast() && !address.is_broadcast());
        }
        Host::Ipv6(address) => {
            let inside = address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local();
            assert!(!inside && !address.is_unspecified() && !address.is_multicast());
            let within = address.to_ipv4().or_else(|| address.to_ipv4_mapped());
            assert!(within.is_none_or(|address| !address.is_loopback() && !address.is_private()));
        }
    }
}

fn has_nothing_between_hops(headers: &HeaderMap) {
    for name in ["connection", "proxy-authorization", "proxy-connection", "keep-alive", "te", "trailer", "upgrade"] {
        assert!(!headers.contains_key(name), "{name}");
    }
}
