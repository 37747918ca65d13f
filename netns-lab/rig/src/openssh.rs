//! OpenSSH's server and client, with keys and settings of their own.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::Ipv4Addr,
    process::{Child, ChildStderr, Command, Output, Stdio},
};

use netns_lab::Host;
use tempfile::TempDir;

/// The port of every server here; above those that only root may bind.
pub const PORT: u16 = 2222;

/// sshd runs itself again for each connection and asks for its whole path.
const SSHD: &str = "/usr/sbin/sshd";

const INSTALL: &str = "apt-get install openssh-server openssh-client, or tests/run";

/// A directory with the keys of a server and a user; dropping it removes them.
#[derive(Debug)]
pub struct Keys {
    directory: TempDir,
}

impl Keys {
    /// Makes the keys.
    #[expect(clippy::new_without_default, reason = "it starts programs")]
    pub fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let keys = Self { directory };
        for name in ["host", "user"] {
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-t", "ed25519", "-N", "", "-f", &keys.path(name)]);
            let status = command.status();
            assert!(status.expect(INSTALL).success(), "ssh-keygen failed");
        }
        keys
    }

    fn path(&self, name: &str) -> String {
        let path = self.directory.path().join(name);
        path.to_str().unwrap().into()
    }

    /// Returns what makes ssh use these keys, and no settings of whoever runs the tests.
    pub fn options(&self) -> Vec<String> {
        let mut options = ["-F", "none", "-i", &self.path("user")]
            .map(Into::into)
            .to_vec();
        for option in [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "GlobalKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
        ] {
            options.extend(["-o", option].map(Into::into));
        }
        options
    }

    /// Prepares to run something on `address` by ssh from `client`.
    pub fn ssh(&self, client: &Host, address: Ipv4Addr) -> Ssh {
        let mut command = client.command("ssh");
        command.args(self.options());
        command.args(["-p", &PORT.to_string(), "-o", "ConnectTimeout=2"]);
        command.arg(format!("{}@{address}", login().name));
        Ssh { command }
    }
}

/// A run of ssh to be.
#[derive(Debug)]
pub struct Ssh {
    command: Command,
}

impl Ssh {
    /// Adds an argument.
    pub fn arg(mut self, argument: &str) -> Self {
        self.command.arg(argument);
        self
    }

    /// Returns what the remote command printed.
    pub fn succeed(self) -> Vec<u8> {
        self.feed(Vec::new())
    }

    /// Gives the remote command something to read, and returns what it printed.
    pub fn feed(self, input: Vec<u8>) -> Vec<u8> {
        let output = self.run(input);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", output.status);
        output.stdout
    }

    /// Returns what ssh said about a connection that did not come about.
    pub fn fail(self) -> String {
        let output = self.run(Vec::new());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // What ssh exits with for errors of its own.
        assert_eq!(output.status.code(), Some(255), "{said}");
        assert_eq!(output.stdout, b"", "{said}");
        said
    }

    fn run(mut self, input: Vec<u8>) -> Output {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = self.command.stderr(Stdio::piped()).spawn().expect(INSTALL);
        let mut stdin = child.stdin.take().unwrap();
        let feeder = std::thread::spawn(move || {
            // A client that failed reads nothing; its exit status says so.
            stdin.write_all(&input).ok();
        });
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        output
    }
}

/// An sshd that listens; dropping it or its lab kills it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    said: BufReader<ChildStderr>,
}

impl Server {
    /// Starts sshd on a host and returns once it listens.
    pub fn start(keys: &Keys, host: &Host) -> Self {
        let settings = format!(
            "Port {PORT}\nAddressFamily inet\nHostKey {}\nAuthorizedKeysFile {}.pub\n\
             PidFile none\nStrictModes no\nUsePAM no\nUseDNS no\nLogLevel VERBOSE\n\
             AuthenticationMethods publickey\nPermitRootLogin prohibit-password\n",
            keys.path("host"),
            keys.path("user")
        );
        fs::write(keys.path("sshd_config"), settings).unwrap();
        let mut command = host.command("unshare");
        command
            .args(&login().unshare)
            .args([SSHD, "-D", "-e", "-f"]);
        command.arg(keys.path("sshd_config"));
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect(INSTALL);
        let said = BufReader::new(child.stderr.take().unwrap());
        let mut server = Self { child, said };
        server.wait_until_listening();
        server
    }

    /// Reads its log: it says so after it has called `listen`.
    fn wait_until_listening(&mut self) {
        let mut log = String::new();
        while !log.contains("Server listening on") {
            let length = self.said.read_line(&mut log).unwrap();
            assert_ne!(length, 0, "sshd ended ({INSTALL}):\n{log}");
        }
    }

    /// Returns once every process that could write to its log has ended.
    pub fn wait_for_end_of_log(&mut self) {
        std::io::copy(&mut self.said, &mut std::io::sink()).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// As whom sshd runs, and what it needs around it.
#[derive(Debug)]
pub struct Login {
    /// The name of the user whom sshd lets in.
    pub name: String,
    unshare: Vec<String>,
}

/// Finds out what sshd can be run as in these namespaces.
///
/// Real root only lacks /run/sshd where no service has made it, and gets one of its own. An
/// ordinary user is root of a user namespace without `setgroups`, which sshd as root insists on;
/// one namespace further in it is that user again, and an ordinary sshd lets that user in.
pub fn login() -> Login {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    let outside = map.split_whitespace().nth(1).unwrap();
    if outside == "0" {
        let script = "mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && exec \"$@\"";
        return Login {
            name: "root".into(),
            unshare: ["--mount", "sh", "-c", script, "sh"].map(Into::into).into(),
        };
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let user = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == outside).then(|| name.to_owned())
    });
    Login {
        name: user.expect("the user who runs the tests is in /etc/passwd"),
        unshare: vec![
            "--user".into(),
            format!("--map-user={outside}"),
            format!("--map-group={outside}"),
        ],
    }
}
