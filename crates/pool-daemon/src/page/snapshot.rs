//! Snapshots: the page as a tree of roles, names and refs, computed in the page and put together over its frames.

use std::sync::Arc;

use browserfleet_cdp::browser_protocol::dom::DescribeNodeParams;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use super::{
    Page,
    state::{World, prefix},
    world::call,
};
use crate::failure::Failure;

/// Most elements of one snapshot.
const MAX_NODES: usize = 20_000;

/// Most bytes of one snapshot.
const MAX_BYTES: usize = 1 << 20;

/// Most characters of a title and of a URL that a reply shows: the page chooses them.
pub(super) const MAX_TITLE: usize = 500;
const MAX_URL: usize = 4_000;

/// How deep frames within frames are shown.
const MAX_FRAME_DEPTH: usize = 6;

/// Most frames of one snapshot.
const MAX_FRAMES: usize = 50;

/// How long a frame that is still loading is waited for.
const FRAME_WAIT: Duration = Duration::from_secs(2);

/// How often a snapshot is tried again because its document was replaced in the middle.
const ATTEMPTS: usize = 3;

/// What is wanted of a snapshot.
#[derive(Clone, Debug, Default)]
pub struct SnapshotOptions {
    /// Only this element.
    pub target: Option<String>,
    pub depth: Option<u32>,
    pub boxes: bool,
    /// Only what can be acted on, under the landmarks and headings that place it.
    pub interactive: bool,
}

impl SnapshotOptions {
    /// Whether less, or more, than the page as it is will be shown.
    pub fn is_part(&self) -> bool {
        self.target.is_some() || self.depth.is_some() || self.boxes || self.interactive
    }
}

/// A snapshot, and what else the page says of itself at the same moment.
#[derive(Clone, Debug)]
pub struct Shot {
    pub url: String,
    pub title: String,
    /// YAML.
    pub text: String,
    /// Whether something was left out because of the bounds.
    pub truncated: bool,
}

/// How the page was shown before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    Never,
    /// What was shown was another document.
    Elsewhere,
    /// The present document, so.
    As(Arc<str>),
}

#[derive(Debug, Deserialize)]
struct FrameShot {
    url: String,
    title: String,
    text: String,
    truncated: bool,
    frames: Vec<Hole>,
}

/// Where a child frame's snapshot belongs.
#[derive(Debug, Deserialize)]
struct Hole {
    /// The iframe element.
    r#ref: String,
    /// Its line in the text, from 0.
    line: usize,
}

impl Page {
    /// Takes a snapshot. A document that is replaced meanwhile is followed, a few times.
    pub async fn snapshot(&self, options: &SnapshotOptions, deadline: Instant) -> Result<Shot, Failure> {
        for _ in 1..ATTEMPTS {
            match self.unless_dialog(self.snapshot_once(options, deadline)).await {
                Err(failure) if failure.is_stale_document() => {}
                result => return result,
            }
        }
        self.unless_dialog(self.snapshot_once(options, deadline)).await
    }

    /// Where the page is and how it calls itself, without what it shows.
    pub async fn place(&self, deadline: Instant) -> Result<Shot, Failure> {
        for _ in 1..ATTEMPTS {
            match self.unless_dialog(self.place_once(deadline)).await {
                Err(failure) if failure.is_stale_document() => {}
                result => return result,
            }
        }
        self.unless_dialog(self.place_once(deadline)).await
    }

    async fn place_once(&self, deadline: Instant) -> Result<Shot, Failure> {
        let world = self.main_world(deadline).await?;
        let (url, title): (String, String) =
            world.value(format!("(({{ url, title }}) => [url, title])({})", place()), deadline).await?;
        let mut state = self.state();
        let commits = state.commits;
        state.titled(commits, title.clone());
        Ok(Shot { url, title, text: String::new(), truncated: false })
    }

    /// The whole page is shown so now. Answers how it was shown before.
    pub fn shown(&self, text: &str) -> Shown {
        let mut state = self.state();
        let commits = state.commits;
        match state.shown.replace((commits, text.into())) {
            None => Shown::Never,
            Some((before, text)) if before == commits => Shown::As(text),
            Some(_) => Shown::Elsewhere,
        }
    }

    async fn snapshot_once(&self, options: &SnapshotOptions, deadline: Instant) -> Result<Shot, Failure> {
        let (world, target) = match &options.target {
            Some(target) => {
                let (world, target) = self.world_of(target, deadline).await?;
                (world, Some(target))
            }
            None => (self.main_world(deadline).await?, None),
        };
        let mut composer = Composer { page: self, options, deadline, bytes: MAX_BYTES, frames: MAX_FRAMES };
        let shot = composer.frame(&world, target).await?;
        let text = composer.fill(&world, shot.text, shot.frames, 0).await;
        let mut state = self.state();
        let (url, title) = if state.main_world().is_some_and(|main| main.context == world.context) {
            let commits = state.commits;
            state.titled(commits, shot.title.clone());
            (shot.url, shot.title)
        } else {
            // Part of a frame is shown: where the page is, its frame does not know.
            (state.document.url.clone(), state.document.title.clone())
        };
        Ok(Shot { url, title, text, truncated: shot.truncated })
    }
}

