//! The command `p2pconnect`, built beside the suites that run it.

fn main() -> std::process::ExitCode {
    p2pconnect_cli::main()
}
