//! Pictures.

use browserfleet_tools::{ImageType, Scale, TakeScreenshot};

use super::{Call, Registry, Reply, ToolResult, reply::locator_code};
use crate::{failure::Failure, page::Area};

pub(super) fn register(registry: &mut Registry) {
    registry.add(take_screenshot);
}

async fn take_screenshot(call: Call, arguments: TakeScreenshot) -> ToolResult {
    let TakeScreenshot { target, r#type, filename, full_page, scale, element: _ } = arguments;
    let full_page = full_page.unwrap_or(false);
    let (area, subject) = match (&target, full_page) {
        (Some(_), true) => return Err(Failure::invalid("fullPage cannot be used together with target")),
        (Some(target), false) => (Area::Element(target.clone()), "element"),
        (None, true) => (Area::FullPage, "full page"),
        (None, false) => (Area::Viewport, "viewport"),
    };
    let format = r#type.unwrap_or_else(|| filename.as_deref().map(type_of).unwrap_or_default());
    // One device pixel is one CSS pixel in our browsers: both scales give the same picture.
    let scale = match scale.unwrap_or_default() {
        Scale::Css => "css",
        Scale::Device => "device",
    };
    let picture = call.page.screenshot(&area, format, call.within(call.times.action)).await?;
    let name = match format {
        ImageType::Png => "png",
        ImageType::Jpeg => "jpeg",
        ImageType::Webp => "webp",
    };
    let mut options = Vec::new();
    if full_page {
        options.push("  fullPage: true".to_owned());
    }
    if format != ImageType::Png {
        options.push("  quality: 90".to_owned());
    }
    options.extend([format!("  scale: '{scale}'"), format!("  type: '{name}'")]);
    let subject_code = match (&target, &picture.locator) {
        (Some(target), Some(found)) => format!("page.{}", locator_code(target, found)),
        _ => "page".to_owned(),
    };
    let code = format!("// Screenshot {subject}\nawait {subject_code}.screenshot({{\n{}\n}});", options.join(",\n"));
    Ok(Reply::new().result(format!("- Screenshot of {subject}")).code(code).image(format, picture.bytes))
}

/// The format a file name asks for.
fn type_of(filename: &str) -> ImageType {
    match filename.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).as_deref() {
        Some("jpg" | "jpeg") => ImageType::Jpeg,
        Some("webp") => ImageType::Webp,
        _ => ImageType::Png,
    }
}
