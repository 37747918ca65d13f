//! Environment variables in the place of options. One that is empty counts as one that is not set.

use std::{env, ffi::OsString, path::PathBuf};

/// Returns a variable's text, without white space round it.
pub(crate) fn text(name: &str) -> Option<String> {
    let value = value(name)?.to_string_lossy().trim().to_owned();
    (!value.is_empty()).then_some(value)
}

/// Returns the path that a variable holds.
pub(crate) fn path(name: &str) -> Option<PathBuf> {
    value(name).map(PathBuf::from)
}

fn value(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}
