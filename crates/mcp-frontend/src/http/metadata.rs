//! `/.well-known/oauth-protected-resource`: where clients get a token for this server (RFC 9728). Everybody is told.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{StatusCode, Uri, header::CACHE_CONTROL};

use crate::core::Core;

/// The metadata of this server, and of its endpoint.
pub(super) async fn resource(State(core): State<Arc<Core>>, uri: Uri) -> Response {
    let resource = core.issuer.as_ref().map(crate::oauth::Issuer::resource);
    match resource.filter(|resource| resource.is_described_at(uri.path())) {
        Some(resource) => ([(CACHE_CONTROL, "public, max-age=300")], Json(resource.metadata())).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
