//! What end-to-end tests are made of: pages to visit, a daemon to call, processes to count.
//!
//! Chromium is real. A machine without it fails these tests with a message saying how to install it; nothing is skipped.

mod acting;
pub mod browsers;
pub mod daemon;
pub mod hostile;
pub mod pages;
pub mod processes;
mod talking;
