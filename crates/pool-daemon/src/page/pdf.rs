//! The page as a PDF.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use browserfleet_cdp::browser_protocol::page::PrintToPdfParams;
use browserfleet_common::error_code::ErrorCode;
use tokio::time::Instant;

use super::Page;
use crate::failure::Failure;

/// Most bytes of a PDF.
const MAX_BYTES: usize = 8 << 20;

impl Page {
    /// Prints the page, on letter paper without margins as the peer does.
    pub async fn pdf(&self, deadline: Instant) -> Result<Vec<u8>, Failure> {
        let command = PrintToPdfParams {
            margin_top: Some(0.0),
            margin_bottom: Some(0.0),
            margin_left: Some(0.0),
            margin_right: Some(0.0),
            ..PrintToPdfParams::default()
        };
        let data = self.unless_dialog(self.call(command, deadline)).await?.data;
        let bytes = STANDARD.decode(AsRef::<[u8]>::as_ref(&data)).map_err(|error| {
            tracing::error!(%error, "a PDF is not base64");
            Failure::new(ErrorCode::Internal, "the PDF could not be read")
        })?;
        if bytes.len() > MAX_BYTES {
            let message = format!(
                "the PDF has {} bytes, at most {MAX_BYTES} can be kept; print a smaller page, or take a screenshot",
                bytes.len()
            );
            return Err(Failure::new(ErrorCode::ResultTooLarge, message));
        }
        Ok(bytes)
    }
}
