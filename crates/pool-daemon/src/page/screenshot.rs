//! Pictures of the page.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use browserfleet_cdp::browser_protocol::page::{
    CaptureScreenshotFormat, CaptureScreenshotParams, GetLayoutMetricsParams, Viewport,
};
use browserfleet_common::error_code::ErrorCode;
use browserfleet_tools::{ImageType, Scale};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::{Duration, Instant};

use super::{
    Looks, Page,
    state::{World, prefix},
    world::call,
};
use crate::failure::Failure;

/// Most pixels of a picture: those of the largest viewport, where a pixel is one of CSS.
const MAX_PIXELS: f64 = 4096.0 * 4096.0;

/// Most bytes of a picture.
const MAX_BYTES: usize = 8 << 20;

/// Quality of lossy pictures, of 100, where nobody says.
pub const QUALITY: u8 = 90;

/// What is pictured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Area {
    Viewport,
    FullPage,
    Element(String),
}

/// What a picture is to be like.
#[derive(Clone, Debug)]
pub struct Shooting {
    pub area: Area,
    pub format: ImageType,
    /// Of lossy ones, of 100.
    pub quality: u8,
    pub scale: Scale,
    /// Most pixels of the longer side: a larger picture is scaled down.
    pub max_size: Option<u32>,
    /// Whether what can be acted on is labelled with its ref.
    pub labels: bool,
}

/// A picture.
#[derive(Clone, Debug)]
pub struct Picture {
    pub bytes: Vec<u8>,
    /// How test code would name the element, if one was pictured.
    pub locator: Option<String>,
    /// How many elements are labelled.
    pub labels: usize,
    /// Whether it is, byte for byte, the last one of this tab.
    pub unchanged: bool,
}

