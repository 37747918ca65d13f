//! Programs on the hosts of a lab, and what they say.

use std::{
    io::{BufRead as _, BufReader, Read, Write as _},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running program whose output is read line by line as it comes.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Its input, until it is ended.
    pub stdin: Option<ChildStdin>,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Receiver<String>,
    /// Every line of stderr so far.
    pub heard: Vec<String>,
}

impl Process {
    /// Starts a program.
    pub fn spawn(mut command: Command) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut output = child.stdout.take().unwrap();
        let stdout = std::thread::spawn(move || {
            let mut all = Vec::new();
            output.read_to_end(&mut all).unwrap();
            all
        });
        let errors = BufReader::new(child.stderr.take().unwrap());
        let (lines, stderr) = channel();
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    break;
                }
            }
        });
        let stdin = child.stdin.take();
        Self {
            child,
            stdin,
            stdout: Some(stdout),
            stderr,
            heard: Vec::new(),
        }
    }

    /// Returns its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the program by SIGKILL, of which it hears nothing.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Writes to the program and ends its input.
    pub fn give(&mut self, bytes: &[u8]) {
        // A program that has ended already says more by its status than by this.
        drop(self.stdin.take().unwrap().write_all(bytes));
    }

    /// Waits for a status line with this event.
    pub fn wait_for(&mut self, event: &str) -> Value {
        self.hear_until(event, |line| parse(line, event))
    }

    /// Waits for a line of the log that has these words, unless it has come already.
    pub fn wait_for_log(&mut self, words: &str) {
        if self.heard.iter().all(|line| !line.contains(words)) {
            self.hear_until(words, |line| line.contains(words).then_some(()));
        }
    }

    /// Waits for a line in which something is found; `what` names it.
    pub fn hear_until<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self
                .stderr
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.hear(line);
                    let found = self.heard.last().and_then(|line| find(line));
                    if let Some(found) = found {
                        return found;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no {what} in time: {:#?}", self.heard),
                Err(RecvTimeoutError::Disconnected) => panic!("no {what}: {:#?}", self.heard),
            }
        }
    }

    /// Returns a status line with this event, which may have come already.
    pub fn has_said(&mut self, event: &str) -> Value {
        let said = self.heard.iter().find_map(|line| parse(line, event));
        said.unwrap_or_else(|| self.wait_for(event))
    }

    fn hear(&mut self, line: String) {
        // What the log calls an error is a defect even where the test looks at something else.
        assert!(!line.contains(" ERROR "), "{line}");
        self.heard.push(line);
    }

    /// Waits for the end of the program.
    pub fn finish(mut self) -> Finished {
        drop(self.stdin.take());
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            match self.stderr.recv_timeout(Duration::from_millis(20)) {
                Ok(line) => self.hear(line),
                Err(_) => assert!(
                    began.elapsed() < PATIENCE,
                    "still running: {:#?}",
                    self.heard
                ),
            }
        };
        while let Ok(line) = self.stderr.recv_timeout(PATIENCE) {
            self.hear(line);
        }
        let stdout = self.stdout.take().unwrap().join().unwrap();
        Finished {
            status,
            stdout,
            stderr: std::mem::take(&mut self.heard),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A program that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// All that it wrote to stdout.
    pub stdout: Vec<u8>,
    /// All lines that it wrote to stderr.
    pub stderr: Vec<String>,
}

impl Finished {
    /// Returns its exit status, or -1 if a signal has ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Returns the status object of an event, if the program reported it.
    pub fn event(&self, event: &str) -> Option<Value> {
        self.stderr.iter().find_map(|line| parse(line, event))
    }

    /// Returns the reason that the program gave for its failure.
    pub fn reason(&self) -> String {
        let failed = self.event("failed");
        let reason = failed.as_ref().and_then(|it| it["reason"].as_str());
        reason.unwrap_or_default().to_owned()
    }
}

/// Runs a program and asserts that it succeeds.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// Waits until a program says that it is ready, and reads on so that it can say more.
pub fn wait_for(ready: &str, output: impl Read + Send + 'static) {
    let mut lines = BufReader::new(output).lines();
    let line = lines.find(|line| line.as_ref().unwrap().contains(ready));
    assert!(line.is_some(), "the program has ended without {ready:?}");
    std::thread::spawn(move || lines.for_each(drop));
}

fn parse(line: &str, event: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(line).ok()?;
    (value["event"] == event).then_some(value)
}
