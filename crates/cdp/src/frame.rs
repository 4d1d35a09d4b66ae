//! Cutting the byte stream into NUL-terminated messages. Pure: no I/O.

use std::ffi::CStr;

use bytes::{Buf as _, BufMut, BytesMut};

use crate::skim::{Skim, Skimmed};

/// The largest message taken from the browser. A full-page screenshot is below 20 MiB; what is larger is a fault or an attack.
pub const FRAME_LIMIT: usize = 64 << 20;

/// How much room is made for one read. A pipe holds at most this much at once.
const READ_SIZE: usize = 1 << 20;

/// What the stream holds next.
#[derive(Debug)]
pub(crate) enum Frame {
    /// A message, without its terminator.
    Whole(BytesMut),
    /// A message larger than the limit: only its envelope is known.
    Skipped(Skimmed),
}

/// Collects bytes and gives whole messages back. Every byte is looked at once, however many reads a message takes.
#[derive(Debug)]
pub(crate) struct Splitter {
    buffer: BytesMut,
    /// How much of the buffer is known to hold no terminator.
    scanned: usize,
    limit: usize,
    /// What is known of the message being skipped. It is not buffered.
    skipping: Option<Skim>,
}

impl Splitter {
    pub(crate) fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), scanned: 0, limit, skipping: None }
    }

    /// Room for the next read, never more than what a message of the limit and its terminator needs.
    pub(crate) fn room(&mut self) -> impl BufMut + '_ {
        let room = READ_SIZE.min((self.limit + 1).saturating_sub(self.buffer.len()));
        self.buffer.reserve(room);
        (&mut self.buffer).limit(room)
    }

    /// The next message, if its end has come.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        // The standard library's only vectorised search for a zero byte is behind this name.
        let Ok(rest) = CStr::from_bytes_until_nul(&self.buffer[self.scanned..]) else {
            self.scanned = self.buffer.len();
            self.skip();
            return None;
        };
        let frame = self.buffer.split_to(self.scanned + rest.count_bytes());
        self.buffer.advance(1);
        self.scanned = 0;
        if frame.len() > READ_SIZE {
            // The remainder would otherwise keep the large allocation for the life of the connection.
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
        match self.skipping.take() {
            None => Some(Frame::Whole(frame)),
            Some(mut skim) => {
                skim.feed(&frame);
                Some(Frame::Skipped(skim.finish()))
            }
        }
    }

    /// Lets go of what is buffered of a message beyond the limit.
    fn skip(&mut self) {
        if self.skipping.is_none() && self.scanned > self.limit {
            self.skipping = Some(Skim::default());
        }
        if let Some(skim) = &mut self.skipping {
            skim.feed(&self.buffer);
            (self.buffer, self.scanned) = (BytesMut::new(), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small deterministic generator: the tests need variety, not randomness.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(self.0 >> 33).unwrap() % sides
        }
    }

    /// The frames, of skipped ones their size.
    fn feed(splitter: &mut Splitter, mut bytes: &[u8], chunk: usize) -> Vec<Result<Vec<u8>, usize>> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let mut room = splitter.room();
            let n = chunk.min(bytes.len()).min(room.remaining_mut());
            room.put_slice(&bytes[..n]);
            drop(room);
            bytes = &bytes[n..];
            while let Some(frame) = splitter.next() {
                frames.push(match frame {
                    Frame::Whole(frame) => Ok(frame.to_vec()),
                    Frame::Skipped(skimmed) => Err(skimmed.bytes),
                });
            }
        }
        frames
    }

    #[test]
    fn any_chunking_gives_the_same_frames() {
        let mut dice = Dice(7);
        for _ in 0..500 {
            let frames: Vec<Vec<u8>> = (0..dice.roll(12)).map(|_| vec![b'x'; dice.roll(70)]).collect();
            let stream: Vec<u8> = frames.iter().flat_map(|f| f.iter().copied().chain([0])).collect();
            let mut splitter = Splitter::new(100);
            let mut got = Vec::new();
            let mut rest = &stream[..];
            while !rest.is_empty() {
                let n = (1 + dice.roll(40)).min(rest.len());
                got.extend(feed(&mut splitter, &rest[..n], 1 + dice.roll(9)).into_iter().map(Result::unwrap));
                rest = &rest[n..];
            }
            assert_eq!(got, frames);
            assert_eq!(splitter.buffer.len(), 0);
        }
    }

    #[test]
    fn the_limit_is_exact_and_what_is_beyond_is_skipped_without_being_kept() {
        let fits = [vec![b'x'; 10], vec![0]].concat();
        assert_eq!(feed(&mut Splitter::new(10), &fits, 3), [Ok(vec![b'x'; 10])]);

        let stream = [&[b'x'; 11][..], &[0], &[b'y'; 1000], &[0], &fits].concat();
        for chunk in [1, 3, 5000] {
            let mut splitter = Splitter::new(10);
            assert_eq!(feed(&mut splitter, &stream, chunk), [Err(11), Err(1000), Ok(vec![b'x'; 10])]);
        }
        let mut splitter = Splitter::new(10);
        feed(&mut splitter, &[b'x'; 1000], 3);
        assert!(splitter.buffer.capacity() <= 22, "nothing is buffered beyond the limit");
    }

    #[test]
    fn every_byte_is_scanned_once() {
        let mut splitter = Splitter::new(1000);
        feed(&mut splitter, &[b'x'; 500], 100);
        assert_eq!(splitter.scanned, 500);
    }

    #[test]
    fn a_large_frame_leaves_no_large_buffer() {
        let mut splitter = Splitter::new(FRAME_LIMIT);
        let stream = [vec![b'x'; 8 << 20], vec![0, b'y']].concat();
        feed(&mut splitter, &stream, READ_SIZE);
        assert!(splitter.buffer.capacity() < READ_SIZE, "{}", splitter.buffer.capacity());
    }
}
