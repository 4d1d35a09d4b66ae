//! Emulating a device, a place and a network, for all tabs of the session.

use std::{collections::BTreeMap, sync::Arc};

use browserfleet_tools::{Device, Emulate, NetworkSpeed, Open, Position};
use serde_json::{Value, json};

use super::{
    Call, Registry, Reply, ToolResult,
    setup::{side, word},
};
use crate::{
    failure::Failure,
    page::{Emulation, Geolocation, Looks, Throttle, parse_header},
};

/// Most characters of a locale, a timezone or a user agent.
const MAX_WORDS: usize = 500;
/// Most headers that are sent with every request, and most bytes of them.
const MAX_HEADERS: usize = 50;
const MAX_HEADER_BYTES: usize = 8 << 10;
/// Most scripts that are run in every document, and most bytes of all of them.
const MAX_SCRIPTS: usize = 10;
const MAX_SCRIPT_BYTES: usize = 256 << 10;
/// How many times slower the processor may be.
const SLOWER: std::ops::RangeInclusive<f64> = 1.0..=20.0;
/// How well a place is known where nobody says, in metres.
const ACCURACY: f64 = 10.0;

pub(super) fn register(registry: &mut Registry) {
    registry.add(emulate);
}

async fn emulate(call: Call, arguments: Emulate) -> ToolResult {
    let mut looks = call.page.looks();
    if arguments.reset.unwrap_or(false) {
        // What a session began with is not a device's.
        let Emulation { headers, init_scripts, .. } = looks.emulation;
        looks = Looks { emulation: Emulation { headers, init_scripts, ..Emulation::default() }, ..Looks::default() };
    }
    if let Some(device) = arguments.device {
        looks.viewport = put_on(device, &mut looks.emulation);
    }
    if arguments.width.is_some() || arguments.height.is_some() {
        let (Some(width), Some(height)) = (arguments.width, arguments.height) else {
            return Err(Failure::invalid("width and height belong together: give both"));
        };
        looks.viewport = (side("width", f64::from(width))?, side("height", f64::from(height))?);
    }
    if let Some(scheme) = arguments.color_scheme {
        looks.media.set("prefers-color-scheme", word(scheme));
    }
    if let Some(motion) = arguments.reduced_motion {
        looks.media.set("prefers-reduced-motion", word(motion));
    }
    change(&mut looks.emulation, arguments)?;
    let emulation = looks.emulation.clone();
    let deadline = call.within(call.times.action);
    let mark = call.page.mark().await;
    call.page.show_as(looks, deadline).await?;
    // Whether or not it has changed: a call before may have come to its end in between.
    call.workspace.context().permit_geolocation(emulation.geolocation.is_some(), deadline).await?;
    call.page.settle_shown(mark, call.deadline).await?;
    let shown = described(&emulation);
    let text = match shown.as_object() {
        Some(shown) if !shown.is_empty() => format!("Emulated: {}", serde_json::to_string(shown).unwrap_or_default()),
        _ => "Nothing is emulated but size and media.".to_owned(),
    };
    let note = "What a page has read already it keeps until it is loaded again.";
    Ok(Reply::new().result(format!("{text}\n{note}")).structured(json!({ "emulated": shown })))
}

/// Sets what was given.
fn change(emulation: &mut Emulation, arguments: Emulate) -> Result<(), Failure> {
    let Emulate { locale, timezone, geolocation, user_agent, network, cpu, .. } = arguments;
    if let Some(given) = locale {
        emulation.locale = given.map(checked_locale).transpose()?;
    }
    if let Some(given) = timezone {
        emulation.timezone = given.map(|zone| plain("timezone", zone)).transpose()?;
    }
    if let Some(given) = user_agent {
        emulation.user_agent = given.map(|agent| plain("user_agent", agent)).transpose()?;
    }
    if let Some(given) = geolocation {
        emulation.geolocation = given.map(placed).transpose()?;
    }
    if let Some(given) = network {
        emulation.network = given.map(throttle);
    }
    if let Some(given) = cpu {
        if given.is_some_and(|times| !SLOWER.contains(&times)) {
            return Err(Failure::invalid(format!("cpu must be from {} to {}", SLOWER.start(), SLOWER.end())));
        }
        emulation.cpu = given;
    }
    Ok(())
}

