//! Pictures as a video: `WebM`, whose every frame is a key frame.
//!
//! A lossy `WebP` picture is a VP8 key frame in another container, and Chromium makes `WebP` pictures: so a video needs no encoder of ours,
//! only its own container. Libraries for that bring a second syn, or templates that are rendered while they are built; what is written
//! here is a dozen elements of EBML.

use tokio::time::Duration;

/// Time after which a cluster ends: a block says when it is in 16 bits of milliseconds.
const CLUSTER: Duration = Duration::from_secs(10);

/// One picture of a video.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// From the beginning.
    pub(super) at: Duration,
    /// A key frame of VP8.
    pub(super) vp8: Vec<u8>,
}

/// Where something begins that has a title.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chapter {
    pub(super) at: Duration,
    pub(super) title: String,
}

/// The VP8 key frame of a `WebP` picture, if it is a lossy one.
pub(super) fn vp8_of(webp: &[u8]) -> Option<&[u8]> {
    let mut rest = webp.strip_prefix(b"RIFF")?.get(4..)?.strip_prefix(b"WEBP")?;
    loop {
        let (kind, size) = (rest.get(..4)?, rest.get(4..8)?);
        let size = usize::try_from(u32::from_le_bytes(size.try_into().ok()?)).ok()?;
        let body = rest.get(8..)?;
        if kind == b"VP8 " {
            return body.get(..size).filter(|frame| size_of(frame).is_some());
        }
        // Chunks have even lengths.
        rest = body.get(size.checked_add(size % 2)?..)?;
    }
}

/// Width and height of a VP8 key frame, in pixels.
pub(super) fn size_of(vp8: &[u8]) -> Option<(u16, u16)> {
    let is_key_frame = vp8.first()? & 1 == 0;
    let [0x9d, 0x01, 0x2a, w0, w1, h0, h1] = *vp8.get(3..10)? else { return None };
    // The upper two bits say how a player may scale it.
    let side = |low, high| u16::from_le_bytes([low, high]) & 0x3fff;
    is_key_frame.then(|| (side(w0, w1), side(h0, h1)))
}

/// A video of these frames, the first of which has this size.
pub(super) fn written(frames: &[Frame], duration: Duration, size: (u16, u16), chapters: &[Chapter]) -> Vec<u8> {
    let clusters = clusters(frames);
    let head = [info(duration), tracks(size), chapter_list(chapters)].concat();
    // Its length does not depend on what it says.
    let cues_length = cues(&clusters, 0).len();
    let cues = cues(&clusters, head.len() + cues_length);
    let body: Vec<u8> =
        [head, cues].into_iter().chain(clusters.into_iter().map(|(_, cluster)| cluster)).collect::<Vec<_>>().concat();
    [ebml_head(), element(0x1853_8067, &body)].concat()
}

fn ebml_head() -> Vec<u8> {
    let members = [
        uint(0x4286, 1),
        uint(0x42f7, 1),
        uint(0x42f2, 4),
        uint(0x42f3, 8),
        text(0x4282, "webm"),
        uint(0x4287, 4),
        uint(0x4285, 2),
    ];
    element(0x1a45_dfa3, &members.concat())
}

fn info(duration: Duration) -> Vec<u8> {
    let milliseconds = duration.as_secs_f64() * 1000.0;
    let scale = uint(0x2a_d7b1, 1_000_000);
    let duration = element(0x4489, &milliseconds.to_be_bytes());
    element(0x1549_a966, &[scale, duration, text(0x4d80, "browserfleet"), text(0x5741, "browserfleet")].concat())
}

/// One track, of VP8.
fn tracks((width, height): (u16, u16)) -> Vec<u8> {
    let video = [uint(0xb0, u64::from(width)), uint(0xba, u64::from(height))].concat();
    let entry =
        [uint(0xd7, 1), uint(0x73c5, 1), uint(0x83, 1), uint(0x9c, 0), text(0x86, "V_VP8"), element(0xe0, &video)];
    element(0x1654_ae6b, &element(0xae, &entry.concat()))
}

fn chapter_list(chapters: &[Chapter]) -> Vec<u8> {
    if chapters.is_empty() {
        return Vec::new();
    }
    let atoms = chapters.iter().zip(1..).flat_map(|(chapter, number)| {
        let start = u64::try_from(chapter.at.as_nanos()).unwrap_or(u64::MAX);
        let display = element(0x80, &[text(0x85, &chapter.title), text(0x437c, "und")].concat());
        element(0xb6, &[uint(0x73c4, number), uint(0x91, start), display].concat())
    });
    element(0x1043_a770, &element(0x45b9, &atoms.collect::<Vec<_>>()))
}

