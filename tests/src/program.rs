//! The programs under test, which Cargo builds for each suite and bench of this package.

/// Returns the file of the command `p2pconnect`.
pub fn p2pconnect() -> String {
    under_test("p2pconnect")
}

/// Returns the file of the library's example `gossip`.
pub fn gossip() -> String {
    under_test("gossip")
}

fn under_test(name: &str) -> String {
    let own = std::env::current_exe().unwrap();
    // Suites and benches are in a folder beside it.
    let program = own
        .parent()
        .unwrap()
        .with_file_name(format!("{name}-under-test"));
    assert!(program.exists(), "{} is not there", program.display());
    program.into_os_string().into_string().unwrap()
}
