//! The command under test.

/// Returns the file of the command `p2pconnect`, which Cargo builds for each suite and bench of
/// this package.
pub fn p2pconnect() -> String {
    let own = std::env::current_exe().unwrap();
    // Suites and benches are in a folder beside it.
    let program = own
        .parent()
        .unwrap()
        .with_file_name("p2pconnect-under-test");
    assert!(program.exists(), "{} is not there", program.display());
    program.into_os_string().into_string().unwrap()
}