/// The frames in clusters, with the time of each.
fn clusters(frames: &[Frame]) -> Vec<(u64, Vec<u8>)> {
    let mut clusters = Vec::new();
    let mut rest = frames;
    while let Some(first) = rest.first() {
        let count = rest.iter().take_while(|frame| frame.at.saturating_sub(first.at) < CLUSTER).count().max(1);
        let (these, later) = rest.split_at(count);
        let start = milliseconds(first.at);
        let mut body = uint(0xe7, start);
        for frame in these {
            let after = i16::try_from(milliseconds(frame.at).saturating_sub(start)).unwrap_or(i16::MAX);
            // The track, when, and that it is a key frame.
            let head = [&[0x81][..], &after.to_be_bytes(), &[0x80]].concat();
            body.extend(element(0xa3, &[&head[..], &frame.vp8].concat()));
        }
        clusters.push((start, element(0x1f43_b675, &body)));
        rest = later;
    }
    clusters
}

/// Where each cluster is, counted from the beginning of the segment's members; the first at `first`.
fn cues(clusters: &[(u64, Vec<u8>)], first: usize) -> Vec<u8> {
    let mut at = first;
    let points = clusters.iter().flat_map(|(time, cluster)| {
        let place = element(0xb7, &[uint(0xf7, 1), uint(0xf1, at as u64)].concat());
        at += cluster.len();
        element(0xbb, &[uint(0xb3, *time), place].concat())
    });
    element(0x1c53_bb6b, &points.collect::<Vec<_>>())
}

fn milliseconds(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}

fn uint(id: u32, value: u64) -> Vec<u8> {
    element(id, &value.to_be_bytes())
}

fn text(id: u32, text: &str) -> Vec<u8> {
    element(id, text.as_bytes())
}

/// An element: its id, its length in eight bytes, and what is in it.
fn element(id: u32, body: &[u8]) -> Vec<u8> {
    let id: Vec<u8> = id.to_be_bytes().into_iter().skip_while(|&byte| byte == 0).collect();
    let mut length = (body.len() as u64).to_be_bytes();
    length[0] = 0x01;
    [&id[..], &length, body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key frame of these sides, as far as its head goes.
    fn key_frame(width: u16, height: u16) -> Vec<u8> {
        let ([w0, w1], [h0, h1]) = (width.to_le_bytes(), height.to_le_bytes());
        vec![0x10, 0, 0, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, 7, 7, 7]
    }

    fn chunk(kind: &str, body: &[u8]) -> Vec<u8> {
        let padding = vec![0; body.len() % 2];
        [kind.as_bytes(), &u32::try_from(body.len()).unwrap().to_le_bytes(), body, &padding].concat()
    }

    #[test]
    fn the_frame_of_a_picture_is_found_whatever_is_around_it() {
        let frame = key_frame(1280, 720);
        for chunks in
            [chunk("VP8 ", &frame), [chunk("VP8X", &[0; 10]), chunk("ICCP", &[1; 5]), chunk("VP8 ", &frame)].concat()]
        {
            let webp = [&b"RIFF\0\0\0\0WEBP"[..], &chunks].concat();
            assert_eq!(vp8_of(&webp), Some(&frame[..]));
            for end in 0..webp.len() - 1 {
                assert!(vp8_of(&webp[..end]).is_none(), "cut at {end}");
            }
        }
        assert_eq!(size_of(&frame), Some((1280, 720)));
        let lossless = [&b"RIFF\0\0\0\0WEBP"[..], &chunk("VP8L", &frame)].concat();
        assert!(vp8_of(&lossless).is_none() && vp8_of(b"\x89PNG").is_none());
    }

    #[test]
    fn clusters_are_where_the_cues_say() {
        let frame = |at| Frame { at: Duration::from_millis(at), vp8: key_frame(64, 48) };
        let frames: Vec<_> = [0, 400, 9_999, 10_000, 31_000].map(frame).to_vec();
        let chapters = [Chapter { at: Duration::from_secs(1), title: "One".to_owned() }];
        let webm = written(&frames, Duration::from_secs(32), (64, 48), &chapters);
        let segment = webm.windows(4).position(|id| id == [0x18, 0x53, 0x80, 0x67]).unwrap() + 12;
        let cluster = [0x1f, 0x43, 0xb6, 0x75];
        let there: Vec<_> =
            (segment..webm.len() - 3).filter(|&at| webm[at..at + 4] == cluster).map(|at| at - segment).collect();
        let position = [0xf1, 0x01, 0, 0, 0, 0, 0, 0, 8];
        let said = webm.windows(17).filter(|window| window[..9] == position);
        let said: Vec<_> =
            said.map(|window| usize::try_from(u64::from_be_bytes(window[9..].try_into().unwrap())).unwrap()).collect();
        assert_eq!((there.len(), &there), (3, &said));
        assert_eq!(webm.windows(3).filter(|tag| *tag == b"One").count(), 1);
    }
}
