//! The `p2pconnect` command.

fn main() -> std::process::ExitCode {
    p2pconnect_cli::main()
}
