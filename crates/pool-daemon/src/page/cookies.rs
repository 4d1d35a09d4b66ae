//! The cookies of a browser context, with everything that decides who gets them.

use browserfleet_cdp::browser_protocol::{
    network::DeleteCookiesParams,
    storage::{ClearCookiesParams, GetCookiesParams, SetCookiesParams},
};
use browserfleet_common::error_code::ErrorCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Context, Page};
use crate::failure::Failure;

/// A cookie. Read and written in Chromium's own words, so that a value which a newer one adds is kept too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cookie {
    pub name: String,
    pub value: String,
    /// With a dot in front it is for the hosts below as well.
    pub domain: String,
    pub path: String,
    /// Unix time in seconds. `None`: until the browser ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<f64>,
    #[serde(default)]
    pub http_only: bool,
    #[serde(default)]
    pub secure: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_site: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_scheme: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_port: Option<i64>,
    /// Under which site's pages it exists, for one that is partitioned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_key: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Cookies {
    cookies: Vec<Cookie>,
}

impl Context {
    /// Every cookie, in an order that depends on nothing else.
    pub async fn cookies(&self, deadline: Instant) -> Result<Vec<Cookie>, Failure> {
        let asked = self.named(json!({}));
        let answer = self.browser().call_raw(GetCookiesParams::IDENTIFIER, &asked, deadline).await?;
        let Cookies { mut cookies } = browserfleet_cdp::decode(&answer).map_err(|_undecodable| Failure::hung())?;
        for cookie in &mut cookies {
            // Chromium says −1 of one that ends with the browser.
            cookie.expires = cookie.expires.filter(|expires| *expires >= 0.0);
        }
        let order = |cookie: &Cookie| {
            let Cookie { domain, path, name, .. } = cookie.clone();
            (domain, path, name, cookie.partition_key.as_ref().map(Value::to_string))
        };
        cookies.sort_by_cached_key(order);
        Ok(cookies)
    }

    /// Sets cookies, those that can be. Whoever has to know which ones asks for them afterwards.
    pub async fn set_cookies(&self, cookies: &[Cookie], deadline: Instant) -> Result<(), Failure> {
        if cookies.is_empty() || self.set(cookies, deadline).await.is_ok() {
            return Ok(());
        }
        // One that Chromium refuses keeps the others from being set.
        for cookie in cookies {
            if let Err(failure) = self.set(std::slice::from_ref(cookie), deadline).await {
                tracing::debug!(%failure, "a cookie could not be set");
            }
            if Instant::now() >= deadline {
                return Err(Failure::hung());
            }
        }
        Ok(())
    }

    /// Sets a cookie.
    ///
    /// # Errors
    /// When Chromium refuses it.
    pub async fn set_cookie(&self, cookie: &Cookie, deadline: Instant) -> Result<(), Failure> {
        self.set(std::slice::from_ref(cookie), deadline).await.map_err(|failure| match failure.code {
            ErrorCode::Internal => Failure::invalid(
                "The browser refuses this cookie: look at its name, value and domain; sameSite None and names that begin with \
                 __Secure- or __Host- need secure, the latter also a domain without a dot in front and the path /",
            ),
            _ => failure,
        })
    }

    /// Deletes every cookie.
    pub async fn clear_cookies(&self, deadline: Instant) -> Result<(), Failure> {
        let wanted = self.named(json!({}));
        Ok(self.browser().call_raw(ClearCookiesParams::IDENTIFIER, &wanted, deadline).await.map(drop)?)
    }

    async fn set(&self, cookies: &[Cookie], deadline: Instant) -> Result<(), Failure> {
        let wanted = self.named(json!({ "cookies": cookies }));
        Ok(self.browser().call_raw(SetCookiesParams::IDENTIFIER, &wanted, deadline).await.map(drop)?)
    }
}

impl Page {
    /// Deletes a cookie of the page's context.
    pub async fn delete_cookie(&self, cookie: &Cookie, deadline: Instant) -> Result<(), Failure> {
        let Cookie { name, domain, path, partition_key, .. } = cookie;
        let mut wanted = json!({ "name": name, "domain": domain, "path": path });
        if let Some(key) = partition_key {
            wanted["partitionKey"] = key.clone();
        }
        Ok(self.inner.session.call_raw(DeleteCookiesParams::IDENTIFIER, &wanted, deadline).await.map(drop)?)
    }
}
