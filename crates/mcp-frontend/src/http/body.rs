//! Reading bodies: bounded in size and time.

use std::time::Duration;

use axum::{body::Body, response::Response};
use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH},
};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};

/// Most bytes read of a body that is refused: a client that is still sending would not read the refusal.
const DRAIN_MAX: usize = 64 << 10;
/// Longest time for that.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// Why there is no body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    TooLarge {
        limit: usize,
    },
    TooSlow,
    /// The connection broke, or what came was no HTTP.
    Broken,
}

/// Reads a whole body.
pub(crate) async fn read(
    mut body: Body,
    headers: &HeaderMap,
    limit: usize,
    within: Duration,
) -> Result<Bytes, BodyError> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        drain(body).await;
        return Err(BodyError::TooLarge { limit });
    }
    let deadline = Instant::now() + within;
    let mut bytes = BytesMut::with_capacity(announced.unwrap_or_default());
    loop {
        match timeout_at(deadline, body.frame()).await {
            Err(_elapsed) => return Err(BodyError::TooSlow),
            Ok(None) => return Ok(bytes.freeze()),
            Ok(Some(Err(_broken))) => return Err(BodyError::Broken),
            Ok(Some(Ok(frame))) => {
                // Trailers say nothing to us.
                let data = frame.into_data().unwrap_or_default();
                if bytes.len() + data.len() > limit {
                    drain(body).await;
                    return Err(BodyError::TooLarge { limit });
                }
                bytes.extend_from_slice(&data);
            }
        }
    }
}

async fn drain(mut body: Body) {
    let deadline = Instant::now() + DRAIN_TIME;
    let mut drained = 0;
    while drained < DRAIN_MAX
        && let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await
    {
        drained += frame.data_ref().map_or(0, Bytes::len);
    }
}

/// An answer after which the connection ends: the rest of the request is not read.
pub(crate) fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
