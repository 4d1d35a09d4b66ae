//! What a call answers, before it is rendered.

use browserfleet_common::artifact::Artifact;
use bytes::Bytes;
use serde_json::Value;

use crate::{artifacts::uri, failure::Failure, session::Record};

/// The answer of a call: what succeeded, and why the rest did not.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    /// First in the text: agents must not overlook it.
    pub(crate) failure: Option<Failure>,
    pub(crate) texts: Vec<Text>,
    pub(crate) images: Vec<Image>,
    /// What the tool has made to be kept, and not shown.
    pub(crate) files: Vec<File>,
    /// What pages have given away.
    pub(crate) downloads: Vec<File>,
    /// Artifacts, for clients that read resources.
    pub(crate) links: Vec<Link>,
    pub(crate) structured: Option<Value>,
    /// Digest of the session, for the log.
    pub(crate) session: Option<String>,
}

/// A text under a heading.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) title: String,
    pub(crate) body: String,
}

/// Where an artifact can be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) uri: String,
    pub(crate) artifact: Artifact,
    /// Where whoever has it reads the same without a key, for a while.
    pub(crate) url: Option<String>,
}

impl Link {
    pub(crate) fn to(record: &Record, artifact: &Artifact) -> Self {
        Self { uri: uri(&record.name, &artifact.id), artifact: artifact.clone(), url: None }
    }
}

/// A file that a page gave away, or a tool made.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) name: String,
    /// Empty where nobody knows.
    pub(crate) mime_type: String,
    pub(crate) data: Bytes,
}

/// A picture.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) mime_type: String,
    pub(crate) data: Bytes,
}

impl Reply {
    /// A reply of one section.
    pub(crate) fn text(title: &str, body: impl Into<String>) -> Self {
        Self { texts: vec![Text { title: title.to_owned(), body: body.into() }], ..Self::default() }
    }

    pub(crate) fn with_structured(self, value: Value) -> Self {
        Self { structured: Some(value), ..self }
    }

    /// Adds a member to the structured form, unless that is no object.
    pub(crate) fn tell(&mut self, key: &str, value: Value) {
        if let Value::Object(members) = self.structured.get_or_insert_with(|| Value::Object(serde_json::Map::new())) {
            members.insert(key.to_owned(), value);
        }
    }

    /// Adds to the structured form: objects become one, anything else stands alone.
    pub(crate) fn structure(&mut self, value: Option<Value>) {
        match (&mut self.structured, value) {
            (Some(Value::Object(members)), Some(Value::Object(more))) => members.extend(more),
            (structured, Some(value)) => *structured = Some(value),
            (_, None) => {}
        }
    }

    /// Adds lines to the section of this title, or such a section.
    pub(crate) fn add_text(&mut self, title: &str, lines: &str) {
        match self.texts.iter_mut().find(|text| text.title == title) {
            Some(text) => text.body.extend(["\n", lines]),
            None => self.push_text(title, lines),
        }
    }

    /// How much it tells: texts, pictures and files, before they are encoded.
    pub(crate) fn bytes(&self) -> u64 {
        let texts = self.texts.iter().map(|text| text.body.len());
        let files = self.files.iter().chain(&self.downloads).map(|file| file.data.len());
        let all = texts.chain(self.images.iter().map(|image| image.data.len())).chain(files);
        all.map(|bytes| bytes as u64).sum()
    }

    pub(crate) fn push_text(&mut self, title: &str, body: impl Into<String>) {
        self.texts.push(Text { title: title.to_owned(), body: body.into() });
    }
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Self {
        Self { failure: Some(failure), ..Self::default() }
    }
}
