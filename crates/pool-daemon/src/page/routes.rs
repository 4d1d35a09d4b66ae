//! Routes: which requests are answered by us, and which go on with other headers. Decides only.
//!
//! A route changes no URL. What goes on leaves through the egress gate as it would have without it, and what is answered
//! never leaves the browser.

use std::{collections::BTreeMap, sync::Arc};

use regex::{Regex, RegexBuilder};
use serde::Serialize;
use url::Url;

use crate::failure::Failure;

/// Most routes of a session.
pub const ROUTES_MAX: usize = 50;
/// Most bytes of the bodies of all of them together.
const BODIES_MAX: usize = 4 << 20;
/// Most characters of a pattern, and most bytes of a compiled one.
const PATTERN_MAX: usize = 1000;
const COMPILED_MAX: usize = 256 << 10;
/// Most headers of a route, and most bytes of one.
const HEADERS_MAX: usize = 50;
const HEADER_BYTES_MAX: usize = 8 << 10;
/// Most characters of a header that is shown to be wrong.
const HEADER_SHOWN: usize = 100;

/// Headers that say where a request goes or how it travels: that is not a page's business, nor a route's.
const RESERVED: [&str; 12] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "forwarded",
];

/// What is done with requests whose URL matches.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    pub pattern: String,
    #[serde(skip)]
    matches: Regex,
    /// The same or wider, as Chromium writes patterns.
    #[serde(skip)]
    wide: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove_headers: Vec<String>,
}

/// What an agent says of a route.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub pattern: String,
    pub status: Option<u16>,
    pub body: Option<String>,
    pub content_type: Option<String>,
    /// `Name: Value`, each.
    pub headers: Vec<String>,
    /// Names, parted by commas.
    pub remove_headers: Option<String>,
}

/// A request that waits for what is done with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) url: &'a str,
    pub(super) method: &'a str,
    pub(super) headers: &'a BTreeMap<String, String>,
}

/// What is done with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes to its server; with these headers, if there are some.
    Continue(Option<Vec<(String, String)>>),
    /// It is answered here.
    Answer { status: u16, headers: Vec<(String, String)>, body: String },
}

impl Route {
    /// Checks what an agent wants.
    ///
    /// # Errors
    /// With what is wrong and how to say it right.
    pub fn new(wanted: Wanted) -> Result<Self, Failure> {
        let Wanted { pattern, status, body, content_type, headers, remove_headers } = wanted;
        if pattern.is_empty() || pattern.len() > PATTERN_MAX {
            return Err(Failure::invalid(format!("pattern must have 1 to {PATTERN_MAX} characters")));
        }
        if pattern.starts_with(['/', '.']) {
            return Err(Failure::invalid(format!("pattern matches whole URLs: write **{pattern}")));
        }
        if status.is_some_and(|status| !(200..=599).contains(&status)) {
            return Err(Failure::invalid("status must be from 200 to 599"));
        }
        if headers.len() > HEADERS_MAX {
            return Err(Failure::invalid(format!("at most {HEADERS_MAX} headers are possible")));
        }
        let pieces = pieces(&pattern)?;
        let headers = headers.iter().map(|header| parse_header(header)).collect::<Result<_, _>>()?;
        if content_type.as_ref().is_some_and(|kind| !is_sound("Content-Type", kind)) {
            return Err(Failure::invalid("contentType takes one line and at most 8 KiB"));
        }
        let remove = remove_headers.unwrap_or_default();
        let remove = remove.split(',').map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty());
        Ok(Self {
            matches: compile(&pieces)?,
            wide: wide(&pieces),
            pattern,
            status,
            body,
            content_type,
            headers,
            remove_headers: remove.collect(),
        })
    }

    /// Whether it answers requests itself.
    fn answers(&self) -> bool {
        self.status.is_some() || self.body.is_some()
    }

    fn answer(&self, asked: Asked<'_>) -> Verdict {
        let preflight = asked.method == "OPTIONS" && header(asked, "access-control-request-method").is_some();
        let mut headers = self.headers.clone();
        let has = |headers: &[(String, String)], name: &str| {
            headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
        };
        if let Some(kind) = self.content_type.as_ref().filter(|_| !has(&headers, "content-type")) {
            headers.push(("content-type".to_owned(), kind.clone()));
        }
        // As the peer: a page of another origin may read what the agent says.
        if let Some(origin) = header(asked, "origin").filter(|origin| is_foreign(origin, asked.url))
            && !has(&headers, "access-control-allow-origin")
        {
            headers.push(("access-control-allow-origin".to_owned(), origin.to_owned()));
            headers.push(("access-control-allow-credentials".to_owned(), "true".to_owned()));
            headers.push(("vary".to_owned(), "Origin".to_owned()));
        }
        if !preflight {
            return Verdict::Answer {
                status: self.status.unwrap_or(200),
                headers,
                body: self.body.clone().unwrap_or_default(),
            };
        }
        let wanted = |name| header(asked, name).unwrap_or_default().to_owned();
        headers.push(("access-control-allow-methods".to_owned(), wanted("access-control-request-method")));
        headers.push(("access-control-allow-headers".to_owned(), wanted("access-control-request-headers")));
        Verdict::Answer { status: 204, headers, body: String::new() }
    }

    fn pass(&self, asked: Asked<'_>) -> Verdict {
        let mut headers: Vec<_> = asked.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        headers.retain(|(name, _)| {
            let name = name.to_ascii_lowercase();
            !self.remove_headers.contains(&name)
                && !self.headers.iter().any(|(added, _)| added.eq_ignore_ascii_case(&name))
        });
        headers.extend(
            self.headers
                .iter()
                .filter(|(name, _)| !self.remove_headers.iter().any(|removed| removed.eq_ignore_ascii_case(name)))
                .cloned(),
        );
        Verdict::Continue(Some(headers))
    }
}