/// These looks with what `browser_open` asks for.
pub(super) fn begun(mut looks: Looks, open: &Open) -> Result<Looks, Failure> {
    let Open { locale, timezone, user_agent, headers, init_scripts, .. } = open;
    let emulation = &mut looks.emulation;
    if let Some(locale) = locale.clone() {
        emulation.locale = Some(checked_locale(locale)?);
    }
    if let Some(zone) = timezone.clone() {
        emulation.timezone = Some(plain("timezone", zone)?);
    }
    if let Some(agent) = user_agent.clone() {
        emulation.user_agent = Some(plain("user_agent", agent)?);
    }
    if let Some(headers) = headers {
        emulation.headers = checked_headers(headers)?;
    }
    if let Some(scripts) = init_scripts {
        emulation.init_scripts = checked_scripts(scripts)?;
    }
    Ok(looks)
}

fn checked_headers(headers: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Failure> {
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if headers.len() > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
        let message = format!("headers may be {MAX_HEADERS}, with {MAX_HEADER_BYTES} bytes together");
        return Err(Failure::invalid(message));
    }
    headers.iter().map(|(name, value)| parse_header(&format!("{name}: {value}"))).collect()
}

fn checked_scripts(scripts: &[String]) -> Result<Vec<Arc<str>>, Failure> {
    let bytes: usize = scripts.iter().map(String::len).sum();
    if scripts.len() > MAX_SCRIPTS || bytes > MAX_SCRIPT_BYTES {
        let message = format!("init_scripts may be {MAX_SCRIPTS}, with {} KiB together", MAX_SCRIPT_BYTES >> 10);
        return Err(Failure::invalid(message));
    }
    Ok(scripts.iter().map(|script| script.as_str().into()).collect())
}

/// A language tag, in its form: Chromium takes any text for one.
fn checked_locale(locale: String) -> Result<String, Failure> {
    let mut parts = locale.split('-');
    let language = parts
        .next()
        .is_some_and(|part| (2..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphabetic()));
    let others =
        parts.all(|part| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    if language && others && locale.len() <= 35 {
        return Ok(locale);
    }
    Err(Failure::invalid("locale must be a language tag such as de or de-AT"))
}

/// A text that can be a header's value.
fn plain(name: &str, text: String) -> Result<String, Failure> {
    if text.is_empty() || text.len() > MAX_WORDS || !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err(Failure::invalid(format!("{name} must have from 1 to {MAX_WORDS} ASCII characters")));
    }
    Ok(text)
}

fn placed(Position { latitude, longitude, accuracy }: Position) -> Result<Geolocation, Failure> {
    let accuracy = accuracy.unwrap_or(ACCURACY);
    if !(-90.0..=90.0).contains(&latitude)
        || !(-180.0..=180.0).contains(&longitude)
        || accuracy.is_nan()
        || accuracy < 0.0
    {
        return Err(Failure::invalid(
            "geolocation: latitude is from -90 to 90, longitude from -180 to 180, accuracy not negative",
        ));
    }
    Ok(Geolocation { latitude, longitude, accuracy })
}

/// What developer tools mean by these names, in milliseconds and bytes per second.
fn throttle(speed: NetworkSpeed) -> Throttle {
    let (latency, download, upload) = match speed {
        NetworkSpeed::Of3g => (2000.0, 50_000.0, 50_000.0),
        NetworkSpeed::Slow4g => (562.5, 180_000.0, 84_375.0),
        NetworkSpeed::Fast4g => (165.0, 1_012_500.0, 168_750.0),
    };
    Throttle { latency, download, upload }
}

/// Makes it a device; answers its viewport.
fn put_on(device: Device, emulation: &mut Emulation) -> (u32, u32) {
    let agent = |platform: &str, rest: &str| Some(format!("Mozilla/5.0 ({platform}) {rest}"));
    let chrome = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0";
    let (size, scale, handheld, user_agent) = match device {
        Device::Iphone => {
            let safari = "AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1";
            ((393, 659), 3.0, true, agent("iPhone; CPU iPhone OS 18_5 like Mac OS X", safari))
        }
        Device::Pixel => {
            ((412, 839), 2.625, true, agent("Linux; Android 10; K", &format!("{chrome} Mobile Safari/537.36")))
        }
        Device::Ipad => {
            let safari = "AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1";
            ((810, 1080), 2.0, true, agent("iPad; CPU OS 18_5 like Mac OS X", safari))
        }
        Device::Laptop => ((1440, 900), 2.0, false, None),
        Device::Desktop => ((1920, 1080), 1.0, false, None),
    };
    (emulation.scale, emulation.mobile, emulation.touch) = (Some(scale), handheld, handheld);
    emulation.user_agent = user_agent;
    size
}

