//! How pages are shown: the size of the viewport, the user's preferences.

use browserfleet_common::error_code::ErrorCode;
use browserfleet_tools::{EmulateMedia, Open, Resize};
use serde::Serialize;

use super::{Call, Registry, Reply, ToolResult, emulate, reply::quoted, storage_state};
use crate::{
    failure::Failure,
    page::{Looks, VIEWPORT},
};

/// Smallest and largest side of a viewport, in CSS pixels.
const SIDES: std::ops::RangeInclusive<u32> = 16..=4096;

pub(super) fn register(registry: &mut Registry) {
    registry.add(open);
    registry.add(resize);
    registry.add(emulate_media);
}

async fn open(call: Call, arguments: Open) -> ToolResult {
    // Where the session may go was settled with its lease, by the gate.
    let Open { headless, width, height, storage_state: state, .. } = &arguments;
    if *headless == Some(false) && !call.abilities.headed {
        let message = "this server's browsers have no window: it needs full Chromium and a display. Leave headless out";
        return Err(Failure::new(ErrorCode::Unsupported, message));
    }
    let side = |name, given: Option<u32>, default| given.map_or(Ok(default), |given| side(name, f64::from(given)));
    let (width, height) = (side("width", *width, VIEWPORT.0)?, side("height", *height, VIEWPORT.1)?);
    let looks = Looks { viewport: (width, height), ..emulate::begun(call.page.looks(), &arguments)? };
    call.page.show_as(looks, call.within(call.times.action)).await?;
    let mut text = format!("A browser is open; its viewport has {width} × {height} CSS pixels.");
    if let Some(state) = state {
        text = format!("{text} {}.", storage_state::placed(&call, state.clone()).await?);
    }
    Ok(Reply::new().result(text))
}

async fn resize(call: Call, Resize { width, height }: Resize) -> ToolResult {
    let (width, height) = (side("width", width)?, side("height", height)?);
    let mark = call.page.mark().await;
    let looks = Looks { viewport: (width, height), ..call.page.looks() };
    call.page.show_as(looks, call.within(call.times.action)).await?;
    call.page.settle_shown(mark, call.deadline).await?;
    Ok(Reply::new().code(format!("await page.setViewportSize({{ width: {width}, height: {height} }});")))
}

/// One side of a viewport, in whole CSS pixels.
pub(super) fn side(name: &str, pixels: f64) -> Result<u32, Failure> {
    let whole = pixels.round();
    // In range it fits, whatever it was before.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked right after")]
    let side = whole.clamp(0.0, 1e6) as u32;
    if SIDES.contains(&side) {
        return Ok(side);
    }
    Err(Failure::invalid(format!("{name} must be from {} to {} CSS pixels", SIDES.start(), SIDES.end())))
}

async fn emulate_media(call: Call, arguments: EmulateMedia) -> ToolResult {
    let EmulateMedia { color_scheme, reduced_motion, forced_colors, contrast, media } = arguments;
    let mut looks = call.page.looks();
    let mut code = Vec::new();
    let mut set = |feature: Option<&'static str>, option: &str, value: Option<Option<String>>| {
        let Some(value) = value else { return };
        code.push(format!("{option}: {}", value.as_deref().map_or("null".to_owned(), quoted)));
        match feature {
            Some(feature) => looks.media.set(feature, value),
            None => looks.media.medium = value,
        }
    };
    set(Some("prefers-color-scheme"), "colorScheme", color_scheme.map(word));
    set(Some("prefers-reduced-motion"), "reducedMotion", reduced_motion.map(word));
    set(Some("forced-colors"), "forcedColors", forced_colors.map(word));
    set(Some("prefers-contrast"), "contrast", contrast.map(word));
    set(None, "media", media.map(word));
    if code.is_empty() {
        return Err(Failure::invalid("Specify at least one media feature to emulate."));
    }
    let mark = call.page.mark().await;
    call.page.show_as(looks, call.within(call.times.action)).await?;
    call.page.settle_shown(mark, call.deadline).await?;
    Ok(Reply::new().code(format!("await page.emulateMedia({{ {} }});", code.join(", "))))
}

/// The word that stands for a choice, in the schema and in CSS alike.
pub(super) fn word(choice: Option<impl Serialize>) -> Option<String> {
    serde_json::to_value(choice?).ok()?.as_str().map(str::to_owned)
}
