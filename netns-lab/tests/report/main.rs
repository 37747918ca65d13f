//! The report of a matrix, as text, as a page, and in a browser.

mod ladder_text;
mod sample;
mod summary;