/// What is emulated, without what only its session's owner should have to see again.
fn described(emulation: &Emulation) -> Value {
    let Emulation {
        scale,
        mobile,
        touch,
        user_agent,
        locale,
        timezone,
        geolocation,
        cpu,
        network,
        headers,
        init_scripts,
    } = emulation;
    let all = json!({
        "device_scale": scale, "mobile": mobile.then_some(true), "touch": touch.then_some(true), "user_agent": user_agent,
        "locale": locale, "timezone": timezone, "geolocation": geolocation, "cpu": cpu, "network": network,
        "headers": (!headers.is_empty()).then(|| headers.keys().collect::<Vec<_>>()),
        "init_scripts": (!init_scripts.is_empty()).then_some(init_scripts.len()),
    });
    match all {
        Value::Object(all) => Value::Object(all.into_iter().filter(|(_, value)| !value.is_null()).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use browserfleet_cdp::fake::{Peer, Request};
    use browserfleet_common::lifecycle::Tasks;
    use tokio::time::{Duration, Instant};

    use super::*;
    use crate::{
        page::{Context, Page},
        pool::browser::Ready,
        tools::{Abilities, Shows, Times},
        workspace::Workspace,
    };

    /// Answers commands until one of this method comes.
    async fn until(peer: &mut Peer, method: &str) -> Request {
        loop {
            let request = peer.request().await.unwrap().unwrap();
            if request.method == method {
                return request;
            }
            peer.reply(&request, json!({})).await.unwrap();
        }
    }

    #[tokio::test]
    async fn pages_may_ask_where_they_are_also_if_the_call_before_was_dropped() {
        let tasks = Tasks::new();
        let (mut peer, connection) = Peer::connect(&tasks).unwrap();
        let context = Context::default_of(&connection, &tasks, None, None);
        let workspace = Arc::new(Workspace::new(Ready { page: Page::detached(&connection), context }));
        let time = Duration::from_secs(5);
        let call = || Call {
            page: workspace.page(),
            workspace: Arc::clone(&workspace),
            times: Times { action: time, navigation: time, script: time },
            abilities: Abilities { headed: false, shared: false },
            shows: Shows::default(),
            deadline: Instant::now() + time,
            secrets: Arc::default(),
            brief: false,
        };
        let place = Position { latitude: 48.2, longitude: 16.4, accuracy: None };
        for again in [false, true] {
            let arguments = Emulate { geolocation: Some(Some(place)), ..Emulate::default() };
            let asked = tokio::select! {
                ended = emulate(call(), arguments) => panic!("{ended:?} {again}"),
                asked = until(&mut peer, "Browser.setPermission") => asked,
            };
            assert_eq!(asked.params["setting"], "granted");
            assert!(workspace.page().looks().emulation.geolocation.is_some());
        }
    }

    #[test]
    fn locales_have_the_form_of_language_tags() {
        for good in ["de", "de-AT", "zh-Hant-TW", "sr-Latn"] {
            assert_eq!(checked_locale(good.to_owned()).as_deref(), Ok(good));
        }
        for bad in ["", "d", "german", "de_AT", "de-", "de-AT\r\nX: y", "12"] {
            assert!(checked_locale(bad.to_owned()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_cannot_be_emulated_is_refused() {
        assert!(plain("user_agent", "a\r\nHost: b".to_owned()).is_err() && plain("timezone", String::new()).is_err());
        let place = |latitude, longitude, accuracy| placed(Position { latitude, longitude, accuracy: Some(accuracy) });
        assert!(place(91.0, 0.0, 1.0).is_err() && place(0.0, f64::NAN, 1.0).is_err() && place(0.0, 0.0, -1.0).is_err());
        assert!(place(48.2, 16.4, 0.0).is_ok());
        let host = BTreeMap::from([("Host".to_owned(), "internal".to_owned())]);
        assert!(checked_headers(&host).is_err());
        assert!(checked_scripts(&vec![String::new(); MAX_SCRIPTS + 1]).is_err());
        assert!(checked_scripts(&["x".repeat(MAX_SCRIPT_BYTES + 1)]).is_err());
        let mut emulation = Emulation::default();
        let slow = Emulate { cpu: Some(Some(100.0)), ..Emulate::default() };
        assert!(change(&mut emulation, slow).is_err() && emulation.is_none());
    }

    #[test]
    fn a_desktop_after_a_phone_is_no_phone() {
        let mut emulation = Emulation::default();
        assert_eq!(put_on(Device::Pixel, &mut emulation), (412, 839));
        assert!(emulation.mobile && emulation.user_agent.is_some());
        put_on(Device::Desktop, &mut emulation);
        assert!(!emulation.mobile && !emulation.touch && emulation.user_agent.is_none());
    }
}
