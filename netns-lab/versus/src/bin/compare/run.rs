//! The processes of one attempt.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use netns_lab::Lab;

use crate::projects::Project;

/// The server's port; every attempt has a network of its own.
const PORT: u16 = 4001;

/// How long a server or listener may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(20);

/// How long a dialler may take beyond its limit: it tries the stream, and dials that
/// failed must still say so.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a dialler measured, by name; or why there is no stream.
pub(crate) type Outcome = Result<BTreeMap<String, f64>, String>;

/// Where an attempt takes place.
pub(crate) trait Ground {
    /// Returns a command that runs on the host of a role.
    fn command(&self, host: Host, program: &Path) -> Command;
    /// Returns where the server is to listen.
    fn server(&self) -> SocketAddr;
}

/// A host of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    Server,
    Listener,
    Dialler,
}

/// A lab with hosts of these names.
pub(crate) struct InLab<'a>(pub(crate) &'a Lab);

impl Ground for InLab<'_> {
    fn command(&self, host: Host, program: &Path) -> Command {
        let name = match host {
            Host::Server => "server",
            Host::Listener => "listener",
            Host::Dialler => "dialler",
        };
        self.0.host(name).command(program)
    }

    fn server(&self) -> SocketAddr {
        (self.0.host("server").ipv4(), PORT).into()
    }
}

/// Returns the server's port on a ground that has its address only.
pub(crate) const fn port() -> u16 {
    PORT
}

/// Runs server, listener and dialler of a project once.
///
/// # Errors
///
/// What keeps the attempt from being one: a program that is missing, a listener that does not come
/// up. That the dial failed is an outcome.
pub(crate) fn run(
    ground: &dyn Ground,
    project: &Project,
    bulk: u32,
    keys: &Path,
) -> Result<Outcome> {
    let start = |host, arguments: &[&str]| Program::start(ground, project, host, keys, arguments);
    let server = start(Host::Server, &["serve", &ground.server().to_string()])?;
    let address = server.ready()?;
    let listener = start(Host::Listener, &["listen", &address])?;
    let peer = listener.ready()?;
    let bulk = bulk.to_string();
    let dialler = start(
        Host::Dialler,
        &["dial", &address, &peer, project.limit, &bulk],
    )?;
    let limit = Duration::from_secs(project.limit.parse()?) + PATIENCE;
    let said = dialler.line(limit)?;
    if let Some(reason) = said.strip_prefix("failed ") {
        return Ok(Err(reason.into()));
    }
    let values = said
        .strip_prefix("direct ")
        .with_context(|| format!("the dialler of {} said {said:?}", project.name))?;
    let value = |word: &str| {
        let (name, value) = word.split_once('=')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    let values = values.split_whitespace().map(value).collect::<Option<_>>();
    Ok(Ok(
        values.with_context(|| format!("no numbers in {said:?}"))?
    ))
}

/// A running program, which ends with this value.
struct Program {
    child: Child,
    lines: mpsc::Receiver<String>,
    name: String,
}

impl Program {
    fn start(
        ground: &dyn Ground,
        project: &Project,
        host: Host,
        keys: &Path,
        arguments: &[&str],
    ) -> Result<Self> {
        let path = std::env::current_exe()?.with_file_name(project.program);
        let mut command = ground.command(host, &path);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command.env("XDG_CONFIG_HOME", keys);
        if std::env::var_os("RUST_LOG").is_none() {
            // Some say a lot about dials that fail, which is expected here.
            command.stderr(Stdio::null());
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot run {}", path.display()))?;
        let mut output = BufReader::new(child.stdout.take().context("stdout is piped")?);
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            while matches!(output.read_line(&mut line), Ok(1..)) {
                sender.send(line.trim().to_owned()).ok();
                line.clear();
            }
        });
        let name = format!("the {host:?} of {}", project.name).to_lowercase();
        Ok(Self { child, lines, name })
    }

    /// Returns what the program is found by.
    fn ready(&self) -> Result<String> {
        let line = self.line(READY_LIMIT)?;
        // The command `p2pconnect serve` has its own word.
        let name = ["ready ", "coordinator: "];
        match name.iter().find_map(|word| line.strip_prefix(word)) {
            Some(name) => Ok(name.into()),
            None => bail!("{} said {line:?}", self.name),
        }
    }

    fn line(&self, limit: Duration) -> Result<String> {
        let line = self.lines.recv_timeout(limit);
        line.with_context(|| format!("{} said nothing; RUST_LOG may tell more", self.name))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A program that has ended already is no mistake.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
