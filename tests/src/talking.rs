//! Pages that say and ask for things: consoles and requests.

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header},
    response::{Html, IntoResponse, Redirect},
    routing::{any, get},
};

pub(crate) fn router() -> Router {
    Router::new()
        .route("/console", get(|| async { Html(CONSOLE) }))
        .route("/requests", get(|| async { Html(REQUESTS) }))
        .route("/api/data", any(data))
        .route("/api/moved", get(|| async { Redirect::temporary("/api/data") }))
        .route("/api/missing", get(|| async { (StatusCode::NOT_FOUND, "nothing here") }))
        .route("/api/large", get(|| async { "x".repeat(1 << 20) }))
        .route("/api/binary", get(|| async { ([(header::CONTENT_TYPE, "application/octet-stream")], [0_u8, 255, 1]) }))
        .route("/pixel.png", get(|| async { ([(header::CONTENT_TYPE, "image/png")], PIXEL) }))
}

async fn data(request: Request) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/json"), (header::SERVER, "test")],
        format!("{{\"method\":\"{}\"}}", request.method()),
    )
}

const CONSOLE: &str = "<!doctype html><title>Console</title><script>
console.log('hello', { a: 1, b: [1, 2] }, [1, 'x'], null, undefined, NaN);
console.info('for your information');
console.warn('look out');
console.error('on purpose');
console.debug('details');
console.assert(false, 'it does not hold');
fetch('/api/missing');
setTimeout(() => { throw new TypeError('nobody caught this') });
Promise.reject(new Error('nor this'));
</script>";

const REQUESTS: &str = "<!doctype html><title>Requests</title><img src='/pixel.png'><img src='/missing.png'><p id=out>asking</p><script>
(async () => {
  await fetch('/api/data');
  await fetch('/api/data?q=1', { method: 'POST', headers: { 'content-type': 'application/json', 'x-mine': 'yes' }, body: JSON.stringify({ n: 1 }) });
  await fetch('/api/moved');
  await fetch('/api/missing');
  await (await fetch('/api/large')).text();
  await (await fetch('/api/binary')).arrayBuffer();
  await fetch('http://127.0.0.1:1/').catch(() => {});
  out.textContent = 'all asked';
})();
</script>";

/// One red pixel.
const PIXEL: [u8; 69] = [
    137, 80, 78, 71, 13, 10, 26, 10, 0, 0, 0, 13, 73, 72, 68, 82, 0, 0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0, 144, 119, 83,
    222, 0, 0, 0, 12, 73, 68, 65, 84, 120, 156, 99, 248, 207, 192, 0, 0, 3, 1, 1, 0, 201, 254, 146, 239, 0, 0, 0, 0,
    73, 69, 78, 68, 174, 66, 96, 130,
];
