//! What clients are told to get a token by: this server's metadata (RFC 9728), and the challenge of a refusal (RFC 6750).

use browserfleet_tools::Scope;
use http::HeaderValue;
use serde_json::{Value, json};
use url::Url;

use super::{scopes::ScopeNames, settings::Settings};

/// Where the metadata of a server is; that of one of its resources is below, at the path of the resource.
pub(crate) const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// This server, as what tokens are for.
#[derive(Debug)]
pub(crate) struct Resource {
    url: Url,
    issuer: String,
    scopes: ScopeNames,
}

impl Resource {
    pub(super) fn of(settings: &Settings) -> Self {
        Self { url: settings.resource.clone(), issuer: settings.issuer.clone(), scopes: settings.scopes.clone() }
    }

    /// Whether its metadata are at this path.
    pub(crate) fn is_described_at(&self, path: &str) -> bool {
        path.strip_prefix(WELL_KNOWN).is_some_and(|rest| rest.is_empty() || rest == self.url.path())
    }

    pub(crate) fn metadata(&self) -> Value {
        json!({
            "resource": self.url.as_str(),
            "authorization_servers": [self.issuer],
            "scopes_supported": self.scopes.all().collect::<Vec<_>>(),
            "bearer_methods_supported": ["header"],
            "resource_name": "browserfleet",
        })
    }

    /// For a request without a token that is good.
    pub(crate) fn challenge(&self, bad: bool) -> HeaderValue {
        self.challenged(if bad { Some("invalid_token") } else { None }, &self.scopes.of_agents())
    }

    /// For a token that lacks a scope.
    pub(crate) fn wants(&self, scope: Scope) -> HeaderValue {
        self.challenged(Some("insufficient_scope"), self.scopes.name(scope))
    }

    fn challenged(&self, error: Option<&str>, scope: &str) -> HeaderValue {
        let mut url = self.url.clone();
        url.set_path(&format!("{WELL_KNOWN}{}", self.url.path()));
        let error = error.map(|error| format!(", error=\"{error}\"")).unwrap_or_default();
        let text = format!("Bearer realm=\"browserfleet\"{error}, scope=\"{scope}\", resource_metadata=\"{url}\"");
        // A URL is ASCII, and so are the names of scopes.
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("Bearer"))
    }
}
