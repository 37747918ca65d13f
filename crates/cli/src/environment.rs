//! Environment variables in the place of options. One that is empty counts as one that is not set.

use std::{env, ffi::OsString, path::PathBuf};

/// Returns a variable's text, without white space round it.
pub(crate) fn text(name: &str) -> Option<String> {
    let value = value(name)?.to_string_lossy().trim().to_owned();
    (!value.is_empty()).then_some(value)
}

/// Returns the path that a variable holds, without white space round it.
pub(crate) fn path(name: &str) -> Option<PathBuf> {
    trimmed(value(name)?)
}

/// Who sets a variable from a file may have the end of the line in it as well. A path that is no
/// text is taken as it is.
fn trimmed(value: OsString) -> Option<PathBuf> {
    let path = match value.to_str() {
        Some(text) => PathBuf::from(text.trim()),
        None => PathBuf::from(value),
    };
    (!path.as_os_str().is_empty()).then_some(path)
}

fn value(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_line_is_no_part_of_a_path() {
        for (value, path) in [
            ("/k.pem\r\n", Some("/k.pem")),
            (" /a key.pem ", Some("/a key.pem")),
            ("/k.pem", Some("/k.pem")),
            (" \r\n", None),
        ] {
            assert_eq!(trimmed(value.into()), path.map(PathBuf::from), "{value:?}");
        }
    }
}