/// What is done with a request: the latest route that matches counts.
pub(super) fn decide(routes: &[Arc<Route>], asked: Asked<'_>) -> Verdict {
    match routes.iter().rev().find(|route| route.matches.is_match(asked.url)) {
        Some(route) if route.answers() => route.answer(asked),
        Some(route) => route.pass(asked),
        None => Verdict::Continue(None),
    }
}

/// Which requests Chromium has to ask about.
pub(super) fn patterns(routes: &[Arc<Route>]) -> Vec<String> {
    routes.iter().map(|route| route.wide.clone()).collect()
}

/// Checks that one more route is not too much.
pub(super) fn check_room(routes: &[Arc<Route>], new: &Route) -> Result<(), Failure> {
    if routes.len() >= ROUTES_MAX {
        return Err(Failure::invalid(format!(
            "a session may have {ROUTES_MAX} routes; remove some with browser_unroute"
        )));
    }
    let body = |route: &Route| route.body.as_ref().map_or(0, String::len);
    let bytes: usize = routes.iter().map(|route| body(route)).sum::<usize>() + body(new);
    if bytes > BODIES_MAX {
        return Err(Failure::invalid(format!("the bodies of a session's routes may have {BODIES_MAX} bytes together")));
    }
    Ok(())
}

fn header<'a>(asked: Asked<'a>, wanted: &str) -> Option<&'a str> {
    asked.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.as_str())
}

fn is_foreign(origin: &str, url: &str) -> bool {
    Url::parse(url)
        .is_ok_and(|url| url.scheme().starts_with("http") && url.origin().ascii_serialization() != origin.trim())
}

