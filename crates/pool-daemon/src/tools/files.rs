//! Files for pages. They come with the call: the server reads none of its own.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use browserfleet_tools::{Drop, Encoding, FileGiven, FileUpload};
use serde_json::{Map, Value, json};

use super::{
    Call, Registry, Reply, ToolResult, observe,
    reply::{locator_code, quoted},
};
use crate::{failure::Failure, page::FileData};

/// Most bytes of all files of a call.
const MAX_BYTES: usize = 8 << 20;

/// Longest file name, in bytes.
const MAX_NAME: usize = 255;

pub(super) fn register(registry: &mut Registry) {
    registry.add(upload);
    registry.add(drop_on);
}

async fn upload(call: Call, arguments: FileUpload) -> ToolResult {
    let FileUpload { paths, files, target } = arguments;
    not_ours(paths.as_deref())?;
    let files = files.map(decoded).transpose()?;
    let deadline = call.within(call.times.action);
    let mark = call.page.mark().await;
    let names = |files: &[FileData]| json!(files.iter().map(|file| &file.name).collect::<Vec<_>>()).to_string();
    let code = if let Some(target) = target {
        let files = files.ok_or_else(|| Failure::invalid("give files to upload to the target"))?;
        let found = call.page.give_files(&target, &files, deadline).await?;
        format!("await page.{}.setInputFiles({});", locator_code(&target, &found), names(&files))
    } else {
        call.page.choose_files(files.as_deref(), deadline).await?;
        format!("await fileChooser.setFiles({})", files.as_deref().map_or("undefined".to_owned(), names))
    };
    call.page.settle(mark, call.deadline).await?;
    observe::page(&call, Reply::new().code(code)).await
}

async fn drop_on(call: Call, arguments: Drop) -> ToolResult {
    let Drop { target, paths, files, data, element: _ } = arguments;
    not_ours(paths.as_deref())?;
    let files = decoded(files.unwrap_or_default())?;
    let data = data.unwrap_or_default();
    if files.is_empty() && data.is_empty() {
        return Err(Failure::invalid("At least one of \"files\" or \"data\" must be provided."));
    }
    let mark = call.page.mark().await;
    let given: Map<String, Value> = data.iter().map(|(kind, text)| (kind.clone(), text.as_str().into())).collect();
    let found = call.page.drop_on(&target, &files, &given, call.within(call.times.action)).await?;
    let mut parts = Vec::new();
    if !data.is_empty() {
        let lines: Vec<_> = data.iter().map(|(kind, text)| format!("  {kind}: {}", quoted(text))).collect();
        parts.push(format!("  data: {{\n{}\n}}", lines.join(",\n")));
    }
    let names: Vec<_> = files.iter().map(|file| quoted(&file.name)).collect();
    match names.as_slice() {
        [] => {}
        [only] => parts.push(format!("  files: {only}")),
        _ => parts.push(format!("  files: [{}]", names.join(", "))),
    }
    let code = format!("await page.{}.drop({{\n{}\n}});", locator_code(&target, &found), parts.join(",\n"));
    call.page.settle(mark, call.deadline).await?;
    observe::page(&call, Reply::new().code(code)).await
}

/// Paths are of a machine that is not the agent's: what lies there is not for pages.
fn not_ours(paths: Option<&[String]>) -> Result<(), Failure> {
    if paths.is_none_or(<[String]>::is_empty) {
        return Ok(());
    }
    let message = "this server gives pages no files of its own disk. Give them by value: files: [{\"name\": \"a.txt\", \"content\": \
                   \"…\"}], with \"encoding\": \"base64\" for what is no text";
    Err(Failure::invalid(message))
}

fn decoded(files: Vec<FileGiven>) -> Result<Vec<FileData>, Failure> {
    let mut left = MAX_BYTES;
    files.into_iter().map(|file| one(file, &mut left)).collect()
}

fn one(file: FileGiven, left: &mut usize) -> Result<FileData, Failure> {
    let FileGiven { name, content, artifact: _, encoding, mime_type } = file;
    // Front ends put contents in the place of artifacts.
    let content = content.ok_or_else(|| Failure::invalid("a file needs its content, or the URI of an artifact"))?;
    let name = name.ok_or_else(|| Failure::invalid("a file needs a name"))?;
    if name.is_empty() || name.len() > MAX_NAME || name.contains(['/', '\\', '\0']) {
        return Err(Failure::invalid(format!(
            "{} is no name of a file: 1 to {MAX_NAME} bytes, without slashes",
            quoted(&name)
        )));
    }
    let bytes = match encoding.unwrap_or_default() {
        Encoding::Text => content.into_bytes(),
        Encoding::Base64 => STANDARD
            .decode(content.trim())
            .map_err(|error| Failure::invalid(format!("the content of {} is not base64: {error}", quoted(&name))))?,
    };
    *left = left
        .checked_sub(bytes.len())
        .ok_or_else(|| Failure::invalid(format!("the files of a call may have {} MiB together", MAX_BYTES >> 20)))?;
    let mime_type = mime_type.unwrap_or_else(|| type_of(&name).to_owned());
    Ok(FileData { name, mime_type, base64: STANDARD.encode(bytes) })
}

/// What a browser would take a file of this name for; empty where it would not know.
pub(super) fn type_of(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    match extension.as_deref() {
        Some("txt" | "log") => "text/plain",
        Some("csv") => "text/csv",
        Some("html" | "htm") => "text/html",
        Some("md") => "text/markdown",
        Some("json") => "application/json",
        Some("xml") => "text/xml",
        Some("pdf") => "application/pdf",
        Some("zip") => "application/zip",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("gif") => "image/gif",
        Some("webp") => "image/webp",
        Some("svg") => "image/svg+xml",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, content: &str, encoding: Option<Encoding>) -> FileGiven {
        let (name, content) = (Some(name.to_owned()), Some(content.to_owned()));
        FileGiven { name, content, artifact: None, encoding, mime_type: None }
    }

    #[test]
    fn files_come_as_text_or_base64_and_are_bounded() {
        let files = decoded(vec![file("a.txt", "hi", None), file("b.bin", "AP8=", Some(Encoding::Base64))]).unwrap();
        assert_eq!((files[0].base64.as_str(), files[0].mime_type.as_str()), ("aGk=", "text/plain"));
        assert_eq!((files[1].base64.as_str(), files[1].mime_type.as_str()), ("AP8=", ""));
        for (wrong, words) in [
            (file("../x", "", None), "no name of a file"),
            (file("", "", None), "no name of a file"),
            (file("a", "?", Some(Encoding::Base64)), "not base64"),
            (file("a", &"x".repeat(MAX_BYTES + 1), None), "8 MiB together"),
        ] {
            let error = decoded(vec![wrong]).unwrap_err().message;
            assert!(error.contains(words), "{error}");
        }
    }
}
