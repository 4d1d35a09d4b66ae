//! Asking a page for what its lost events would have told.

use std::sync::Arc;

use browserfleet_cdp::{
    Error, Session,
    browser_protocol::page::{GetFrameTreeParams, SetLifecycleEventsEnabledParams},
    js_protocol::runtime,
};
use browserfleet_common::lifecycle::Tasks;
use tokio::time::{Duration, Instant};

use super::{Inner, open, wire};

/// Most time for all of it: the next call finds out what a page is like that does not answer.
const TIME: Duration = Duration::from_secs(5);

/// Starts it; the pump goes on meanwhile, because the answers come with events.
pub(super) fn start(page: &Arc<Inner>, session: &Session, tasks: &Tasks) {
    let (page, session) = (Arc::clone(page), session.clone());
    page.change(super::state::PageState::lagged);
    tasks.spawn("page.resync", async move {
        if let Err(error) = resync(&page, &session, Instant::now() + TIME).await {
            tracing::debug!(%error, "a page that sent too many events does not say how it is");
        }
    });
}

/// Learns what events told that were lost, or sent before anybody listened.
pub(super) async fn resync(page: &Inner, session: &Session, deadline: Instant) -> Result<(), Error> {
    // Its events are sent anew: every world there is, and how far each document is. The old worlds go first.
    session.call(runtime::DisableParams::default(), deadline).await?;
    page.change(|state| state.worlds_cleared(session.id()));
    let tree = session.call_raw(GetFrameTreeParams::IDENTIFIER, &serde_json::json!({}), deadline).await?;
    if let Ok(wire::FrameTree { frame_tree }) = browserfleet_cdp::decode(&tree) {
        let main = session.id() == page.session.id();
        page.change(|state| {
            let mut present = Vec::new();
            visit(frame_tree, &mut |frame: wire::FrameInfo| {
                present.push(frame.id.clone());
                if main || frame.parent_id.is_some() {
                    state.navigated(&frame.id, frame.parent_id, frame.url + &frame.url_fragment, frame.loader_id);
                }
            });
            if main {
                state.only_frames(&present, session.id());
                // It has answered: no dialog stops it.
                state.dialog_closed(Instant::now());
            }
        });
    }
    // Only now: a document that came unheard has just put away the frames of the one before, and their worlds with them.
    tokio::try_join!(
        session.call(runtime::EnableParams::default(), deadline),
        session.call(SetLifecycleEventsEnabledParams::new(false), deadline),
        session.call(open::auto_attach(), deadline),
    )?;
    session.call(SetLifecycleEventsEnabledParams::new(true), deadline).await?;
    Ok(())
}

fn visit(branch: wire::FrameBranch, each: &mut impl FnMut(wire::FrameInfo)) {
    each(branch.frame);
    for child in branch.child_frames {
        visit(child, each);
    }
}
