//! `/calls/{id}`: stopping a call, whichever front end it runs on. To operators any, to others their own; which there are says
//! `/sessions`.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse as _, Response},
};
use http::{Extensions, StatusCode};
use serde_json::json;
use uuid::Uuid;

use super::sessions::{scope, store_unavailable};
use crate::{Unavailable, bus, caller::access, core::Core, usage::Kind};

/// Has a call stopped; its caller is told. Somebody else's does not exist.
pub(super) async fn stop(State(core): State<Arc<Core>>, Path(id): Path<String>, extensions: Extensions) -> Response {
    let access = access(&extensions);
    let known = match core.usage.held(Kind::Call, scope(&access)).await {
        Ok(calls) => calls.into_iter().find(|call| call.id.to_string() == id),
        Err(error) => return store_unavailable(&error),
    };
    let Some(call) = known else {
        return (StatusCode::NOT_FOUND, Json(json!({ "error": "call_unknown" }))).into_response();
    };
    match publish(&core, call.id).await {
        Ok(()) => {
            tracing::info!(request = %call.id, by = access.principal.digest(), "a call is stopped");
            StatusCode::ACCEPTED.into_response()
        }
        Err(error) => store_unavailable(&error),
    }
}

async fn publish(core: &Core, call: Uuid) -> Result<(), Unavailable> {
    core.bus.publish(&bus::everybody(), bus::Message::Stop { call }).await
}
