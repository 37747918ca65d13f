//! The test harness itself fails when it should.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{
    panic::catch_unwind,
    time::{Duration, Instant},
};

use netns_lab::TestRun;

/// Runs a body that must not pass, and returns what the harness says about it.
///
/// Inside, the body never returns, so only the outer process gets here.
fn complaint(run: TestRun, body: fn()) -> String {
    let panic = catch_unwind(|| run.run(body)).unwrap_err();
    panic.downcast_ref::<String>().unwrap().clone()
}

#[test]
fn a_test_that_hangs_is_killed() {
    let start = Instant::now();
    let limit = Duration::from_millis(500);
    let complaint = complaint(TestRun::new().limit(limit), || {
        loop {
            std::thread::park();
        }
    });
    assert!(
        complaint.contains("did not end within 500ms"),
        "{complaint}"
    );
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_test_that_fails_inside_fails_outside() {
    let complaint = complaint(TestRun::new(), || std::process::exit(3));
    assert!(complaint.contains("exit status: 3"), "{complaint}");
}

#[test]
#[expect(
    clippy::zombie_processes,
    reason = "what becomes of a forgotten program is the question"
)]
fn a_program_that_outlives_its_test_is_killed_with_it() {
    let start = Instant::now();
    netns_lab::test(|| {
        // The test runner inside ends, and this would keep its output open.
        std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
    });
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn the_test_is_not_run_under_another_name() {
    let misnamed = std::thread::Builder::new().name("no_such_test".into());
    let thread = misnamed.spawn(|| netns_lab::test(|| ())).unwrap();
    let panic = thread.join().unwrap_err();
    let complaint = panic.downcast_ref::<String>().unwrap();
    assert!(
        complaint.contains("was not run inside namespaces"),
        "{complaint}"
    );
}
