//! Writing to the terminal, or to whoever reads instead.

use std::io::{self, Write as _};

use anyhow::{Error, Result};

/// Where no terminal says how wide it is.
const USUAL_WIDTH: usize = 120;

/// Writes text to the standard output.
pub(crate) fn say(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// Writes a line to the standard error, for people; nothing is lost with it.
pub(crate) fn complain(text: &str) {
    let mut out = io::stderr().lock();
    // There is nobody else to tell.
    let _written = writeln!(out, "netns-lab: {text}");
}

/// Writes a line to the standard error, as it is.
pub(crate) fn note(text: &str) {
    let mut out = io::stderr().lock();
    // There is nobody else to tell.
    let _written = writeln!(out, "{text}");
}

/// Returns whether an error says that nobody reads our output any more.
pub(crate) fn is_closed(error: &Error) -> bool {
    let is_pipe = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.downcast_ref::<io::Error>().is_some_and(is_pipe)
}

/// Returns how many characters fit on a line: those of the terminal, or as many as text in a file
/// usually has.
pub(crate) fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stdout());
    let columns = size.map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { USUAL_WIDTH } else { columns }
}
