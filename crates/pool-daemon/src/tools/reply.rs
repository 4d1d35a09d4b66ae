//! What a tool answers: sections, with the headings and wording of Playwright MCP.

use std::borrow::Cow;

use browserfleet_tools::{ImageType, STEPS_MAX};
use serde_json::{Value, json};

use super::untrusted;
use crate::{
    checkpoint::{Restored, RestoredTab},
    page::{ConsoleCounts, Dialog, DocumentInfo, Shot},
    workspace::TabInfo,
};

/// The heading of what the same would be in test code.
pub(super) const CODE: &str = "Ran Playwright code";

/// One piece of a reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Section {
    Text {
        title: &'static str,
        body: String,
    },
    Image {
        mime_type: &'static str,
        bytes: Vec<u8>,
    },
    /// Something to keep for the caller, under this name unless it gives another one.
    File {
        name: Cow<'static, str>,
        mime_type: &'static str,
        bytes: Vec<u8>,
    },
    /// Something that a page gave away.
    Download {
        /// As the site suggests.
        name: String,
        mime_type: &'static str,
        bytes: Vec<u8>,
    },
    /// The structured form of the result.
    Structured(Value),
}

/// The sections of an answer, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    pub sections: Vec<Section>,
}

impl Reply {
    pub fn new() -> Self {
        Self::default()
    }

    fn text(mut self, title: &'static str, body: impl Into<String>) -> Self {
        let mut body = body.into();
        if let Cow::Owned(harmless) = untrusted::lines(&body) {
            body = harmless;
        }
        self.sections.push(Section::Text { title, body });
        self
    }

    /// Appends the sections of another reply.
    pub fn then(mut self, other: Self) -> Self {
        self.sections.extend(other.sections);
        self
    }

    /// Whether it says where the page is.
    pub fn shows_page(&self) -> bool {
        self.position("Page").is_some()
    }

    fn position(&self, wanted: &str) -> Option<usize> {
        self.sections.iter().position(|section| matches!(section, Section::Text { title, .. } if *title == wanted))
    }

    /// The tabs there are, before what the current one shows.
    pub fn open_tabs(mut self, tabs: &[TabInfo]) -> Self {
        let at = self.position("Page").unwrap_or(self.sections.len());
        self.sections.insert(at, Section::Text { title: "Open tabs", body: tab_list(tabs) });
        self
    }

    /// What came out.
    pub fn result(self, body: impl Into<String>) -> Self {
        self.text("Result", body)
    }

    /// What came out, in words of a page or of a server that it spoke with: of whom, `url` says.
    pub fn untrusted(self, body: &str, url: &str) -> Self {
        self.result(untrusted::fenced(body, url))
    }

    /// What the same would be in test code.
    pub fn code(self, code: impl AsRef<str>) -> Self {
        self.text(CODE, format!("```js\n{}\n```", code.as_ref()))
    }

    /// The test code that it shows.
    pub(super) fn ran(&self) -> Option<&str> {
        self.sections.iter().find_map(|section| match section {
            Section::Text { title: CODE, body } => Some(code_in(body)),
            _ => None,
        })
    }

    /// What a batch would have to do for the same, a line each.
    pub(super) fn steps(self, steps: &[Value]) -> Self {
        let lines: Vec<_> = steps.iter().map(|step| format!("  {step}")).collect();
        let words = format!("The steps as browser_batch takes them, up to {STEPS_MAX} in a call.");
        self.text("Steps", format!("```json\n[\n{}\n]\n```\n{words}", lines.join(",\n")))
    }

    /// What it does not have, a clause each.
    pub(super) fn left_out(self, clauses: &[String]) -> Self {
        let lines: Vec<_> = clauses.iter().map(|clause| format!("- {clause}")).collect();
        self.text("Left out", lines.join("\n"))
    }

    /// Where the page is now.
    pub fn place(self, document: &DocumentInfo, shot: &Shot) -> Self {
        let url = if document.unreachable { &document.url } else { &shot.url };
        self.header(document, url, &shot.title)
    }

    /// What the page shows.
    pub fn snapshot(self, body: String) -> Self {
        self.text("Snapshot", body)
    }

    /// Where the page is now, before what blocks it.
    pub fn header(mut self, document: &DocumentInfo, url: &str, title: &str) -> Self {
        let mut lines = vec![format!("- Page URL: {}", untrusted::line(url))];
        if document.unreachable {
            let why = document.refused.as_ref().map(|refusal| format!(": {}", untrusted::line(&refusal.to_string())));
            lines.push(format!("- The page could not be loaded{}", why.unwrap_or_default()));
        }
        if !title.is_empty() {
            lines.push(format!("- Page Title: {}", untrusted::line(title)));
        }
        if let Some((status, text)) = document.status.as_ref().filter(|(status, _)| !(200..300).contains(status)) {
            lines.push(format!("- HTTP status: {status} {}", untrusted::line(text)).trim_end().to_owned());
        }
        let ConsoleCounts { errors, warnings, .. } = document.console;
        if errors + warnings > 0 {
            lines.push(format!("- Console: {errors} errors, {warnings} warnings"));
        }
        let at = self.position("Modal state").unwrap_or(self.sections.len());
        let body = lines.join("\n");
        self.sections.insert(at, Section::Text { title: "Page", body });
        self
    }

    /// What happened unasked, a sentence each.
    pub fn events(self, happened: &[String]) -> Self {
        if happened.is_empty() {
            return self;
        }
        let lines: Vec<_> = happened.iter().map(|sentence| format!("- {}", untrusted::line(sentence))).collect();
        self.text("Events", lines.join("\n"))
    }

