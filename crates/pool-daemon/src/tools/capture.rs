//! Pictures.

use std::{fmt::Write as _, ops::RangeInclusive};

use browserfleet_tools::{ImageType, Scale, TakeScreenshot};

use super::{Call, Registry, Reply, ToolResult, reply::locator_code};
use crate::{
    failure::Failure,
    page::{Area, QUALITY, Shooting},
};

/// The best quality there is.
const QUALITY_MAX: u8 = 100;
/// What the longer side of a picture may be limited to, in pixels.
const SIDES: RangeInclusive<u32> = 16..=16_384;

pub(super) fn register(registry: &mut Registry) {
    registry.add(take_screenshot);
}

async fn take_screenshot(call: Call, arguments: TakeScreenshot) -> ToolResult {
    let TakeScreenshot {
        target,
        r#type,
        filename,
        full_page,
        scale,
        quality,
        max_size,
        labels,
        if_changed,
        element: _,
    } = arguments;
    let full_page = full_page.unwrap_or(false);
    let (area, subject) = match (&target, full_page) {
        (Some(_), true) => return Err(Failure::invalid("fullPage cannot be used together with target")),
        (Some(target), false) => (Area::Element(target.clone()), "element"),
        (None, true) => (Area::FullPage, "full page"),
        (None, false) => (Area::Viewport, "viewport"),
    };
    let format = r#type.unwrap_or_else(|| filename.as_deref().map(type_of).unwrap_or_default());
    if quality.is_some() && format == ImageType::Png {
        return Err(Failure::invalid("a png has no quality: give type jpeg or webp with it"));
    }
    // Chromium takes any number, and answers nothing for a picture without pixels.
    if quality.is_some_and(|quality| quality > QUALITY_MAX) {
        return Err(Failure::invalid(format!("quality must be from 0 to {QUALITY_MAX}")));
    }
    if max_size.is_some_and(|side| !SIDES.contains(&side)) {
        return Err(Failure::invalid(format!("maxSize must be from {} to {} pixels", SIDES.start(), SIDES.end())));
    }
    let shooting = Shooting {
        area,
        format,
        quality: quality.unwrap_or(QUALITY),
        scale: scale.unwrap_or_default(),
        max_size,
        labels: labels.unwrap_or(false),
    };
    let picture = call.page.screenshot(&shooting, call.within(call.times.action)).await?;
    let named = match (&target, &picture.locator) {
        (Some(target), Some(found)) => format!("page.{}", locator_code(target, found)),
        _ => "page".to_owned(),
    };
    let code = code(&shooting, subject, &named);
    let mut told = format!("- Screenshot of {subject}");
    if shooting.labels {
        // Writing to a String cannot fail.
        let _infallible = write!(told, ", {} elements labelled with their refs", picture.labels);
    }
    if if_changed.unwrap_or(false) && picture.unchanged {
        told.push_str(": the same as your last one, so it is left out");
        return Ok(Reply::new().result(told).code(code));
    }
    Ok(Reply::new().result(told).code(code).image(format, picture.bytes))
}

/// What the same would be in test code.
fn code(shooting: &Shooting, subject: &str, named: &str) -> String {
    let mut options = Vec::new();
    if shooting.area == Area::FullPage {
        options.push("  fullPage: true".to_owned());
    }
    if shooting.format != ImageType::Png {
        options.push(format!("  quality: {}", shooting.quality));
    }
    let scale = match shooting.scale {
        Scale::Css => "css",
        Scale::Device => "device",
    };
    let name = match shooting.format {
        ImageType::Png => "png",
        ImageType::Jpeg => "jpeg",
        ImageType::Webp => "webp",
    };
    options.extend([format!("  scale: '{scale}'"), format!("  type: '{name}'")]);
    format!("// Screenshot {subject}\nawait {named}.screenshot({{\n{}\n}});", options.join(",\n"))
}

/// The format a file name asks for.
fn type_of(filename: &str) -> ImageType {
    match filename.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).as_deref() {
        Some("jpg" | "jpeg") => ImageType::Jpeg,
        Some("webp") => ImageType::Webp,
        _ => ImageType::Png,
    }
}
