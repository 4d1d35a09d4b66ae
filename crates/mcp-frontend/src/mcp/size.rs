//! How large a reply is for whoever reads it: in bytes, and in tokens as far as that can be said without the reader's own
//! tokenizer.

use imagesize::blob_size;
use serde_json::{Value, json};

use crate::call::reply::Image;

/// The member of a reply's `_meta` that says so.
pub(super) const SIZE: &str = "browserfleet/size";

/// Bytes of text that make ten tokens. Measured with `o200k_base`: 29 to 32 in snapshots, 41 in English prose; so we rather
/// count too many.
const BYTES_PER_TEN_TOKENS: usize = 32;

/// Pixels of a picture that make a token, after its longer side has been brought to `LONGEST_SIDE`: as Anthropic documents for
/// its models. Others differ by a small factor.
const PIXELS_PER_TOKEN: usize = 750;
const LONGEST_SIDE: usize = 1568;

/// The sizes of a reply's text, pictures and structured form.
pub(super) fn of(text: &str, images: &[Image], structured: Option<&Value>) -> Value {
    let mut size = json!({ "text_bytes": text.len(), "text_tokens": text_tokens(text) });
    if !images.is_empty() {
        size["image_bytes"] = images.iter().map(|image| image.data.len()).sum::<usize>().into();
        size["image_tokens"] = images.iter().map(|image| image_tokens(&image.data)).sum::<usize>().into();
    }
    if let Some(structured) = structured {
        size["structured_bytes"] = structured.to_string().len().into();
    }
    size
}

fn text_tokens(text: &str) -> usize {
    (text.len() * 10).div_ceil(BYTES_PER_TEN_TOKENS)
}

/// None where its size cannot be read: then it is no picture that a model could see.
fn image_tokens(data: &[u8]) -> usize {
    let Ok(size) = blob_size(data) else { return 0 };
    let longest = size.width.max(size.height).max(1);
    let shrunk = |side: usize| if longest > LONGEST_SIDE { side * LONGEST_SIDE / longest } else { side };
    (shrunk(size.width) * shrunk(size.height)).div_ceil(PIXELS_PER_TOKEN)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// The beginning of a PNG of this size.
    fn png(width: u32, height: u32) -> Image {
        let mut data = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
        data.extend(width.to_be_bytes());
        data.extend(height.to_be_bytes());
        data.extend([8, 6, 0, 0, 0]);
        Image { mime_type: "image/png".to_owned(), data: Bytes::from(data) }
    }

    #[test]
    fn texts_and_pictures_are_estimated() {
        assert_eq!(of("", &[], None), json!({ "text_bytes": 0, "text_tokens": 0 }));
        let sized = of(&"x".repeat(320), &[png(1280, 720), png(75, 10)], Some(&json!({ "a": 1 })));
        let expected = json!({
            "text_bytes": 320, "text_tokens": 100, "image_bytes": 58, "image_tokens": 1229 + 1, "structured_bytes": 7,
        });
        assert_eq!(sized, expected);
    }

    #[test]
    fn large_pictures_are_shrunk_before_they_are_seen() {
        assert_eq!(image_tokens(&png(1568, 1568).data), image_tokens(&png(15_680, 15_680).data));
        assert_eq!(image_tokens(b"no picture"), 0);
    }
}
