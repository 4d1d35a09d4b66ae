//! What end-to-end tests are made of: pages to visit, a daemon to call, processes to count.
//!
//! Chromium is real. A machine without it fails these tests with a message saying how to install it; nothing is skipped.

mod acting;
pub mod browsers;
pub mod checkpoints;
pub mod daemon;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod hostile;
mod isolation;
mod keeping;
pub mod packets;
pub mod pages;
pub mod places;
pub mod processes;
mod reading;
mod talking;

#[expect(clippy::disallowed_methods, reason = "a test's server ends with the test; nobody counts its tasks")]
pub(crate) fn spawn<F>(future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future)
}
