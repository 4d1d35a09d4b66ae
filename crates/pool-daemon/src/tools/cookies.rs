//! The cookies of a session.

use browserfleet_tools::{CookieClear, CookieDelete, CookieGet, CookieList, CookieSet, SameSite};
use serde_json::json;
use url::Url;

use super::{
    Call, Registry, Reply, ToolResult,
    reply::quoted,
    untrusted::{fenced, line},
};
use crate::{failure::Failure, page::Cookie, storage_state::StateCookie};

/// What reading them would be in test code.
const READ: &str = "await page.context().cookies();";

pub(super) fn register(registry: &mut Registry) {
    registry.add(list);
    registry.add(get);
    registry.add(set);
    registry.add(delete);
    registry.add(clear);
}

async fn list(call: Call, CookieList { domain, path }: CookieList) -> ToolResult {
    let mut cookies = cookies(&call).await?;
    cookies.retain(|cookie| domain.as_ref().is_none_or(|domain| cookie.domain.contains(domain)));
    cookies.retain(|cookie| path.as_ref().is_none_or(|path| cookie.path.starts_with(path)));
    let lines: Vec<_> = cookies
        .iter()
        .map(|StateCookie { name, value, domain, path, .. }| {
            line(&format!("{name}={value} (domain: {domain}, path: {path})"))
        })
        .collect();
    Ok(shown(&cookies, &lines, "No cookies found"))
}

async fn get(call: Call, CookieGet { name }: CookieGet) -> ToolResult {
    let mut cookies = cookies(&call).await?;
    cookies.retain(|cookie| cookie.name == name);
    let lines: Vec<_> = cookies
        .iter()
        .map(|StateCookie { value, domain, path, http_only, secure, same_site, .. }| {
            let flags = format!("httpOnly: {http_only}, secure: {secure}, sameSite: {same_site:?}");
            line(&format!("{name}={value} (domain: {domain}, path: {path}, {flags})"))
        })
        .collect();
    Ok(shown(&cookies, &lines, &format!("Cookie {} not found", quoted(&name))))
}

async fn cookies(call: &Call) -> Result<Vec<StateCookie>, Failure> {
    let cookies = call.workspace.context().cookies(call.within(call.times.action)).await?;
    Ok(cookies.iter().map(StateCookie::from).collect())
}

/// A line a cookie, in the words of its server.
fn shown(cookies: &[StateCookie], lines: &[String], none: &str) -> Reply {
    let text = match cookies {
        [] => none.to_owned(),
        [only] => fenced(&lines.join("\n"), &format!("https://{}", only.domain.trim_start_matches('.'))),
        _ => fenced(&lines.join("\n"), ""),
    };
    Reply::new().result(text).code(READ).structured(json!({ "cookies": cookies }))
}

async fn set(call: Call, arguments: CookieSet) -> ToolResult {
    let CookieSet { name, value, domain, path, expires, http_only, secure, same_site } = arguments;
    let host = || Url::parse(&call.page.document().url).ok()?.host_str().map(str::to_owned);
    let domain = domain.filter(|domain| !domain.is_empty()).or_else(host).ok_or_else(|| {
        Failure::invalid("The page has no host the cookie could be of: give a domain, or go to the site first")
    })?;
    let path = path.unwrap_or_else(|| "/".to_owned());
    let given = [
        Some(("name", json!(name))),
        Some(("value", json!(value))),
        Some(("domain", json!(domain))),
        Some(("path", json!(path))),
        expires.map(|value| ("expires", json!(value))),
        http_only.map(|value| ("httpOnly", json!(value))),
        secure.map(|value| ("secure", json!(value))),
        same_site.map(|value| ("sameSite", json!(value))),
    ];
    // In the peer's order.
    let code: Vec<_> = given.into_iter().flatten().map(|(option, value)| format!("\"{option}\":{value}")).collect();
    let cookie = Cookie {
        name,
        value,
        domain,
        path,
        expires: expires.filter(|expires| *expires >= 0.0),
        http_only: http_only.unwrap_or(false),
        secure: secure.unwrap_or(false),
        same_site: same_site.map(|same_site: SameSite| format!("{same_site:?}")),
        priority: None,
        source_scheme: None,
        source_port: None,
        partition_key: None,
    };
    call.workspace.context().set_cookie(&cookie, call.within(call.times.action)).await?;
    Ok(Reply::new().code(format!("await page.context().addCookies([{{{}}}]);", code.join(","))))
}

async fn delete(call: Call, CookieDelete { name }: CookieDelete) -> ToolResult {
    let deadline = call.within(call.times.action);
    let cookies = call.workspace.context().cookies(deadline).await?;
    for cookie in cookies.iter().filter(|cookie| cookie.name == name) {
        call.page.delete_cookie(cookie, deadline).await?;
    }
    Ok(Reply::new().code(format!("await page.context().clearCookies({{ name: {} }});", quoted(&name))))
}

async fn clear(call: Call, CookieClear {}: CookieClear) -> ToolResult {
    call.workspace.context().clear_cookies(call.within(call.times.action)).await?;
    Ok(Reply::new().code("await page.context().clearCookies();"))
}
