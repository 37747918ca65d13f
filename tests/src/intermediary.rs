//! Programs of Debian that stand between a peer and its coordinator.

use std::{
    fs,
    net::{IpAddr, SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use netns_lab::Host;
use tempfile::TempDir;

use crate::{net::WEB_SOCKETS, process::PATIENCE};

/// The port of each of them. The lab's addresses are its own, so it can be fixed.
const PORT: u16 = 3128;

/// The port of a web server.
const HTTPS_PORT: u16 = 443;

/// The settings of nginx; docs/operating.md has what is in `location`.
const NGINX: &str = "
daemon off;
master_process off;
pid FOLDER/pid;
events { }
http {
    access_log off;
    client_body_temp_path FOLDER/body;
    proxy_temp_path FOLDER/proxy;
    fastcgi_temp_path FOLDER/fastcgi;
    uwsgi_temp_path FOLDER/uwsgi;
    scgi_temp_path FOLDER/scgi;
    server {
        listen LISTEN ssl;
        ssl_protocols TLSv1.3;
        ssl_certificate FOLDER/certificate.pem;
        ssl_certificate_key FOLDER/key.pem;
        location /p2pconnect {
            proxy_pass http://TO;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_set_header X-Forwarded-For [$remote_addr]:$remote_port;
        }
    }
}
";

/// The settings of Caddy; docs/operating.md has the last block.
const CADDY: &str = "
{
    admin off
    auto_https off
    default_sni c.example
    storage file_system FOLDER
}
https:// {
    bind LISTEN
    tls FOLDER/certificate.pem FOLDER/key.pem
    reverse_proxy /p2pconnect TO {
        header_up X-Forwarded-For {remote}
    }
}
";

/// How often to try whether one is there.
const POLL: Duration = Duration::from_millis(20);

/// Returns a certificate that nobody else has issued, and its key, in PEM.
#[must_use]
pub fn certificate() -> [String; 2] {
    let certificate = rcgen::generate_simple_self_signed(["c.example".to_owned()]).unwrap();
    let (key, certificate) = (certificate.signing_key, certificate.cert.pem());
    [certificate, key.serialize_pem()]
}

/// A program that stands between, and ends with this value.
#[derive(Debug)]
pub struct Intermediary {
    child: Child,
    /// Its settings.
    folder: TempDir,
    address: SocketAddr,
}

impl Intermediary {
    /// Starts tinyproxy, which speaks HTTP and asks for this user and password if there are any.
    pub fn tinyproxy(host: &Host, login: Option<(&str, &str)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let login = login.map(|(user, password)| format!("BasicAuth {user} {password}\n"));
        let settings = format!(
            "Port {PORT}\nListen {}\nTimeout 600\nMaxClients 20\n{}",
            host.ipv4(),
            login.unwrap_or_default()
        );
        let file = folder.path().join("settings");
        fs::write(&file, settings).unwrap();
        let mut command = host.command("tinyproxy");
        command.arg("-d").arg("-c").arg(file);
        Self::start(host, command, folder, PORT)
    }

    /// Starts microsocks, which speaks SOCKS 5.
    pub fn microsocks(host: &Host) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = host.command("microsocks");
        let (ip, port) = (host.ipv4().to_string(), PORT.to_string());
        command.args(["-i", &ip, "-p", &port]);
        Self::start(host, command, folder, PORT)
    }

    /// Starts nginx, which speaks TLS for WebSockets of the coordinator on the same host.
    pub fn nginx(host: &Host) -> Self {
        let mut command = host.command("nginx");
        command.args(["-e", "stderr", "-c"]);
        let listen = format!("{}:{HTTPS_PORT}", host.ipv4());
        Self::web_server(host, command, &NGINX.replace("LISTEN", &listen))
    }

    /// Starts Caddy in its place.
    pub fn caddy(host: &Host) -> Self {
        let mut command = host.command("caddy");
        command.args(["run", "--adapter", "caddyfile", "--config"]);
        let listen = host.ipv4().to_string();
        Self::web_server(host, command, &CADDY.replace("LISTEN", &listen))
    }

    /// Starts a web server with these settings, in a file behind the arguments.
    fn web_server(host: &Host, mut command: Command, settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [certificate, key] = certificate();
        fs::write(folder.path().join("key.pem"), key).unwrap();
        fs::write(folder.path().join("certificate.pem"), certificate).unwrap();
        let settings = settings
            .replace("TO", WEB_SOCKETS)
            .replace("FOLDER", folder.path().to_str().unwrap());
        let file = folder.path().join("settings");
        fs::write(&file, settings).unwrap();
        command.arg(file).env("HOME", folder.path());
        Self::start(host, command, folder, HTTPS_PORT)
    }

    /// Starts mitmproxy, which intercepts all TLS that goes through it.
    pub fn mitmproxy(host: &Host) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = host.command("mitmdump");
        let (ip, port) = (host.ipv4().to_string(), PORT.to_string());
        command.args([
            "--listen-host",
            &ip,
            "--listen-port",
            &port,
            "--ssl-insecure",
        ]);
        let confdir = format!("confdir={}", folder.path().display());
        command.args(["--set", &confdir, "--set", "block_global=false"]);
        Self::start(host, command, folder, PORT)
    }

    /// Starts a program, and waits until it accepts connections.
    fn start(host: &Host, mut command: Command, folder: TempDir, port: u16) -> Self {
        let log = fs::File::create(folder.path().join("log")).unwrap();
        command
            .stdin(Stdio::null())
            .stderr(log.try_clone().unwrap())
            .stdout(log);
        let child = command.spawn().expect("tests/run installs it");
        let address = SocketAddr::new(IpAddr::V4(host.ipv4()), port);
        let mut started = Self {
            child,
            folder,
            address,
        };
        let began = Instant::now();
        while !host.run(|| TcpStream::connect(address).is_ok()).unwrap() {
            let ended = started.child.try_wait().unwrap();
            let is_there = ended.is_none() && began.elapsed() < PATIENCE;
            assert!(is_there, "{command:?} did not start: {}", started.log());
            std::thread::sleep(POLL);
        }
        started
    }

    /// Returns where it is.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the folder with its settings.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns what it has said.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Intermediary {
    fn drop(&mut self) {
        // The lab kills it anyway; this only reaps it.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
