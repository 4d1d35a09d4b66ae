//! Cutting the byte stream into NUL-terminated messages. Pure: no I/O.

use std::ffi::CStr;

use bytes::{Buf as _, BufMut, BytesMut};

/// The largest message taken from the browser. A full-page screenshot is below 20 MiB; what is larger is a fault or an attack.
pub const FRAME_LIMIT: usize = 64 << 20;

/// How much room is made for one read. A pipe holds at most this much at once.
const READ_SIZE: usize = 1 << 20;

/// A message is larger than the limit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLarge {
    pub(crate) limit: usize,
}

/// Collects bytes and gives whole messages back. Every byte is looked at once, however many reads a message takes.
#[derive(Debug)]
pub(crate) struct Splitter {
    buffer: BytesMut,
    /// How much of the buffer is known to hold no terminator.
    scanned: usize,
    limit: usize,
}

impl Splitter {
    pub(crate) fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), scanned: 0, limit }
    }

    /// Room for the next read, never more than what a message of the limit and its terminator needs.
    pub(crate) fn room(&mut self) -> impl BufMut + '_ {
        let room = READ_SIZE.min((self.limit + 1).saturating_sub(self.buffer.len()));
        self.buffer.reserve(room);
        (&mut self.buffer).limit(room)
    }

    /// The next whole message, without its terminator.
    pub(crate) fn next(&mut self) -> Result<Option<BytesMut>, TooLarge> {
        // The standard library's only vectorised search for a zero byte is behind this name.
        let Ok(rest) = CStr::from_bytes_until_nul(&self.buffer[self.scanned..]) else {
            self.scanned = self.buffer.len();
            return if self.scanned > self.limit { Err(TooLarge { limit: self.limit }) } else { Ok(None) };
        };
        let frame = self.buffer.split_to(self.scanned + rest.count_bytes());
        self.buffer.advance(1);
        self.scanned = 0;
        if frame.len() > READ_SIZE {
            // The remainder would otherwise keep the large allocation for the life of the connection.
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
        if frame.len() > self.limit { Err(TooLarge { limit: self.limit }) } else { Ok(Some(frame)) }
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

    fn feed(splitter: &mut Splitter, mut bytes: &[u8], chunk: usize) -> Result<Vec<Vec<u8>>, TooLarge> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let mut room = splitter.room();
            let n = chunk.min(bytes.len()).min(room.remaining_mut());
            room.put_slice(&bytes[..n]);
            drop(room);
            bytes = &bytes[n..];
            while let Some(frame) = splitter.next()? {
                frames.push(frame.to_vec());
            }
        }
        Ok(frames)
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
                got.extend(feed(&mut splitter, &rest[..n], 1 + dice.roll(9)).unwrap());
                rest = &rest[n..];
            }
            assert_eq!(got, frames);
            assert_eq!(splitter.buffer.len(), 0);
        }
    }

    #[test]
    fn the_limit_is_exact_and_holds_while_a_frame_grows() {
        let fits = [vec![b'x'; 10], vec![0]].concat();
        assert_eq!(feed(&mut Splitter::new(10), &fits, 3).unwrap(), [vec![b'x'; 10]]);

        let endless = vec![b'x'; 1000];
        let mut splitter = Splitter::new(10);
        assert_eq!(feed(&mut splitter, &endless, 3), Err(TooLarge { limit: 10 }));
        assert!(splitter.buffer.len() <= 11, "nothing is buffered beyond the limit");
    }

    #[test]
    fn every_byte_is_scanned_once() {
        let mut splitter = Splitter::new(1000);
        feed(&mut splitter, &[b'x'; 500], 100).unwrap();
        assert_eq!(splitter.scanned, 500);
    }

    #[test]
    fn a_large_frame_leaves_no_large_buffer() {
        let mut splitter = Splitter::new(FRAME_LIMIT);
        let stream = [vec![b'x'; 8 << 20], vec![0, b'y']].concat();
        feed(&mut splitter, &stream, READ_SIZE).unwrap();
        assert!(splitter.buffer.capacity() < READ_SIZE, "{}", splitter.buffer.capacity());
    }
}