/// A header as `Name: Value`, if it is one that may be set: none that says where or how a request travels.
///
/// # Errors
/// When it is none, or is one of those.
pub fn parse_header(text: &str) -> Result<(String, String), Failure> {
    let (name, value) = text.split_once(':').unwrap_or_default();
    let (name, value) = (name.trim(), value.trim());
    if !is_sound(name, value) {
        let shown: String = text.chars().filter(|character| !character.is_control()).take(HEADER_SHOWN).collect();
        let message = format!("Invalid header \"{shown}\": expected \"Name: Value\", on one line and at most 8 KiB");
        return Err(Failure::invalid(message));
    }
    let lower = name.to_ascii_lowercase();
    if RESERVED.contains(&lower.as_str()) || lower.starts_with("proxy-") {
        return Err(Failure::invalid(format!("{name} is not yours to set: it says where or how a request travels")));
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// Whether a header can be sent so.
fn is_sound(name: &str, value: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let sound = !name.is_empty() && name.bytes().all(token) && !value.contains(['\r', '\n', '\0']);
    sound && name.len() + value.len() <= HEADER_BYTES_MAX
}

/// A piece of a pattern of Playwright's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Exactly(char),
    /// `*`: within a path's segment.
    Within,
    /// `**`: across them.
    Across,
    /// `**/`: whole segments; behind a slash also none.
    Segments {
        behind_slash: bool,
    },
    /// `{a,b}`: either.
    Open,
    Or,
    Close,
}

/// Takes a pattern apart, once for all who read it.
fn pieces(pattern: &str) -> Result<Vec<Piece>, Failure> {
    // One without a wildcard is a URL, written as browsers do.
    let whole = Url::parse(pattern).ok().filter(|_| !pattern.contains(['*', '{'])).map(String::from);
    let text: Vec<char> = whole.as_deref().unwrap_or(pattern).chars().collect();
    let (mut pieces, mut group, mut at) = (Vec::new(), false, 0);
    while at < text.len() {
        pieces.push(match text[at] {
            '\\' if at + 1 < text.len() => {
                at += 1;
                Piece::Exactly(text[at])
            }
            '*' => {
                let start = at;
                while text.get(at + 1) == Some(&'*') {
                    at += 1;
                }
                if at == start {
                    Piece::Within
                } else if text.get(at + 1) == Some(&'/') {
                    at += 1;
                    Piece::Segments { behind_slash: start > 0 && text[start - 1] == '/' }
                } else {
                    Piece::Across
                }
            }
            '{' if group => return Err(misunderstood()),
            '{' => {
                group = true;
                Piece::Open
            }
            '}' if group => {
                group = false;
                Piece::Close
            }
            ',' if group => Piece::Or,
            other => Piece::Exactly(other),
        });
        at += 1;
    }
    if group { Err(misunderstood()) } else { Ok(pieces) }
}

fn misunderstood() -> Failure {
    Failure::invalid("the pattern is not understood: every { needs its }, and groups do not nest")
}

fn compile(pieces: &[Piece]) -> Result<Regex, Failure> {
    let mut regex = "^".to_owned();
    for piece in pieces {
        match piece {
            Piece::Exactly(character) => regex.push_str(&regex::escape(&character.to_string())),
            Piece::Within => regex.push_str("[^/]*"),
            Piece::Across => regex.push_str(".*"),
            Piece::Segments { behind_slash: true } => regex.push_str("(?:.+/|)"),
            Piece::Segments { behind_slash: false } => regex.push_str(".*/"),
            Piece::Open => regex.push_str("(?:"),
            Piece::Or => regex.push('|'),
            Piece::Close => regex.push(')'),
        }
    }
    regex.push('$');
    let built = RegexBuilder::new(&regex).size_limit(COMPILED_MAX).build();
    built.map_err(|_too_large| Failure::invalid("the pattern is too large"))
}

/// A pattern of Chromium's that matches at least what [`compile`]'s does: `*` is any characters there, `?` one or none.
fn wide(pieces: &[Piece]) -> String {
    let (mut wide, mut group) = (String::new(), false);
    for piece in pieces {
        match piece {
            Piece::Open => group = true,
            // Whatever a group has, one wildcard stands for it.
            Piece::Close => {
                group = false;
                wide.push('*');
            }
            _ if group => {}
            Piece::Exactly(character) => {
                if matches!(character, '*' | '?' | '\\') {
                    wide.push('\\');
                }
                wide.push(*character);
            }
            Piece::Within | Piece::Across | Piece::Segments { behind_slash: true } => wide.push('*'),
            Piece::Segments { behind_slash: false } => wide.push_str("*/"),
            Piece::Or => {}
        }
    }
    wide
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(pattern: &str) -> Route {
        Route::new(Wanted { pattern: pattern.to_owned(), body: Some("mock".to_owned()), ..Wanted::default() }).unwrap()
    }

    #[test]
    fn patterns_match_as_the_peers_do() {
        for (pattern, yes, no) in [
            ("**/api/users", "https://h/v1/api/users", "https://h/api/users/1"),
            ("**/*.{png,jpg}", "http://h/a/b.jpg", "http://h/a/b.gif"),
            ("http://h/*.js", "http://h/a.js", "http://h/a/b.js"),
            ("http://h/**/x", "http://h/x", "http://h/y"),
            ("http://h:8080", "http://h:8080/", "http://h:8080/a"),
            ("**/find?q=*", "http://h/find?q=1", "http://h/findxq=1"),
            ("**", "http://anything/", ""),
        ] {
            let regex = compile(&pieces(pattern).unwrap()).unwrap();
            assert!(regex.is_match(yes), "{pattern} {yes} {regex}");
            assert!(no.is_empty() || !regex.is_match(no), "{pattern} {no} {regex}");
        }
        for wrong in ["{a", "{a,{b,c}}", "{a\\}"] {
            assert!(pieces(wrong).is_err(), "{wrong}");
        }
    }

    /// A pattern of Chromium's as a regular expression.
    fn as_chromium(wide: &str) -> Regex {
        let (mut regex, mut characters) = ("^".to_owned(), wide.chars());
        while let Some(character) = characters.next() {
            match character {
                '*' => regex.push_str(".*"),
                '?' => regex.push_str(".?"),
                '\\' => regex.push_str(&regex::escape(&characters.next().unwrap().to_string())),
                other => regex.push_str(&regex::escape(&other.to_string())),
            }
        }
        Regex::new(&(regex + "$")).unwrap()
    }

    #[test]
    fn chromium_asks_about_at_least_as_much() {
        let wide_of = |pattern| wide(&pieces(pattern).unwrap());
        assert_eq!(wide_of("**/api/*.{png,jpg}?x"), "*/api/*.*\\?x");
        assert_eq!(wide_of("HTTP://H:80"), "http://h/");
        // Every pattern of up to three of these, with every text of up to three of those.
        let patterns = all(&["h", "/", "*", "**", "**/", "{h,}", "{\\}*,/}", "?", "\\", "\\*"]);
        let texts = all(&["h", "/", "?", "*", "\\", "}"]);
        let mut matched = 0;
        for pattern in patterns {
            let Ok(pieces) = pieces(&pattern) else { continue };
            let (ours, chromiums) = (compile(&pieces).unwrap(), as_chromium(&wide(&pieces)));
            for text in texts.iter().filter(|text| ours.is_match(text)) {
                assert!(chromiums.is_match(text), "{pattern} {text} {ours} {chromiums}");
                matched += 1;
            }
        }
        assert!(matched > 1000, "{matched}");
    }

    fn all(parts: &[&str]) -> Vec<String> {
        let longer = |of: &[String]| -> Vec<String> {
            of.iter().flat_map(|text| parts.iter().map(move |part| format!("{text}{part}"))).collect()
        };
        let mut all = vec![String::new()];
        let mut last = all.clone();
        for _ in 0..3 {
            last = longer(&last);
            all.extend(last.iter().cloned());
        }
        all
    }

    #[test]
    fn the_latest_route_that_matches_counts() {
        let routes = [Arc::new(route("**/a")), Arc::new(Route { status: Some(404), ..route("**/a") })];
        let headers = BTreeMap::new();
        let asked = |url| Asked { url, method: "GET", headers: &headers };
        assert!(matches!(decide(&routes, asked("http://h/a")), Verdict::Answer { status: 404, .. }));
        assert_eq!(decide(&routes, asked("http://h/b")), Verdict::Continue(None));
    }

    #[test]
    fn a_page_of_another_origin_may_read_an_answer_and_ask_first() {
        let headers = BTreeMap::from([
            ("Origin".to_owned(), "http://page".to_owned()),
            ("Access-Control-Request-Method".to_owned(), "PUT".to_owned()),
        ]);
        let asked = Asked { url: "http://api/a", method: "OPTIONS", headers: &headers };
        let Verdict::Answer { status, headers, body } = decide(&[Arc::new(route("**/a"))], asked) else { panic!() };
        assert_eq!((status, body.as_str()), (204, ""));
        let has = |name: &str, value: &str| headers.contains(&(name.to_owned(), value.to_owned()));
        assert!(has("access-control-allow-origin", "http://page") && has("access-control-allow-methods", "PUT"));
    }

    #[test]
    fn a_request_that_goes_on_has_other_headers_and_the_same_way() {
        let wanted = Wanted {
            pattern: "**".to_owned(),
            headers: vec!["X-Test: 1".to_owned(), "accept: text/plain".to_owned()],
            remove_headers: Some("Cookie, ".to_owned()),
            ..Wanted::default()
        };
        let headers = BTreeMap::from([("Accept", "*/*"), ("Cookie", "a=1"), ("Other", "2")]);
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let asked = Asked { url: "http://h/", method: "GET", headers: &headers };
        let Verdict::Continue(Some(sent)) = decide(&[Arc::new(Route::new(wanted).unwrap())], asked) else { panic!() };
        let sent: Vec<_> = sent.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(sent, [("Other", "2"), ("X-Test", "1"), ("accept", "text/plain")]);
    }

    #[test]
    fn what_would_lead_elsewhere_or_break_a_message_is_refused() {
        let with = |header: &str| {
            let headers = vec![header.to_owned()];
            Route::new(Wanted { pattern: "**".to_owned(), headers, ..Wanted::default() }).unwrap_err().message
        };
        for header in ["Host: internal", "proxy-authorization: x", "Content-Length: 3", "Transfer-Encoding: chunked"] {
            assert!(with(header).contains("not yours to set"), "{header}");
        }
        for header in ["no colon", ": empty", "a b: c", "x: a\r\nHost: internal"] {
            assert!(with(header).contains("expected \"Name: Value\""), "{header}");
        }
        let relative = Route::new(Wanted { pattern: "/api".to_owned(), ..Wanted::default() }).unwrap_err();
        assert!(relative.message.contains("write **/api"), "{relative}");
        let many: Vec<_> = (0..ROUTES_MAX).map(|_| Arc::new(route("**"))).collect();
        assert!(check_room(&many, &route("**")).is_err() && check_room(&many[1..], &route("**")).is_ok());
        let large = Route { body: Some("x".repeat(BODIES_MAX)), ..route("**") };
        assert!(check_room(&many[..1], &large).is_err());
    }
}
