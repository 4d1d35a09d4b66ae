//! `/calls/{id}`: stopping a call, whichever front end it runs on. To operators any, to others their own; which there are says
//! `/sessions`.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse as _, Response},
};
use http::{Extensions, StatusCode, header::RETRY_AFTER};
use serde_json::json;

use super::sessions::{scope, store_unavailable};
use crate::{
    Unavailable,
    bus::{self, Audience},
    caller::access,
    core::Core,
    usage::{Kind, Place},
};

/// Has a call stopped; its caller is told. Somebody else's does not exist. 202: its front end has been told. 503: it has not,
/// so the call may go on; asking again is safe.
pub(super) async fn stop(State(core): State<Arc<Core>>, Path(id): Path<String>, extensions: Extensions) -> Response {
    let access = access(&extensions);
    let known = match core.usage.held(Kind::Call, scope(&access)).await {
        Ok(calls) => calls.into_iter().find(|call| call.id.to_string() == id),
        Err(error) => return store_unavailable(&error),
    };
    let Some(call) = known else {
        return (StatusCode::NOT_FOUND, Json(json!({ "error": "call_unknown" }))).into_response();
    };
    match tell(&core, &call).await {
        Ok(Audience::Nobody) => not_told(),
        Ok(Audience::Somebody | Audience::Unknown) => {
            tracing::info!(request = %call.id, by = access.principal.digest(), "a call is stopped");
            StatusCode::ACCEPTED.into_response()
        }
        Err(error) => store_unavailable(&error),
    }
}

/// Tells the front end on which a call runs: ourselves without a detour.
async fn tell(core: &Core, call: &Place) -> Result<Audience, Unavailable> {
    if call.front_end == core.usage.front_end() {
        core.running.stop(call.id);
        return Ok(Audience::Somebody);
    }
    core.bus.publish(&bus::of_front_end(&call.front_end), bus::Message::Stop { call: call.id }).await
}

/// Its front end does not listen: it is connecting to the store again, or has gone, and its calls with it.
fn not_told() -> Response {
    let body = json!({
        "error": "front_end_silent",
        "message": "The front end that runs this call does not listen right now: try again in a moment",
    });
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], Json(body)).into_response()
}
