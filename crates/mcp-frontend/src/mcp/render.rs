//! From a reply to what MCP clients get.

use std::fmt::Write as _;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use browserfleet_common::metrics::metrics;
use rmcp::model::{CallToolResult, ContentBlock, JsonObject, MetaObject};
use serde_json::{Value, json};

use super::{
    resources::described,
    size::{self, SIZE},
};
use crate::{
    call::reply::{Link, Reply},
    failure::Failure,
};

/// Renders a reply: all texts in one block, each under its heading, then the pictures. A failure comes first and makes
/// the result an error; what succeeded before it is still there. How large all that is stands in `_meta`, which models do not see.
pub(super) fn render(mut reply: Reply) -> CallToolResult {
    let failure = reply.failure.take();
    if let Some(failure) = &failure {
        reply.tell("error", error(failure));
    }
    let mut text = String::new();
    if let Some(failure) = &failure {
        section(&mut text, "Error", &format!("Error: {failure}"));
    }
    for part in &reply.texts {
        section(&mut text, &part.title, &part.body);
    }
    metrics().reply_bytes.add_many("text", text.len() as u64);
    metrics().reply_bytes.add_many("picture", reply.images.iter().map(|image| image.data.len() as u64).sum());
    let size = size::of(&text, &reply.images, reply.structured.as_ref());
    let mut content = vec![ContentBlock::text(text)];
    content.extend(
        reply.images.iter().map(|image| ContentBlock::image(BASE64_STANDARD.encode(&image.data), &image.mime_type)),
    );
    content.extend(
        reply.links.iter().map(|Link { uri, artifact, .. }| ContentBlock::resource_link(described(uri, artifact))),
    );
    let mut result = if failure.is_some() { CallToolResult::error(content) } else { CallToolResult::success(content) };
    result.structured_content = reply.structured;
    result.meta = Some(MetaObject(JsonObject::from_iter([(SIZE.to_owned(), size)])));
    result
}

fn section(text: &mut String, title: &str, body: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    if !title.is_empty() {
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "### {title}");
    }
    text.push_str(body);
}

/// A failure, for programs.
fn error(failure: &Failure) -> Value {
    let mut error = json!({ "code": failure.code.name() });
    if let Some(delay) = failure.retry_after {
        error["retry_after_ms"] = json!(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
    }
    error
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use browserfleet_common::error_code::ErrorCode;
    use bytes::Bytes;

    use super::*;
    use crate::call::reply::Image;

    fn rendered(reply: Reply) -> Value {
        serde_json::to_value(render(reply)).unwrap()
    }

    #[test]
    fn texts_are_one_block_and_pictures_follow() {
        let mut reply = Reply::text("Result", "done");
        reply.push_text("Page", "- Page URL: about:blank");
        reply.images.push(Image { mime_type: "image/png".to_owned(), data: Bytes::from_static(b"\x89PNG") });
        let result = rendered(reply.with_structured(json!([1])));
        assert_eq!(result["content"][0]["text"], "### Result\ndone\n### Page\n- Page URL: about:blank");
        assert_eq!(result["content"][1], json!({ "type": "image", "data": "iVBORw==", "mimeType": "image/png" }));
        assert_eq!((&result["isError"], &result["structuredContent"]), (&json!(false), &json!([1])));
        let size =
            json!({ "text_bytes": 48, "text_tokens": 15, "image_bytes": 4, "image_tokens": 0, "structured_bytes": 3 });
        assert_eq!(result["_meta"], json!({ SIZE: size }));
    }

    #[test]
    fn a_failure_comes_first_and_keeps_what_succeeded() {
        let failure = Failure::new(ErrorCode::PoolFull, "full").retry(Duration::from_millis(1500));
        let mut reply = Reply { failure: Some(failure), ..Reply::text("Page", "half") };
        reply.tell("session_id", json!("bs_1"));
        let result = rendered(reply);
        assert_eq!(result["content"][0]["text"], "### Error\nError: full\n### Page\nhalf");
        assert_eq!(result["isError"], true);
        let structured = json!({ "session_id": "bs_1", "error": { "code": "pool_full", "retry_after_ms": 1500 } });
        assert_eq!(result["structuredContent"], structured);
    }
}
