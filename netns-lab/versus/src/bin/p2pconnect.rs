//! The command `p2pconnect`, built beside the others.

fn main() -> std::process::ExitCode {
    p2pconnect_cli::main()
}
