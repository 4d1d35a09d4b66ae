//! What is seen in the current tab, whichever that is, as a video: pictures while something changes, and none that are the same.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use browserfleet_common::{error_code::ErrorCode, lifecycle::Tasks};
use tokio::{
    sync::{oneshot, watch},
    time::{Duration, Instant, sleep, timeout_at},
};

use super::webm::{self, Chapter, Frame};
use crate::{failure::Failure, workspace::Workspace};

/// Most time of a video, frames, and bytes of them. Then it waits to be taken.
const TIME_MAX: Duration = Duration::from_mins(5);
const FRAMES_MAX: usize = 1500;
const BYTES_MAX: usize = 7 << 20;
/// Most chapters of a video, and characters of a title.
const CHAPTERS_MAX: usize = 100;
/// Most frames per second that are taken, and where nobody says.
const FPS_MAX: f64 = 10.0;
pub const FPS: f64 = 5.0;
/// Of frames, of 100: text can be read.
const QUALITY: u8 = 40;
/// How often it is looked whether a page changes by itself that has not changed just now.
const IDLE: Duration = Duration::from_secs(1);
/// Most time for one picture.
const PICTURE: Duration = Duration::from_secs(2);

/// A video that is being recorded. Dropping it gives it up.
#[derive(Debug)]
pub struct Video {
    /// What it is called.
    pub name: Option<String>,
    stop: oneshot::Sender<()>,
    made: oneshot::Receiver<Option<Film>>,
    began: Instant,
    chapters: Arc<Mutex<Vec<Chapter>>>,
}

/// A video that was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Film {
    pub webm: Vec<u8>,
    pub duration: Duration,
    pub frames: usize,
    /// Of the first frame, in pixels.
    pub size: (u16, u16),
    /// Whether its end is missing.
    pub cut: bool,
}

impl Video {
    /// Begins to record, with so many frames per second at most.
    pub fn start(workspace: &Arc<Workspace>, tasks: &Tasks, name: Option<String>, fps: f64) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (finished, made) = oneshot::channel();
        let (began, chapters) = (Instant::now(), Arc::default());
        let camera = Camera {
            workspace: Arc::downgrade(workspace),
            calls: workspace.activity(),
            pause: Duration::from_secs_f64(1.0 / fps.clamp(1.0, FPS_MAX)),
            began,
            reel: Reel::default(),
        };
        let titles = Arc::clone(&chapters);
        tasks.spawn("recorders.video", async move {
            let film = camera.run(stopped).await.and_then(|(reel, duration)| reel.developed(duration, &titles));
            // Whoever wanted it may have given up.
            let _unwanted = finished.send(film);
        });
        Self { name, stop, made, began, chapters }
    }

    /// A chapter begins. Those beyond a limit are not noted.
    pub fn chapter(&self, title: &str) {
        let mut chapters = self.chapters.lock().unwrap_or_else(PoisonError::into_inner);
        if chapters.len() < CHAPTERS_MAX {
            chapters.push(Chapter { at: self.began.elapsed(), title: title.to_owned() });
        }
    }

    /// Ends the video and answers it; none if there was no page to be seen.
    ///
    /// # Errors
    /// When it is not ready in time: then it is lost.
    pub async fn stop(self, deadline: Instant) -> Result<Option<Film>, Failure> {
        // One that has come to its end waits already.
        let _ended_by_itself = self.stop.send(());
        match timeout_at(deadline, self.made).await {
            Ok(Ok(film)) => Ok(film),
            Ok(Err(_)) | Err(_) => Err(Failure::new(
                ErrorCode::CallTimeout,
                "the video was not ready in time: it is lost. Record a shorter one",
            )),
        }
    }
}

/// What takes the pictures.
#[derive(Debug)]
struct Camera {
    /// Not held: a lease that ends ends its video.
    workspace: Weak<Workspace>,
    /// How many calls run or wait.
    calls: watch::Receiver<usize>,
    pause: Duration,
    began: Instant,
    reel: Reel,
}

