//! Running tests in namespaces of their own.

use std::{
    fmt::Debug,
    io::{self, PipeReader, Read as _},
    process::{Command, ExitStatus, Stdio},
    sync::{
        PoisonError, RwLock,
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use crate::{
    error::Error,
    isolation::{is_isolated, spawn_isolated},
};

/// Long enough for any test of a lab with timeouts of its own, short enough to notice a hang.
const DEFAULT_LIMIT: Duration = Duration::from_secs(120);

/// What the test prints first inside, so that a test that was never run there cannot pass.
const INSIDE: &str = "netns-lab: inside namespaces of its own, running";

/// Held for writing by a test that runs alone, and for reading by every other one.
static MACHINE: RwLock<()> = RwLock::new(());

/// Runs the body of a `#[test]` in namespaces of its own, where labs can be built.
///
/// The test program is run again inside new namespaces, for this test alone; its output is printed
/// here, and the test fails as it fails there, or when it takes longer than two minutes. Where the
/// system refuses namespaces the test fails and says what to do; it is never skipped.
///
/// ```no_run
/// // In a function with #[test]:
/// # use netns_lab::{HostSpec, Lab};
/// netns_lab::test(|| -> Result<(), netns_lab::Error> {
///     let lab = Lab::builder().host(HostSpec::new("a")).build()?;
///     lab.host("a").run(|| println!("on the host"))
/// });
/// ```
///
/// # Panics
///
/// Panics if the test fails.
pub fn test<T: Outcome>(body: impl FnOnce() -> T) {
    TestRun::new().run(body);
}

/// A test run with settings; see [`test()`].
#[derive(Debug, Clone, Copy)]
pub struct TestRun {
    limit: Duration,
    is_alone: bool,
}

impl TestRun {
    /// Returns a run with the default limit of two minutes.
    pub const fn new() -> Self {
        Self {
            limit: DEFAULT_LIMIT,
            is_alone: false,
        }
    }

    /// Sets how long the test may take.
    #[must_use]
    pub const fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Lets no other test of the same test program run beside this one.
    ///
    /// Labs wait for round trips most of the time, so that many of them can run side by side. One
    /// that keeps all processors busy by itself would starve beside others, and starve them. The
    /// limit counts from when the test begins.
    #[must_use]
    pub const fn alone(mut self) -> Self {
        self.is_alone = true;
        self
    }

    /// Runs the body inside namespaces, as [`test()`] does.
    ///
    /// # Panics
    ///
    /// Panics if the test fails.
    #[expect(
        clippy::print_stdout,
        reason = "a test's output is for the test runner to show"
    )]
    pub fn run<T: Outcome>(self, body: impl FnOnce() -> T) {
        let thread = std::thread::current();
        let name = thread.name().filter(|name| *name != "main");
        let name = name.expect("the test runner names the thread of a test after the test");
        if is_isolated() {
            println!("{INSIDE} {name}");
            body().check();
            return;
        }
        let (output, result) = if self.is_alone {
            let _alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
            self.run_inside(name)
        } else {
            let _beside_others = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
            self.run_inside(name)
        };
        let text = String::from_utf8_lossy(&output);
        print!("{text}");
        match result {
            Ok(status) if status.success() => assert!(
                text.contains(INSIDE),
                "{name} was not run inside namespaces: the test runner did not find it by its name"
            ),
            Ok(status) => panic!("{name} failed inside its namespaces ({status})"),
            Err(error) => panic!("{name}: {error}"),
        }
    }

    fn run_inside(self, name: &str) -> (Vec<u8>, Result<ExitStatus, Error>) {
        let mut output = Vec::new();
        let result = self.spawn_and_read(name, &mut output);
        (output, result)
    }

    fn spawn_and_read(self, name: &str, output: &mut Vec<u8>) -> Result<ExitStatus, Error> {
        let deadline = Instant::now() + self.limit;
        let system = |action: &str| {
            let action = action.to_owned();
            move |source| Error::System { action, source }
        };
        let (reader, writer) = io::pipe().map_err(system("make a pipe"))?;
        let mut command = Command::new("/proc/self/exe");
        command
            .args([name, "--exact", "--nocapture", "--test-threads=1"])
            .stdin(Stdio::null())
            .stdout(writer.try_clone().map_err(system("duplicate a pipe"))?)
            .stderr(writer);
        let mut child = spawn_isolated(&mut command)?;
        // Its copies of the pipe would keep the output from ending.
        drop(command);
        let in_time = read_until(deadline, reader, output);
        if !in_time {
            // Killing the guard kills everything inside.
            child.kill().map_err(system("kill the test"))?;
        }
        let status = child.wait().map_err(system("wait for the test"))?;
        if in_time {
            Ok(status)
        } else {
            Err(self.timed_out())
        }
    }

    fn timed_out(self) -> Error {
        Error::TimedOut {
            what: "the test".into(),
            limit: self.limit,
        }
    }
}

impl Default for TestRun {
    fn default() -> Self {
        Self::new()
    }
}

/// What a test may return.
pub trait Outcome {
    /// Panics if the test failed.
    fn check(self);
}

impl Outcome for () {
    fn check(self) {}
}

impl<E: Debug> Outcome for Result<(), E> {
    fn check(self) {
        if let Err(error) = self {
            panic!("the test returned an error: {error:?}");
        }
    }
}

/// Collects output until it ends, and returns whether that was before the deadline.
fn read_until(deadline: Instant, mut reader: PipeReader, output: &mut Vec<u8>) -> bool {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length) = reader.read(&mut buffer) {
            if length == 0 || sender.send(buffer[..length].to_vec()).is_err() {
                break;
            }
        }
    });
    loop {
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(chunk) => output.extend(chunk),
            Err(RecvTimeoutError::Disconnected) => return true,
            Err(RecvTimeoutError::Timeout) => return false,
        }
    }
}
