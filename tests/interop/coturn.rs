//! A coturn server as a child process.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use p2pconnect_host::{Host, Sharing, TcpSocket};
use tokio::{net::TcpStream, time::sleep};

/// How long it may take to start. It takes half a second on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(30);

/// How often to try whether it is there.
const START_POLL: Duration = Duration::from_millis(20);

/// A `turnserver` on loopback, which ends with this value.
pub(crate) struct Coturn {
    child: Child,
    address: SocketAddr,
    directory: Directory,
    /// Bound beside coturn's own sockets, which have `SO_REUSEPORT` too. So nobody else can take
    /// the port before coturn does.
    _port: TcpSocket,
}

impl Coturn {
    /// Starts coturn with `options` and waits until it accepts connections.
    pub(crate) async fn start(options: &[&str]) -> Self {
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let port = Host::default().tcp_socket(any, Sharing::Shared).unwrap();
        let address = port.local_addr().unwrap();
        let name = format!(
            "p2pconnect-coturn-{}-{}",
            std::process::id(),
            address.port()
        );
        let directory = Directory::create(&name);
        let log = File::create(directory.0.join("log")).unwrap();
        let child = Command::new("turnserver")
            .args(["-n", "--no-udp", "--no-tls", "--no-dtls", "--no-cli"])
            .args(["--log-file=stdout", "--listening-ip=127.0.0.1"])
            .args(["--relay-ip=127.0.0.1"])
            .arg(format!("--listening-port={}", address.port()))
            .arg(format!("--pidfile={}", directory.0.join("pid").display()))
            .arg(format!("--userdb={}", directory.0.join("db").display()))
            .args(options)
            .current_dir(&directory.0)
            .stdin(Stdio::null())
            .stderr(log.try_clone().unwrap())
            .stdout(log)
            .spawn();
        let child = match child {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => panic!(
                "these tests need coturn's `turnserver`: apt-get install coturn, or tests/run"
            ),
            Err(error) => panic!("cannot start turnserver: {error}"),
        };
        let mut coturn = Self {
            child,
            address,
            directory,
            _port: port,
        };
        coturn.ready().await;
        coturn
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    async fn ready(&mut self) {
        let start = Instant::now();
        while TcpStream::connect(self.address).await.is_err() {
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && start.elapsed() < START_LIMIT,
                "turnserver did not start ({ended:?}):\n{}",
                fs::read_to_string(self.directory.0.join("log")).unwrap_or_default()
            );
            sleep(START_POLL).await;
        }
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        // Fails only if it has ended by itself, and then there is nothing to do.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Where coturn keeps its files. Removed after coturn has ended.
struct Directory(PathBuf);

impl Directory {
    fn create(name: &str) -> Self {
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _removed = fs::remove_dir_all(&self.0);
    }
}