impl Camera {
    /// Takes pictures until it is stopped. Nothing if nobody wants the video any more.
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) -> Option<(Reel, Duration)> {
        loop {
            let next = Instant::now() + self.pause;
            let changed = self.shoot().await?;
            if self.reel.is_full() || self.began.elapsed() >= TIME_MAX {
                self.reel.cut = true;
                let duration = self.began.elapsed();
                return stopped.await.ok().map(|()| (self.reel, duration));
            }
            let pause = async {
                if !changed && *self.calls.borrow_and_update() == 0 {
                    // A page may change by itself; a call that comes is seen at once.
                    let _lease_over = tokio::time::timeout(IDLE, self.calls.changed()).await;
                }
                tokio::time::sleep_until(next).await;
            };
            tokio::select! {
                asked = &mut stopped => {
                    asked.ok()?;
                    self.shoot().await?;
                    let duration = self.began.elapsed();
                    return Some((self.reel, duration));
                }
                () = pause => {}
            }
        }
    }

    /// Takes a picture; whether it is another one than the last. Nothing once the lease has ended.
    async fn shoot(&mut self) -> Option<bool> {
        let page = self.workspace.upgrade()?.page();
        if page.is_ended() {
            return None;
        }
        // Behind a dialog a page stands still.
        if page.dialog().is_some() || page.is_crashed() {
            return Some(false);
        }
        let at = self.began.elapsed();
        match page.frame(QUALITY, Instant::now() + PICTURE).await {
            Ok(webp) => Some(webm::vp8_of(&webp).is_some_and(|vp8| self.reel.add(at, vp8))),
            Err(failure) => {
                tracing::debug!(%failure, "a frame of a video is missing");
                sleep(self.pause).await;
                Some(false)
            }
        }
    }
}

/// The pictures so far.
#[derive(Debug, Default)]
struct Reel {
    frames: Vec<Frame>,
    bytes: usize,
    cut: bool,
}

impl Reel {
    /// Adds a picture, unless it is the last one again.
    fn add(&mut self, at: Duration, vp8: &[u8]) -> bool {
        if self.frames.last().is_some_and(|last| last.vp8 == vp8) {
            return false;
        }
        self.bytes += vp8.len();
        self.frames.push(Frame { at, vp8: vp8.to_vec() });
        true
    }

    fn is_full(&self) -> bool {
        self.frames.len() >= FRAMES_MAX || self.bytes >= BYTES_MAX
    }

    /// The video, if there is a picture. Players go to its end: there the last picture is again.
    fn developed(mut self, duration: Duration, chapters: &Mutex<Vec<Chapter>>) -> Option<Film> {
        let size = webm::size_of(&self.frames.first()?.vp8)?;
        let count = self.frames.len();
        let last = self.frames.last()?;
        let end = Frame { at: duration.max(last.at + Duration::from_millis(1)), ..last.clone() };
        self.frames.push(end);
        let chapters = chapters.lock().unwrap_or_else(PoisonError::into_inner);
        let webm = webm::written(&self.frames, duration, size, &chapters);
        Some(Film { webm, duration, frames: count, size, cut: self.cut })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_that_are_the_same_are_one_and_a_reel_ends() {
        let mut reel = Reel::default();
        let at = Duration::from_millis;
        assert!(
            reel.add(at(0), b"a") && !reel.add(at(200), b"a") && reel.add(at(400), b"b") && reel.add(at(600), b"a")
        );
        assert_eq!((reel.frames.len(), reel.bytes, reel.is_full()), (3, 3, false));
        reel.add(at(800), &vec![0; BYTES_MAX]);
        assert!(reel.is_full());
        assert!(Reel::default().developed(at(1), &Mutex::default()).is_none(), "nothing was seen");
    }
}
