//! What a browser may write, whatever it is: for fuzzing (`fuzz/`), and for its corpus among the tests.

use bytes::BufMut as _;
use serde_json::Value;

use crate::{
    frame::{Frame, Splitter},
    skim::Skim,
    wire,
};

/// Small, so that a few bytes are too large a message.
const LIMIT: usize = 64;

/// Cuts bytes into messages and reads them. The first byte says in which pieces they come.
///
/// # Panics
/// When pieces matter, when a message is not what was between two zero bytes, or when a message that is skipped would not
/// be known by its id.
pub fn frames(data: &[u8]) {
    let Some((&pace, stream)) = data.split_first() else { return };
    let mut messages: Vec<&[u8]> = stream.split(|byte| *byte == 0).collect();
    // What follows the last zero byte is no message yet.
    messages.pop();
    for pace in [usize::from(pace % 97) + 1, stream.len() + 1] {
        let cut = cut(stream, pace);
        assert_eq!(cut.len(), messages.len());
        for (frame, message) in cut.iter().zip(&messages) {
            match frame {
                Frame::Whole(bytes) => assert!(bytes == message && message.len() <= LIMIT),
                Frame::Skipped(skimmed) => assert!(skimmed.bytes == message.len() && message.len() > LIMIT),
            }
        }
    }
    messages.into_iter().for_each(read);
}

fn cut(mut stream: &[u8], pace: usize) -> Vec<Frame> {
    let (mut splitter, mut frames) = (Splitter::new(LIMIT), Vec::new());
    while !stream.is_empty() {
        let mut room = splitter.room();
        let (now, later) = stream.split_at(pace.min(stream.len()).min(room.remaining_mut()));
        room.put_slice(now);
        drop(room);
        stream = later;
        while let Some(frame) = splitter.next() {
            frames.push(frame);
        }
    }
    frames
}

fn read(message: &[u8]) {
    let mut skim = Skim::default();
    skim.feed(message);
    let skimmed = skim.finish();
    let Ok(envelope) = wire::parse(message) else { return };
    // Browsers write objects, without escapes in their own keys.
    if message.trim_ascii_start().starts_with(b"{") && !message.contains(&b'\\') {
        assert_eq!(skimmed.id, envelope.id, "{}", String::from_utf8_lossy(message));
    }
    for raw in [envelope.params, envelope.result].into_iter().flatten() {
        let _whatever = wire::decode::<Value>(raw);
    }
}
