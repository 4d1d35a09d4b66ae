//! Pictures of the page.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use browserfleet_cdp::browser_protocol::page::{
    CaptureScreenshotFormat, CaptureScreenshotParams, GetLayoutMetricsParams, Viewport,
};
use browserfleet_common::error_code::ErrorCode;
use browserfleet_tools::ImageType;
use serde::Deserialize;
use tokio::time::Instant;

use super::{Page, world::call};
use crate::failure::Failure;

/// Most pixels of a picture.
const MAX_PIXELS: f64 = 16_000_000.0;

/// Most bytes of a picture.
const MAX_BYTES: usize = 8 << 20;

/// Quality of lossy pictures, of 100.
const QUALITY: i64 = 90;

/// What is pictured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Area {
    Viewport,
    FullPage,
    Element(String),
}

/// A picture.
#[derive(Clone, Debug)]
pub struct Picture {
    pub bytes: Vec<u8>,
    /// How test code would name the element, if one was pictured.
    pub locator: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Rect {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
    locator: String,
}

impl Page {
    /// Takes a picture.
    pub async fn screenshot(&self, area: &Area, format: ImageType, deadline: Instant) -> Result<Picture, Failure> {
        let mut command = CaptureScreenshotParams {
            format: Some(match format {
                ImageType::Png => CaptureScreenshotFormat::Png,
                ImageType::Jpeg => CaptureScreenshotFormat::Jpeg,
                ImageType::Webp => CaptureScreenshotFormat::Webp,
            }),
            quality: (format != ImageType::Png).then_some(QUALITY),
            optimize_for_speed: Some(true),
            ..CaptureScreenshotParams::default()
        };
        let mut locator = None;
        match area {
            Area::Viewport => {}
            Area::FullPage => {
                let size =
                    self.unless_dialog(self.call(GetLayoutMetricsParams::default(), deadline)).await?.css_content_size;
                command.clip = Some(clip(0.0, 0.0, size.width, size.height)?);
                command.capture_beyond_viewport = Some(true);
            }
            Area::Element(target) => {
                let rect = self.element_rect(target, deadline).await?;
                command.clip = Some(clip(rect.x, rect.y, rect.width, rect.height)?);
                command.capture_beyond_viewport = Some(true);
                locator = Some(rect.locator);
            }
        }
        let data = self.unless_dialog(self.call(command, deadline)).await?.data;
        let bytes = STANDARD.decode(AsRef::<[u8]>::as_ref(&data)).map_err(|error| {
            tracing::error!(%error, "a screenshot is not base64");
            Failure::new(ErrorCode::Internal, "the picture could not be read")
        })?;
        if bytes.len() > MAX_BYTES {
            let message = format!(
                "the picture has {} bytes, at most {MAX_BYTES} can be returned; use type jpeg, or picture one element",
                bytes.len()
            );
            return Err(Failure::new(ErrorCode::ResultTooLarge, message));
        }
        Ok(Picture { bytes, locator })
    }

    async fn element_rect(&self, target: &str, deadline: Instant) -> Result<Rect, Failure> {
        let (world, target) = self.world_of(target, deadline).await?;
        let target = serde_json::Value::from(target);
        let expression = format!(
            "{}.then(rect => ({{ x: rect.x, y: rect.y, width: rect.width, height: rect.height, locator: {} }}))",
            call("rect", std::slice::from_ref(&target)),
            format_args!("__browserfleet.locator({})", call("locate", &[target])),
        );
        let mut rect: Rect = self.unless_dialog(world.value(expression, deadline)).await?;
        (rect.x, rect.y) = self.to_page(&world, rect.x, rect.y, deadline).await?;
        // Pictures are cut from the whole page, and the element is where scrolling has brought it.
        let top = self.main_world(deadline).await?;
        let (left, above): (f64, f64) = top.value("[scrollX, scrollY]".to_owned(), deadline).await?;
        (rect.x, rect.y) = (rect.x + left, rect.y + above);
        Ok(rect)
    }
}

fn clip(x: f64, y: f64, width: f64, height: f64) -> Result<Viewport, Failure> {
    if width * height > MAX_PIXELS {
        let message = format!(
            "the picture would have {width:.0} × {height:.0} pixels, at most 16 million are possible; picture the viewport \
             or one element"
        );
        return Err(Failure::new(ErrorCode::ResultTooLarge, message));
    }
    if width < 1.0 || height < 1.0 {
        return Err(Failure::new(
            ErrorCode::ElementNotActionable,
            "the element has no size: there is nothing to picture",
        ));
    }
    Ok(Viewport { x, y, width, height, scale: 1.0 })
}
