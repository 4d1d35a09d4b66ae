//! Pages as PDF.

use browserfleet_tools::PdfSave;

use super::{Call, Registry, Reply, ToolResult, reply::quoted};

/// What a PDF is called that nobody gave a name.
const NAME: &str = "page.pdf";

pub(super) fn register(registry: &mut Registry) {
    registry.add(save);
}

async fn save(call: Call, PdfSave { filename }: PdfSave) -> ToolResult {
    let bytes = call.page.pdf(call.within(call.times.navigation)).await?;
    let name = filename.unwrap_or_else(|| NAME.to_owned());
    let reply =
        Reply::new().result("- Page as pdf").code(format!("await page.pdf({{\n  path: {}\n}});", quoted(&name)));
    Ok(reply.file(NAME, "application/pdf", bytes))
}
