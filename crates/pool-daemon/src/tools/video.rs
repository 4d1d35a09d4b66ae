//! What is seen, as a video.

use browserfleet_common::error_code::ErrorCode;
use browserfleet_tools::{StartVideo, StopVideo, VideoChapter};
use serde_json::json;
use tokio::time::Duration;

use super::{Call, Registry, Reply, ToolResult, untrusted::line};
use crate::{
    failure::Failure,
    recorders::{FPS, Film, Video},
};

/// What a video is called that nobody gave a name.
const NAME: &str = "video.webm";
/// Most characters of a chapter's title and description.
const WORDS_MAX: usize = 500;
/// How long a chapter's card is shown, in milliseconds: at least, where nobody says, and at most.
const CARD: (f64, f64, f64) = (100.0, 2_000.0, 10_000.0);

pub(super) fn register(registry: &mut Registry) {
    registry.add(start);
    registry.add(stop);
    registry.add(chapter);
}

async fn start(call: Call, StartVideo { filename, size, fps, cursor }: StartVideo) -> ToolResult {
    if cursor == Some(true) {
        let message = "a pointer is not shown: calls are not paced for it to travel. Leave cursor out";
        return Err(Failure::new(ErrorCode::Unsupported, message));
    }
    let fps = fps.unwrap_or(FPS);
    if fps.is_nan() || fps <= 0.0 {
        return Err(Failure::invalid("fps must be greater than 0"));
    }
    let slot = &call.workspace.recorders().video;
    if slot.is_taken() {
        return Err(Failure::invalid("a video is being recorded; browser_stop_video ends it"));
    }
    slot.put(Video::start(&call.workspace, call.workspace.context().tasks(), filename, fps));
    let of_size = if size.is_some() {
        " It has the size of the viewport, which browser_resize and browser_emulate set: size is ignored."
    } else {
        ""
    };
    Ok(Reply::new().result(format!("Video recording started.{of_size}")))
}

async fn stop(call: Call, StopVideo {}: StopVideo) -> ToolResult {
    let none = || Ok(Reply::new().result("No videos were recorded."));
    let Some(mut video) = call.workspace.recorders().video.take() else { return none() };
    let name = video.name.take();
    let Some(film) = video.stop(call.within(call.times.action)).await? else { return none() };
    let Film { webm, duration, frames, size: (width, height), cut } = film;
    let mut text = format!("Video of {:.1} s, {frames} frames", duration.as_secs_f64());
    if cut {
        text.push_str(
            "\nIts end is missing: there was more than a video may have. Record a shorter time, or fewer frames.",
        );
    }
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let told = json!({
        "bytes": webm.len(), "duration_ms": milliseconds, "frames": frames, "width": width, "height": height, "cut": cut,
    });
    let name = name.map_or_else(|| NAME.to_owned(), |name| line(&name));
    Ok(Reply::new().result(text).structured(told).file(name, "video/webm", webm))
}

async fn chapter(call: Call, VideoChapter { title, description, duration }: VideoChapter) -> ToolResult {
    for (name, words) in [("title", Some(&title)), ("description", description.as_ref())] {
        if words.is_some_and(|words| words.chars().count() > WORDS_MAX) {
            return Err(Failure::invalid(format!("{name} may have {WORDS_MAX} characters")));
        }
    }
    let (least, usual, most) = CARD;
    let milliseconds = duration.unwrap_or(usual);
    if !(least..=most).contains(&milliseconds) {
        return Err(Failure::invalid(format!("duration must be from {least} to {most} milliseconds")));
    }
    let video = &call.workspace.recorders().video;
    if !video.with(|video| video.chapter(&title)) {
        return Err(Failure::invalid("no video is being recorded; browser_start_video begins one"));
    }
    let time = Duration::from_secs_f64(milliseconds / 1000.0);
    call.page.show_card(&title, description.as_deref(), time, call.within(call.times.action)).await?;
    Ok(Reply::new().result(format!("Chapter '{}' added.", line(&title))))
}
