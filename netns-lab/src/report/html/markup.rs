//! A page, and texts of others made harmless for it.

use std::fmt;

use crate::report::text::{clean, push};

/// A page that only grows.
#[derive(Debug, Default)]
pub(super) struct Markup(String);

impl Markup {
    pub(super) fn add(&mut self, arguments: fmt::Arguments<'_>) {
        push(&mut self.0, arguments);
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }
}

/// Returns a text for HTML and SVG, for content and attributes alike.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in clean(text).chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            character => escaped.push(character),
        }
    }
    escaped
}
