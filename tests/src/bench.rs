//! Benches in labs.

use std::process::ExitCode;

/// Runs a bench inside namespaces of its own. It is given the number that the command line names,
/// beside which cargo adds `--bench`.
///
/// # Errors
///
/// The system refuses namespaces.
pub fn isolated(bench: impl FnOnce(Option<usize>)) -> Result<ExitCode, netns_lab::Error> {
    if let Some(code) = netns_lab::isolate()? {
        return Ok(code);
    }
    bench(std::env::args().find_map(|argument| argument.parse().ok()));
    Ok(ExitCode::SUCCESS)
}