/// Where something is on the whole page, in CSS pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Place {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
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
    pub async fn screenshot(&self, shooting: &Shooting, deadline: Instant) -> Result<Picture, Failure> {
        let (place, locator) = self.pictured(&shooting.area, deadline).await?;
        let density: f64 = self.main_world(deadline).await?.value("devicePixelRatio".to_owned(), deadline).await?;
        let scale = scale(place, density, shooting);
        check_size(place, scale, density)?;
        let mut command = CaptureScreenshotParams {
            format: Some(match shooting.format {
                ImageType::Png => CaptureScreenshotFormat::Png,
                ImageType::Jpeg => CaptureScreenshotFormat::Jpeg,
                ImageType::Webp => CaptureScreenshotFormat::Webp,
            }),
            quality: (shooting.format != ImageType::Png).then_some(i64::from(shooting.quality.min(100))),
            optimize_for_speed: Some(true),
            ..CaptureScreenshotParams::default()
        };
        // What is in the viewport anyway needs no clip, unless it is scaled.
        let in_viewport = shooting.area == Area::Viewport;
        if !in_viewport || (scale - 1.0).abs() > f64::EPSILON {
            command.clip = Some(clip(place, scale));
            command.capture_beyond_viewport = Some(!in_viewport);
        }
        let labels = if shooting.labels { self.show_labels(!in_viewport, deadline).await } else { Ok(0) };
        let data = match labels {
            Ok(_) => self.unless_dialog(self.call(command, deadline)).await.map(|shot| shot.data),
            Err(ref failure) => Err(failure.clone()),
        };
        if shooting.labels {
            self.hide_labels(deadline).await;
        }
        let data = data?;
        let bytes = STANDARD.decode(AsRef::<[u8]>::as_ref(&data)).map_err(|error| {
            tracing::error!(%error, "a screenshot is not base64");
            Failure::new(ErrorCode::Internal, "the picture could not be read")
        })?;
        if bytes.len() > MAX_BYTES {
            let message = format!(
                "the picture has {} bytes, at most {MAX_BYTES} can be returned; use type jpeg, maxSize, or picture one element",
                bytes.len()
            );
            return Err(Failure::new(ErrorCode::ResultTooLarge, message));
        }
        let unchanged = self.pictured_as(&bytes);
        Ok(Picture { bytes, locator, labels: labels.unwrap_or_default(), unchanged })
    }

    /// A picture of what is seen now, as `WebP` of this quality (of 100), for a video: beside whatever a call does in the page, and
    /// without changing anything there. It has the size of the viewport, whatever device is emulated.
    pub async fn frame(&self, quality: u8, deadline: Instant) -> Result<Vec<u8>, Failure> {
        // While a page is made another device, as its session's pages were before.
        let known = self.state().looks.clone();
        let Looks { viewport: (width, height), emulation, .. } = known.unwrap_or_else(|| self.looks());
        let density = emulation.scale.unwrap_or(1.0);
        let mut command = CaptureScreenshotParams {
            format: Some(CaptureScreenshotFormat::Webp),
            quality: Some(i64::from(quality.min(100))),
            optimize_for_speed: Some(true),
            ..CaptureScreenshotParams::default()
        };
        if (density - 1.0).abs() > f64::EPSILON {
            let seen =
                self.unless_dialog(self.call(GetLayoutMetricsParams::default(), deadline)).await?.css_visual_viewport;
            // A phone shows a page that is not made for it from further away.
            let (width, height) = (f64::from(width) / seen.scale, f64::from(height) / seen.scale);
            command.clip = Some(clip(Place { x: seen.page_x, y: seen.page_y, width, height }, seen.scale / density));
        }
        let data = self.unless_dialog(self.call(command, deadline)).await?.data;
        STANDARD.decode(AsRef::<[u8]>::as_ref(&data)).map_err(|error| {
            tracing::error!(%error, "a frame is not base64");
            Failure::new(ErrorCode::Internal, "the picture could not be read")
        })
    }

    /// Shows a card over the whole page for a time: a title, and what is said about it.
    pub async fn show_card(
        &self,
        title: &str,
        description: Option<&str>,
        time: Duration,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let card = json!({ "title": title, "description": description, "milliseconds": milliseconds });
        let world = self.main_world(deadline).await?;
        self.unless_dialog(world.value::<Value>(call("showCard", &[card]), deadline + time)).await.map(drop)
    }

    /// Remembers the picture as the tab's last one. Answers whether the one before was the same.
    fn pictured_as(&self, bytes: &[u8]) -> bool {
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        self.state().picture.replace(digest) == Some(digest)
    }

    /// Where on the page that is, and how test code would name it if it is an element.
    async fn pictured(&self, area: &Area, deadline: Instant) -> Result<(Place, Option<String>), Failure> {
        if let Area::Element(target) = area {
            let Rect { x, y, width, height, locator } = self.element_rect(target, deadline).await?;
            return Ok((Place { x, y, width, height }, Some(locator)));
        }
        let metrics = self.unless_dialog(self.call(GetLayoutMetricsParams::default(), deadline)).await?;
        if *area == Area::FullPage {
            let size = metrics.css_content_size;
            return Ok((Place { x: 0.0, y: 0.0, width: size.width, height: size.height }, None));
        }
        let seen = metrics.css_visual_viewport;
        Ok((Place { x: seen.page_x, y: seen.page_y, width: seen.client_width, height: seen.client_height }, None))
    }

    /// Labels what can be acted on in the page and in those of its frames that a snapshot has shown.
    async fn show_labels(&self, whole: bool, deadline: Instant) -> Result<usize, Failure> {
        let main = self.main_world(deadline).await?;
        let mut count = self.show_labels_in(&main, whole, deadline).await?;
        for world in self.shown_frames() {
            // A frame that goes away meanwhile has nothing to label.
            count += self.show_labels_in(&world, whole, deadline).await.unwrap_or_default();
        }
        Ok(count)
    }

    async fn show_labels_in(&self, world: &World, whole: bool, deadline: Instant) -> Result<usize, Failure> {
        let number = self.state().document_number(&world.context).ok_or_else(Failure::stale_document)?;
        let wanted = json!({ "frame": prefix(number), "whole": whole });
        let count = self.unless_dialog(world.value(call("showLabels", &[wanted]), deadline)).await?;
        self.state().document_shown(&world.context);
        Ok(count)
    }

    /// Takes the labels away. Where that fails they go by themselves, or have gone with their document.
    async fn hide_labels(&self, deadline: Instant) {
        let main = self.state().main_world();
        for world in main.into_iter().chain(self.shown_frames()) {
            let hidden = self.unless_dialog(world.value::<Value>(call("hideLabels", &[]), deadline)).await;
            if let Err(failure) = hidden {
                tracing::debug!(%failure, "labels are left to go by themselves");
            }
        }
    }

    /// The worlds of frames whose refs a snapshot has shown, and whose place in the page is known.
    fn shown_frames(&self) -> Vec<World> {
        let state = self.state();
        let shown = state.frames.values().filter(|frame| frame.owner.is_some()).filter_map(|frame| frame.world.clone());
        shown.filter(|world| world.document.is_some()).collect()
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

/// How the picture is scaled, so that a pixel of it is one of CSS or of the device, and none of its sides is too long.
fn scale(place: Place, density: f64, shooting: &Shooting) -> f64 {
    let scale = if shooting.scale == Scale::Css && density > 0.0 { 1.0 / density } else { 1.0 };
    let longest = place.width.max(place.height) * density * scale;
    match shooting.max_size.map(f64::from) {
        Some(most) if longest > most => scale * most / longest,
        _ => scale,
    }
}

/// Whether a picture of this has pixels, and not more than one may have: the browser would run out of memory over it.
fn check_size(Place { width, height, .. }: Place, scale: f64, density: f64) -> Result<(), Failure> {
    let (across, down) = (width * scale * density, height * scale * density);
    if across * down > MAX_PIXELS {
        let message = format!(
            "the picture would have {across:.0} × {down:.0} pixels, at most 16.7 million are possible; picture the viewport or \
             one element, with scale css, or give maxSize"
        );
        return Err(Failure::new(ErrorCode::ResultTooLarge, message));
    }
    if width < 1.0 || height < 1.0 {
        return Err(Failure::new(
            ErrorCode::ElementNotActionable,
            "the element has no size: there is nothing to picture",
        ));
    }
    Ok(())
}

fn clip(Place { x, y, width, height }: Place, scale: f64) -> Viewport {
    Viewport { x, y, width, height, scale }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shooting(scale: Scale, max_size: Option<u32>) -> Shooting {
        let (area, format) = (Area::Viewport, ImageType::Png);
        Shooting { area, format, quality: QUALITY, scale, max_size, labels: false }
    }

    #[test]
    fn a_picture_is_scaled_to_css_pixels_and_to_what_is_allowed() {
        let place = Place { x: 0.0, y: 0.0, width: 1000.0, height: 500.0 };
        for (density, kind, most, expected) in [
            (1.0, Scale::Css, None, 1.0),
            (2.0, Scale::Css, None, 0.5),
            (2.0, Scale::Device, None, 1.0),
            (2.0, Scale::Device, Some(1000), 0.5),
            (2.0, Scale::Css, Some(500), 0.25),
            (1.0, Scale::Css, Some(4000), 1.0),
        ] {
            let found = scale(place, density, &shooting(kind, most));
            assert!((found - expected).abs() < 1e-9, "{density} {kind:?} {most:?}: {found}");
        }
    }

    #[test]
    fn what_is_too_large_may_be_pictured_smaller() {
        let page = Place { x: 0.0, y: 0.0, width: 1280.0, height: 20_000.0 };
        assert_eq!(check_size(page, 1.0, 1.0).unwrap_err().code, ErrorCode::ResultTooLarge);
        let smaller = scale(page, 1.0, &shooting(Scale::Css, Some(10_000)));
        assert!(check_size(page, smaller, 1.0).is_ok());
        let largest = Place { x: 0.0, y: 0.0, width: 4096.0, height: 4096.0 };
        assert!(check_size(largest, 1.0 / 3.0, 3.0).is_ok(), "whatever the device");
        assert_eq!(check_size(largest, 1.0, 3.0).unwrap_err().code, ErrorCode::ResultTooLarge);
    }
}
