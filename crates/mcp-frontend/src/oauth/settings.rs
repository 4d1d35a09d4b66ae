//! `[oauth]`: whose tokens are good here.

use std::time::Duration;

use browserfleet_common::{authorities::Authorities, config::Reader};
use jsonwebtoken::Algorithm;
use url::Url;

use super::{fetch::Fetcher, scopes::ScopeNames, signature::ALGORITHMS};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
/// Most audiences.
const AUDIENCES_MAX: usize = 16;

/// Whose tokens are good here.
#[derive(Clone, Debug)]
pub struct Settings {
    /// As tokens write it, to the letter.
    pub(super) issuer: String,
    /// The URL of this server's endpoint, as clients know it: without a slash at the end.
    pub(super) resource: Url,
    /// Whom tokens may be for; one of these.
    pub(super) audience: Vec<String>,
    /// Where its keys are; none: it says so itself.
    pub(super) jwks_url: Option<Url>,
    pub(super) algorithms: Vec<Algorithm>,
    /// How much clocks may differ.
    pub(super) leeway: Duration,
    /// The keys are not read more often than this, whatever tokens say.
    pub(super) refetch: Duration,
    /// They are read again after this time: a key that the issuer has taken back is good for no longer.
    pub(super) refresh: Duration,
    /// They are good for so long while the issuer does not answer.
    pub(super) stale: Duration,
    pub(super) scopes: ScopeNames,
    /// The claim that takes away what the settings allow.
    pub(super) limits_claim: String,
    pub(super) fetcher: Fetcher,
}

impl Settings {
    /// Reads the table; what is wrong with it is collected in `reader`. `None`: no tokens are taken.
    pub(crate) fn read(reader: &mut Reader, public_url: Option<&str>) -> Option<Self> {
        let issuer = reader.text("oauth.issuer", "");
        let audience = reader.list("oauth.audience", &[]);
        let jwks_url = reader.text("oauth.jwks_url", "");
        let authorities = reader.file("oauth.ca_file", Authorities::read);
        let algorithms = algorithms(reader);
        let leeway = reader.duration("oauth.leeway", SECOND * 30, Duration::ZERO..=5 * MINUTE);
        let refetch = reader.duration("oauth.refetch", SECOND * 30, SECOND..=HOUR);
        let refresh = reader.duration("oauth.refresh", MINUTE * 5, SECOND..=24 * HOUR);
        let stale = reader.duration("oauth.stale", HOUR * 6, SECOND..=7 * 24 * HOUR);
        let scopes = reader.list("oauth.scopes", &[]);
        let scopes = ScopeNames::parse(&scopes).map_err(|why| reader.problem(format!("oauth.scopes: {why}")));
        let limits_claim = reader.text("oauth.limits_claim", "browserfleet");
        if issuer.is_empty() {
            if !audience.is_empty() || !jwks_url.is_empty() || authorities.is_some() {
                reader.problem("oauth.issuer is needed where other settings of [oauth] are: whose tokens are good?");
            }
            return None;
        }
        if refresh < refetch || stale < refresh {
            reader.problem("oauth.refetch, oauth.refresh and oauth.stale must not be shorter than the one before");
        }
        let fetcher = fetcher(reader, &[&issuer, &jwks_url], authorities.as_ref())?;
        issuer_url(&fetcher, &issuer).map_err(|why| reader.problem(format!("oauth.issuer: {why}"))).ok()?;
        let given = Some(jwks_url.as_str()).filter(|url| !url.is_empty()).map(|url| fetcher.usable(url));
        let jwks_url = given.transpose().map_err(|why| reader.problem(format!("oauth.jwks_url: {why}"))).ok()?;
        let resource = resource(reader, public_url)?;
        let audience = if audience.is_empty() { vec![resource.to_string()] } else { audience };
        if audience.len() > AUDIENCES_MAX || audience.iter().any(String::is_empty) {
            reader.problem(format!("oauth.audience: from 1 to {AUDIENCES_MAX} texts"));
        }
        let scopes = scopes.ok()?;
        Some(Self {
            issuer,
            resource,
            audience,
            jwks_url,
            algorithms,
            leeway,
            refetch,
            refresh,
            stale,
            scopes,
            limits_claim,
            fetcher,
        })
    }

    /// Where the issuer may say where its keys are: what RFC 8414 makes of its name, then what `OpenID` Connect does.
    pub(super) fn metadata_urls(&self) -> Vec<Url> {
        let Ok(url) = Url::parse(&self.issuer) else { return Vec::new() };
        let path = url.path().trim_end_matches('/').to_owned();
        let at = |path: String| {
            let mut url = url.clone();
            url.set_path(&path);
            url
        };
        vec![
            at(format!("/.well-known/oauth-authorization-server{path}")),
            at(format!("{path}/.well-known/openid-configuration")),
        ]
    }
}

fn algorithms(reader: &mut Reader) -> Vec<Algorithm> {
    let known: Vec<&str> = ALGORITHMS.iter().map(|(name, _)| *name).collect();
    let names = reader.list("oauth.algorithms", &known);
    let mut algorithms = Vec::new();
    for name in &names {
        match ALGORITHMS.iter().find(|(known, _)| known == name) {
            Some((_, algorithm)) => algorithms.push(*algorithm),
            None => {
                reader.problem(format!("oauth.algorithms: {name:?} is not allowed; there are {}", known.join(", ")));
            }
        }
    }
    if names.is_empty() {
        reader.problem(format!("oauth.algorithms: at least one of {}", known.join(", ")));
    }
    algorithms
}

/// TLS is made ready only where it is needed: a machine without authorities may have an issuer of its own.
fn fetcher(reader: &mut Reader, urls: &[&str], authorities: Option<&Authorities>) -> Option<Fetcher> {
    if authorities.is_none() && !urls.iter().any(|url| url.starts_with("https:")) {
        return Some(Fetcher::near());
    }
    Fetcher::new(authorities).map_err(|why| reader.problem(format!("oauth.issuer: {why}"))).ok()
}

fn issuer_url(fetcher: &Fetcher, issuer: &str) -> Result<(), String> {
    let url = fetcher.usable(issuer)?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("{issuer:?}: an issuer has neither query nor fragment"));
    }
    Ok(())
}

/// The endpoint, as clients know it: what `Host` says anybody can send.
fn resource(reader: &mut Reader, public_url: Option<&str>) -> Option<Url> {
    let Some(public_url) = public_url else {
        reader.problem(
            "http.public_url is needed with oauth.issuer: clients ask for tokens for this server by its URL, such as \
             https://browsers.example.com",
        );
        return None;
    };
    let resource = Url::parse(&format!("{public_url}/mcp"));
    resource.map_err(|error| reader.problem(format!("http.public_url = {public_url}: {error}"))).ok()
}
