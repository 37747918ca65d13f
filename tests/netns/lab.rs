//! The labs of the namespace tests, for benches.

use std::process::ExitCode;

mod nat_pmp;
#[expect(dead_code, reason = "the namespace tests use more of it")]
pub(crate) mod net;
#[expect(dead_code, reason = "the namespace tests use more of it")]
mod process;
#[expect(dead_code, reason = "only the namespace tests have routers")]
mod router;
mod tayga;

/// Runs a bench inside namespaces of its own. It is given the number that the command line names, beside which
/// cargo adds `--bench`.
pub(crate) fn isolated(bench: impl FnOnce(Option<usize>)) -> Result<ExitCode, netns_lab::Error> {
    if let Some(code) = netns_lab::isolate()? {
        return Ok(code);
    }
    bench(std::env::args().find_map(|argument| argument.parse().ok()));
    Ok(ExitCode::SUCCESS)
}