/// Puts the snapshots of a page's frames together, within bounds.
struct Composer<'a> {
    page: &'a Page,
    options: &'a SnapshotOptions,
    deadline: Instant,
    /// What is left of the bounds.
    bytes: usize,
    frames: usize,
}

impl Composer<'_> {
    /// The snapshot of one frame's document, without the frames in it.
    async fn frame(&mut self, world: &World, target: Option<String>) -> Result<FrameShot, Failure> {
        let number = self.page.state().document_number(&world.context);
        let document = number.ok_or_else(Failure::stale_document)?;
        let mut wanted = json!({
            "boxes": self.options.boxes,
            "interactive": self.options.interactive,
            "frame": prefix(document),
            "maxNodes": MAX_NODES,
            "maxBytes": self.bytes,
        });
        if let Some(target) = target {
            wanted["target"] = Value::String(target);
        }
        if let Some(depth) = self.options.depth {
            wanted["depth"] = depth.into();
        }
        let look = format!("({{ ...{}, ...{} }})", call("snapshot", &[wanted]), place());
        // A document that has just been loaded may still have to focus what asks for it.
        let main = self.page.state().main_world().is_some_and(|main| main.context == world.context);
        let expression = if main { format!("{}.then(() => {look})", call("arrived", &[])) } else { look };
        let shot: FrameShot = world.value(expression, self.deadline).await?;
        // An empty document has no refs and takes no number.
        if !shot.text.is_empty() {
            self.page.state().document_shown(&world.context);
        }
        self.bytes = self.bytes.saturating_sub(shot.text.len());
        self.frames = self.frames.saturating_sub(1);
        Ok(shot)
    }

    /// Puts the snapshots of child frames under their iframe lines. A frame that cannot be read stays a bare line.
    async fn fill(&mut self, world: &World, text: String, holes: Vec<Hole>, depth: usize) -> String {
        if holes.is_empty() || depth >= MAX_FRAME_DEPTH {
            return text;
        }
        let mut children = Vec::with_capacity(holes.len());
        for hole in holes {
            if self.frames == 0 || self.bytes == 0 {
                break;
            }
            match Box::pin(self.child(world, &hole, depth + 1)).await {
                Ok(child) if !child.is_empty() => children.push((hole.line, child)),
                Ok(_) => {}
                Err(failure) => tracing::debug!(%failure, "frame left out of the snapshot"),
            }
        }
        splice(&text, &children)
    }

    async fn child(&mut self, world: &World, hole: &Hole, depth: usize) -> Result<String, Failure> {
        let element = world.object(call("element", &[hole.r#ref.as_str().into()]), self.deadline).await?;
        let describe = DescribeNodeParams { object_id: element.object_id, ..DescribeNodeParams::default() };
        let node = world.session.call(describe, self.deadline).await?.node;
        let Some(frame) = node.frame_id.map(|id| id.inner().clone()) else { return Ok(String::new()) };
        let wait = self.deadline.min(Instant::now() + FRAME_WAIT);
        // A frame that reloads itself may replace its document in the middle.
        for _ in 0..ATTEMPTS {
            self.page.until(wait, |state| state.world_in(&frame).is_some()).await;
            let child = {
                let mut state = self.page.state();
                state.owned_by(&frame, &hole.r#ref);
                state.world_in(&frame).cloned()
            };
            let Some(child) = child else { break };
            match self.frame(&child, None).await {
                Err(failure) if failure.is_stale_document() => {}
                shot => {
                    let shot = shot?;
                    return Ok(self.fill(&child, shot.text, shot.frames, depth).await);
                }
            }
        }
        Ok(String::new())
    }
}

/// Where a document is and how it calls itself, in its own words.
fn place() -> String {
    format!("{{ url: location.href.slice(0, {MAX_URL}), title: String(document.title).slice(0, {MAX_TITLE}) }}")
}

/// Puts each child's text under its line, two spaces deeper; the line gets the colon of a parent.
fn splice(text: &str, children: &[(usize, String)]) -> String {
    let mut spliced = String::with_capacity(text.len() + children.iter().map(|(_, child)| child.len()).sum::<usize>());
    for (index, line) in text.lines().enumerate() {
        spliced.push_str(line);
        if let Some((_, child)) = children.iter().find(|(at, _)| *at == index) {
            spliced.push(':');
            let indent = line.len() - line.trim_start().len() + 2;
            for child_line in child.lines() {
                spliced.push('\n');
                spliced.extend(std::iter::repeat_n(' ', indent));
                spliced.push_str(child_line);
            }
        }
        spliced.push('\n');
    }
    spliced.truncate(spliced.trim_end().len());
    spliced
}

#[cfg(test)]
mod tests {
    use super::splice;

    #[test]
    fn a_child_frame_is_indented_under_its_line() {
        let text = "- generic [ref=e1]:\n  - iframe [ref=e2]\n  - text: after";
        let child = "- button \"Go\" [ref=f1e1]\n- text: x".to_owned();
        let expected = "- generic [ref=e1]:\n  - iframe [ref=e2]:\n    - button \"Go\" [ref=f1e1]\n    - text: x\n  \
                        - text: after";
        assert_eq!(splice(text, &[(1, child)]), expected);
    }
}
