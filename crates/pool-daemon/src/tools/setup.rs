//! Setting up a session's browser.

use browserfleet_common::error_code::ErrorCode;
use browserfleet_tools::Open;

use super::{Call, Registry, Reply, ToolResult};
use crate::{failure::Failure, page::VIEWPORT};

/// Smallest and largest side of a viewport, in CSS pixels.
const SIDES: std::ops::RangeInclusive<u32> = 16..=4096;

pub(super) fn register(registry: &mut Registry) {
    registry.add(open);
}

async fn open(call: Call, arguments: Open) -> ToolResult {
    let Open { headless, width, height } = arguments;
    if headless == Some(false) && !call.abilities.headed {
        let message = "this server's browsers have no window: it needs full Chromium and a display. Leave headless out";
        return Err(Failure::new(ErrorCode::Unsupported, message));
    }
    for (name, side) in [("width", width), ("height", height)] {
        if side.is_some_and(|side| !SIDES.contains(&side)) {
            let message = format!("{name} must be from {} to {} CSS pixels", SIDES.start(), SIDES.end());
            return Err(Failure::invalid(message));
        }
    }
    let (width, height) = (width.unwrap_or(VIEWPORT.0), height.unwrap_or(VIEWPORT.1));
    call.page.resize(width, height, call.within(call.times.action)).await?;
    Ok(Reply::new().result(format!("A browser is open; its viewport has {width} × {height} CSS pixels.")))
}