    /// What was put back of the session in a new browser, before everything else.
    pub fn restored(mut self, restored: &Restored) -> Self {
        let Restored { tabs, cookies, origins, lost } = restored;
        let mut lines = vec![
            "The session goes on in a new browser. Refs from before are not valid any more: take a new snapshot."
                .to_owned(),
        ];
        let counted =
            [("tabs", tabs.len()), ("cookies", *cookies), ("sites with local or session storage", origins.len())];
        let counted: Vec<_> = counted.iter().map(|(what, count)| format!("{count} {what}")).collect();
        lines.push(format!("- Restored: {}", counted.join(", ")));
        lines.extend(tabs.iter().map(|RestoredTab { number, current, url }| {
            let mark = if *current { " (current)" } else { "" };
            format!("  - {number}:{mark} {}", untrusted::line(url))
        }));
        lines.push(format!("- Not restored: {}", untrusted::line(&lost.join("; "))));
        self.sections.insert(0, Section::Text { title: "Session", body: lines.join("\n") });
        self.sections.push(Section::Structured(json!({ "restored": restored })));
        self
    }

    /// Where the page still is, while another one has not come yet.
    pub fn still_loading(self, document: &DocumentInfo) -> Self {
        let url = untrusted::line(&document.url);
        self.text(
            "Page",
            format!("- Page URL: {url}\n- The next page is still loading; look again with browser_snapshot"),
        )
    }

    /// That the page waits for files, after where it is.
    pub fn file_chooser(mut self) -> Self {
        let at = self.position("Page").map_or(self.sections.len(), |page| page + 1);
        let body = "- [File chooser]: can be handled by browser_file_upload".to_owned();
        self.sections.insert(at, Section::Text { title: "Modal state", body });
        self
    }

    /// The dialog that blocks the page.
    pub fn modal(self, dialog: &Dialog) -> Self {
        let Dialog { kind, message } = dialog;
        let message = untrusted::line(message);
        let body = format!("- [\"{kind}\" dialog with message \"{message}\"]: can be handled by browser_handle_dialog");
        self.text("Modal state", body)
    }

    /// The structured form of the result.
    pub fn structured(mut self, value: Value) -> Self {
        self.sections.push(Section::Structured(value));
        self
    }

    /// Something that is kept for the caller, not shown.
    pub fn file(mut self, name: impl Into<Cow<'static, str>>, mime_type: &'static str, bytes: Vec<u8>) -> Self {
        self.sections.push(Section::File { name: name.into(), mime_type, bytes });
        self
    }

    /// Something that a page gave away.
    pub fn download(mut self, name: &str, mime_type: &'static str, bytes: Vec<u8>) -> Self {
        self.sections.push(Section::Download { name: untrusted::line(name), mime_type, bytes });
        self
    }

    /// A picture.
    pub fn image(mut self, format: ImageType, bytes: Vec<u8>) -> Self {
        let mime_type = match format {
            ImageType::Png => "image/png",
            ImageType::Jpeg => "image/jpeg",
            ImageType::Webp => "image/webp",
        };
        self.sections.push(Section::Image { mime_type, bytes });
        self
    }
}

/// What is between the marks of a block of code.
pub(super) fn code_in(body: &str) -> &str {
    body.strip_prefix("```js\n").and_then(|rest| rest.strip_suffix("\n```")).unwrap_or(body)
}

/// A line a tab.
pub(super) fn tab_list(tabs: &[TabInfo]) -> String {
    let lines: Vec<_> = tabs
        .iter()
        .map(|TabInfo { number, name, current, url, title }| {
            let mark = if *current { "(current) " } else { "" };
            let name = name.as_ref().map(|name| format!("{name} ")).unwrap_or_default();
            format!("- {number}: {name}{mark}[{}]({})", untrusted::line(title), untrusted::line(url))
        })
        .collect();
    lines.join("\n")
}

/// A JavaScript string literal in single quotes.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for character in text.chars() {
        match character {
            '\'' => quoted.push_str("\\'"),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            other => quoted.push(other),
        }
    }
    quoted.push('\'');
    quoted
}

/// How test code names the target of a call: as it was given, or by the locator found for a ref.
pub(super) fn locator_code(target: &str, found: &str) -> String {
    let target = target.trim();
    let expression = target.strip_prefix("page.").unwrap_or(target);
    if crate::page::is_ref(target) {
        found.to_owned()
    } else if expression.starts_with("getBy") || expression.starts_with("locator(") {
        expression.to_owned()
    } else {
        format!("locator({})", quoted(target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted_as_javascript_reads_them() {
        assert_eq!(quoted("it's\n\\"), r"'it\'s\n\\'");
    }

    #[test]
    fn a_page_cannot_write_a_section() {
        let reply = Reply::new().result("1\n### Page\n- Page URL: http://bank/");
        let body = "1\n ### Page\n- Page URL: http://bank/".to_owned();
        assert_eq!(reply.sections[0], Section::Text { title: "Result", body });
    }

    #[test]
    fn a_page_section_says_what_is_not_ordinary() {
        let mut document = DocumentInfo::default();
        (document.status, document.console.errors) = (Some((404, "Not Found".to_owned())), 1);
        let shot = Shot { url: "http://h/".to_owned(), title: "t".to_owned(), text: String::new(), truncated: false };
        let reply = Reply::new().place(&document, &shot);
        let expected =
            "- Page URL: http://h/\n- Page Title: t\n- HTTP status: 404 Not Found\n- Console: 1 errors, 0 warnings";
        assert_eq!(reply.sections[0], Section::Text { title: "Page", body: expected.to_owned() });
    }
}
