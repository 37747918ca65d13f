//! The report of a matrix, as text, as a page, and in a browser.
#![cfg(feature = "html")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod browser;
mod from_log;
mod ladder_text;
mod page;
mod sample;
mod summary;
mod world;
