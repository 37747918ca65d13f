//! The lab that most tests use: a server, and peers `a` and `b` behind what the test puts there.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::Duration,
};

use netns_lab::{BoxSpec, Engine, HostSpec, Lab, LinkSpec, NatSpec};
use tempfile::TempDir;

use crate::{
    process::{Finished, Process, run},
    program::p2pconnect,
    router::{self, Kind, Ports, Router, Speaks},
    tayga,
};

/// Where the server's coordinator is. The lab's addresses are its own, so the port can be fixed.
const COORDINATOR_PORT: u16 = 4433;

/// The port of the echo service that the listening peer forwards to.
const ECHO_PORT: u16 = 7;

/// The server's address, the first of the lab's.
const FIRST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// Another one of a server that needs two.
pub const SECOND: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 100);

/// The host of a proxy.
pub const PROXY: &str = "proxy";

/// Where a server has WebSockets for a web server on its host.
pub const WEB_SOCKETS: &str = "127.0.0.1:8433";

/// The name of the box that both peers are behind.
const SHARED: &str = "shared";

/// The boxes in front of a host, innermost first.
pub type Boxes<'a> = &'a [NatSpec];

/// A lab with a server and two peers, in which the server serves.
#[derive(Debug)]
pub struct Net {
    /// The host that is a router, with its peer at home behind it.
    router: Option<(&'static str, Router)>,
    /// The lab, with the hosts `server`, `a` and `b`.
    pub lab: Lab,
    keys: TempDir,
    /// The address of the coordinator, as peers are told it.
    pub coordinator: String,
    /// The host that knows it by something else, and by what.
    named_otherwise: Option<(&'static str, String)>,
    /// The process that serves.
    pub server: Child,
}

/// What differs from one lab to another besides the boxes.
struct Setup<'a> {
    /// The server's address to serve on.
    address: fn(&netns_lab::Host) -> IpAddr,
    /// Where STUN is served; beside the coordinator if empty.
    stun: &'a [String],
    /// Another address of the server.
    second: Option<Ipv4Addr>,
    /// The share of packets that each peer's access link loses, each way.
    loss: f64,
    /// How much later than others a packet to or from the server may arrive, out of order then.
    jitter: Duration,
    /// The peer whose access link drops longer packets than this without a word.
    small_packets: Option<(&'a str, u16)>,
    /// Whether there is a host for a proxy, beside the server.
    has_proxy: bool,
    /// What else the server is told.
    options: &'a [&'a str],
    /// A box that both peers are behind, with their own boxes.
    shared: Option<NatSpec>,
    /// The host that is a router with the peer behind it.
    router: Option<(&'static str, Kind)>,
    /// Who plays the boxes.
    engine: Engine,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            address: |server| server.ipv4().into(),
            stun: &[],
            second: None,
            loss: 0.0,
            jitter: Duration::ZERO,
            small_packets: None,
            has_proxy: false,
            options: &[],
            shared: None,
            router: None,
            engine: Engine::Netfilter,
        }
    }
}

impl Setup<'_> {
    /// Returns a peer's access link.
    fn link(&self, name: &str) -> LinkSpec {
        let link = LinkSpec::delay(PEER_LINK).loss(self.loss);
        match self.small_packets {
            Some((at, most)) if at == name => link.silent_mtu(most),
            _ => link,
        }
    }
}

/// The delay of a peer's access link, one way: with the server's, 80 ms round trip between the
/// peers and 42 ms to the server.
pub const PEER_LINK: Duration = Duration::from_millis(20);

/// The delay of the server's access link, one way.
pub const SERVER_LINK: Duration = Duration::from_millis(1);

impl Net {
    /// Builds the lab and starts the server on its IPv4 address.
    pub fn new(a: Boxes<'_>, b: Boxes<'_>) -> Self {
        Self::start(a, b, &Setup::default())
    }

    /// Builds a lab with another host, [`PROXY`], as near as the server.
    pub fn with_proxy(a: Boxes<'_>, b: Boxes<'_>) -> Self {
        let setup = Setup {
            has_proxy: true,
            ..Setup::default()
        };
        Self::start(a, b, &setup)
    }

    /// Builds such a lab whose server is started with these options as well.
    pub fn with_options(a: Boxes<'_>, b: Boxes<'_>, options: &[&str]) -> Self {
        let setup = Setup {
            has_proxy: true,
            options,
            ..Setup::default()
        };
        Self::start(a, b, &setup)
    }

    /// Builds a lab with boxes that the kernel cannot play.
    pub fn on_model(a: Boxes<'_>, b: Boxes<'_>) -> Self {
        let setup = Setup {
            engine: Engine::Model,
            ..Setup::default()
        };
        Self::start(a, b, &setup)
    }

    /// Builds a lab of public hosts in which each packet to or from the server arrives later by up
    /// to this, and out of order.
    pub fn with_jitter(jitter: Duration) -> Self {
        let setup = Setup {
            jitter,
            ..Setup::default()
        };
        Self::start(&[], &[], &setup)
    }

    /// Builds a lab whose peers lose this share of what they send and receive.
    pub fn with_loss(a: Boxes<'_>, b: Boxes<'_>, loss: f64) -> Self {
        let setup = Setup {
            loss,
            ..Setup::default()
        };
        Self::start(a, b, &setup)
    }

    /// Builds a lab in which one peer's access link drops longer packets than this without a word.
    pub fn with_small_packets(at: &str, most: u16, a: Boxes<'_>, b: Boxes<'_>) -> Self {
        let setup = Setup {
            small_packets: Some((at, most)),
            ..Setup::default()
        };
        Self::start(a, b, &setup)
    }

    /// Builds a lab whose peers, with their own boxes, are behind one box.
    pub fn behind_one(shared: NatSpec, a: Boxes<'_>, b: Boxes<'_>) -> Self {
        let setup = Setup {
            shared: Some(shared),
            ..Setup::default()
        };
        Self::start(a, b, &setup)
    }

    /// Builds a lab in which one host is a router, and its peer at home behind it.
    pub fn with_router(at: &'static str, speaks: Speaks, a: Boxes<'_>, b: Boxes<'_>) -> Self {
        let setup = Setup {
            router: Some((at, Kind::MapsPorts(speaks))),
            ..Setup::default()
        };
        Self::start(a, b, &setup)
    }

    /// Builds a lab in which a is at home with IPv6 only, behind a router that is a NAT64. The
    /// server and b are reached by IPv4.
    pub fn with_nat64(ports: Ports, b: Boxes<'_>) -> Self {
        let leads_out = false;
        let setup = Setup {
            router: Some(("a", Kind::Nat64 { ports, leads_out })),
            ..Setup::default()
        };
        Self::start(&[], b, &setup)
    }

    /// Builds such a lab with a server on all its addresses, of which a knows a name and b the IPv4
    /// address. If `leads_out`, the name has an IPv6 address too, which a reaches without the
    /// NAT64.
    pub fn with_nat64_and_name(leads_out: bool, b: Boxes<'_>) -> Self {
        let ports = Ports::Kept;
        let setup = Setup {
            address: |_| Ipv6Addr::UNSPECIFIED.into(),
            router: Some(("a", Kind::Nat64 { ports, leads_out })),
            ..Setup::default()
        };
        let mut net = Self::start(&[], b, &setup);
        let at = |host: &str| net.coordinator.replace("[::]", host);
        net.named_otherwise = Some(("a", at(tayga::NAME)));
        let server = net.lab.host("server");
        assert_eq!((server.ipv4(), server.ipv6()), tayga::NAMED);
        net.coordinator = at(&server.ipv4().to_string());
        net
    }

    /// Returns the router of a lab that has one.
    pub fn router(&self) -> &Router {
        &self.router.as_ref().unwrap().1
    }

    /// Builds the lab and starts the server on its IPv6 address.
    pub fn over_ipv6(a: Boxes<'_>, b: Boxes<'_>) -> Self {
        let setup = Setup {
            address: |server| server.ipv6().into(),
            ..Setup::default()
        };
        Self::start(a, b, &setup)
    }

    /// Builds the lab and starts the server on all its addresses; peers know its IPv4 address.
    pub fn on_every_address(a: Boxes<'_>, b: Boxes<'_>) -> Self {
        let setup = Setup {
            address: |_| Ipv6Addr::UNSPECIFIED.into(),
            ..Setup::default()
        };
        let mut net = Self::start(a, b, &setup);
        let known = net.lab.host("server").ipv4().to_string();
        net.coordinator = net.coordinator.replace("[::]", &known);
        net
    }

    /// Builds such a lab in which a names the coordinator by its IPv4 address, and b by its IPv6
    /// address.
    pub fn named_by_two_families(a: Boxes<'_>, b: Boxes<'_>) -> Self {
        let mut net = Self::on_every_address(a, b);
        let server = net.lab.host("server");
        let [v4, v6] = [server.ipv4().to_string(), format!("[{}]", server.ipv6())];
        net.named_otherwise = Some(("b", net.coordinator.replace(&v4, &v6)));
        net
    }

    /// Builds the lab and starts a server whose STUN port peers cannot reach.
    pub fn with_closed_stun(a: Boxes<'_>, b: Boxes<'_>) -> Self {
        let stun = ["127.0.0.1:3478".to_owned()];
        let setup = Setup {
            stun: &stun,
            ..Setup::default()
        };
        Self::start(a, b, &setup)
    }

    /// Builds the lab with a server that has another address beside the one that it serves on.
    pub fn with_second_address(a: Boxes<'_>, b: Boxes<'_>) -> Self {
        let setup = Setup {
            second: Some(SECOND),
            ..Setup::default()
        };
        Self::start(a, b, &setup)
    }

    /// Builds the lab with a server that serves STUN on two addresses, so that peers learn all of
    /// how their NATs behave.
    pub fn with_two_stun_addresses(a: Boxes<'_>, b: Boxes<'_>) -> Self {
        let stun = [FIRST, SECOND].map(|address| format!("{address}:3478"));
        let setup = Setup {
            stun: &stun,
            second: Some(SECOND),
            ..Setup::default()
        };
        Self::start(a, b, &setup)
    }

    fn start(a: Boxes<'_>, b: Boxes<'_>, setup: &Setup<'_>) -> Self {
        let Setup {
            address,
            stun,
            second,
            shared,
            router,
            engine,
            jitter,
            ..
        } = *setup;
        let behind = |name: &str, boxes: Boxes<'_>| {
            let host = HostSpec::new(name).link(setup.link(name));
            let host = boxes.iter().fold(host, |host, nat| host.behind(*nat));
            let host = match router {
                Some((at, _)) if at == name => host.external_ipv4(router::PUBLIC),
                _ => host,
            };
            match shared {
                Some(_) => host.behind_shared(SHARED),
                None => host,
            }
        };
        let server_link = LinkSpec::delay(SERVER_LINK).jitter(jitter).reordering();
        let server = HostSpec::new("server").link(server_link);
        let server = second.into_iter().fold(server, HostSpec::second_ipv4);
        let lab = Lab::builder().seed(80_42).engine(engine);
        let lab = match shared {
            // The kernel cannot filter what it sends back in.
            Some(nat) => lab
                .shared_box(BoxSpec::new(SHARED, nat))
                .engine(Engine::Model),
            None => lab,
        };
        let proxy = setup.has_proxy.then(|| HostSpec::new(PROXY));
        let proxy = proxy.map(|it| it.link(LinkSpec::delay(SERVER_LINK)));
        let lab = proxy.into_iter().fold(lab, netns_lab::LabBuilder::host);
        let lab = lab
            .host(server)
            .host(behind("a", a))
            .host(behind("b", b))
            .build()
            .unwrap();
        let router = router.map(|(at, kind)| (at, Router::start(lab.host(at), kind)));
        let keys = tempfile::tempdir().unwrap();
        let listen = SocketAddr::new(address(lab.host("server")), COORDINATOR_PORT);
        let mut command = serve(&lab, &keys, listen);
        command.stdout(Stdio::piped());
        for address in stun {
            command.args(["--stun", address]);
        }
        command.args(setup.options);
        let mut server = command.spawn().unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let second = lines.next().unwrap().unwrap();
        let beside = SocketAddr::new(listen.ip(), 3478).to_string();
        assert_eq!(second, format!("stun: {}", stun.first().unwrap_or(&beside)));
        let coordinator = first.strip_prefix("coordinator: ").unwrap().to_owned();
        assert!(
            coordinator.ends_with(&format!("@{listen}")),
            "{coordinator}"
        );
        Self {
            router,
            lab,
            keys,
            coordinator,
            named_otherwise: None,
            server,
        }
    }

    /// Ends the server, and starts it again with the same key, as a process whose log can be read.
    pub fn start_server_again(&mut self) -> Process {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
        let (_, at) = self.coordinator.split_once('@').unwrap();
        let mut command = serve(&self.lab, &self.keys, at.parse().unwrap());
        command.env("RUST_LOG", "error,p2pconnect_coordinator=info");
        let mut server = Process::spawn(command);
        server.wait_for_log("coordinator serves");
        server
    }

    /// Returns `p2pconnect` with these arguments on a host, with the host's own key.
    pub fn command(&self, host: &str, arguments: &[&str]) -> Command {
        let mut command = match &self.router {
            Some((at, router)) if *at == host => {
                let mut command = router.at_home();
                command.arg(p2pconnect());
                command
            }
            // Whoever runs the tests with nohup has children that do not hear a hang-up either.
            _ => {
                let mut command = self.lab.host(host).command("env");
                command.arg("--default-signal=HUP").arg(p2pconnect());
                command
            }
        };
        let coordinator = match &self.named_otherwise {
            Some((at, name)) if *at == host => name,
            _ => &self.coordinator,
        };
        command.args(arguments);
        command
            .env("P2PCONNECT_COORDINATOR", coordinator)
            .env("RUST_LOG", "error");
        command.env(
            "P2PCONNECT_KEY",
            self.keys.path().join(format!("{host}.pem")),
        );
        command
    }

    /// Runs `ip` on a host.
    pub fn ip(&self, host: &str, arguments: &str) {
        let mut command = self.lab.host(host).command("ip");
        run(command.args(arguments.split(' ')));
    }

    /// Has a host ban whoever sends it a SYN that it does not expect, with one exception or none:
    /// for a minute nothing comes through from there.
    pub fn ban_strangers(&self, host: &str, excepted: Option<Ipv4Addr>) {
        let excepted = excepted.map(|it| format!("add rule ip ban in ip saddr {it} accept"));
        let excepted = excepted.unwrap_or_default();
        let rules = format!(
            "add table ip ban
            add set ip ban strangers {{ type ipv4_addr; flags dynamic, timeout; timeout 60s; }}
            add chain ip ban in {{ type filter hook input priority 0; }}
            {excepted}
            add rule ip ban in ip saddr @strangers drop
            add rule ip ban in iif != lo tcp flags & (syn | ack) == syn ct state new \
                update @strangers {{ ip saddr }} drop"
        );
        run(self.lab.host(host).command("nft").arg(rules));
    }

    /// Has a host that is shut already send nothing to a port by TCP, either.
    pub fn drop_tcp(&self, host: &str, port: u16) {
        let rule = format!("add rule ip shut out tcp dport {port} drop");
        run(self.lab.host(host).command("nft").arg(rule));
    }

    /// Ends all bans of a host, which bans nobody any more.
    pub fn end_bans(&self, host: &str) {
        let rules = "delete table ip ban";
        run(self.lab.host(host).command("nft").arg(rules));
    }

    /// Has a host reach the server by the default route that it has now, whatever comes of that
    /// one.
    pub fn keep_way_to_server(&self, host: &str) {
        let mut ip = self.lab.host(host).command("ip");
        let routes = ip.args(["-4", "route"]).output().unwrap();
        let routes = String::from_utf8(routes.stdout).unwrap();
        let default = routes.lines().find_map(|it| it.strip_prefix("default "));
        let default = default.unwrap().trim_end();
        let server = self.external("server");
        self.ip(host, &format!("route add {server} {default}"));
    }

    /// Returns the peer id of a host.
    pub fn id(&self, host: &str) -> String {
        let output = self.command(host, &["id"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned()
    }

    /// Starts a peer that echoes whatever is dialled to it, and waits until it can be dialled.
    pub fn listen(&self, host: &str) -> Process {
        let echo = self.echo(host).to_string();
        self.start_echo(host);
        self.listen_with(host, &["--allow-any", "--forward", &echo])
    }

    /// Starts a peer at b that echoes, and reaches the coordinator by a proxy.
    pub fn listen_by(&self, proxy: &str) -> Process {
        let echo = self.echo("b").to_string();
        self.start_echo("b");
        let forward = ["--allow-any", "--forward", &echo];
        self.listen_with("b", &[&forward[..], &["--proxy", proxy]].concat())
    }

    /// Returns where a host's peer finds the echo service: on the host, which may be a router.
    fn echo(&self, host: &str) -> SocketAddr {
        let ip = match &self.router {
            Some((at, router)) if *at == host && router.translates() => tayga::ROUTER.into(),
            _ => Ipv4Addr::LOCALHOST.into(),
        };
        SocketAddr::new(ip, ECHO_PORT)
    }

    /// Starts a peer with these options, and waits until it can be dialled.
    pub fn listen_with(&self, host: &str, options: &[&str]) -> Process {
        let arguments = [&["listen", "--json"], options].concat();
        let mut listener = Process::spawn(self.command(host, &arguments));
        listener.wait_for("registered");
        listener
    }

    /// Dials from one host to another, sends a message and returns what became of it.
    pub fn dial(&self, from: &str, peer: &str, message: &[u8]) -> Finished {
        self.dial_with(from, &["dial", "--json", peer], message)
    }

    /// Runs a command, such as `dial`, sends a message and returns what became of it.
    pub fn dial_with(&self, from: &str, arguments: &[&str], message: &[u8]) -> Finished {
        let mut dial = Process::spawn(self.command(from, arguments));
        dial.give(message);
        dial.finish()
    }

    /// Dials and asserts that the message comes back.
    pub fn dial_echo(&self, from: &str, peer: &str, message: &str) -> Finished {
        let dialled = self.dial(from, peer, message.as_bytes());
        assert_eq!(dialled.code(), 0, "{message}: {:#?}", dialled.stderr);
        assert_eq!(
            String::from_utf8_lossy(&dialled.stdout),
            message,
            "{:#?}",
            dialled.stderr
        );
        dialled
    }

    /// Asserts what must be true of every lab when its test is over.
    pub fn finish(self) {
        let leaked = self.lab.capture().private_sources();
        assert!(
            leaked.is_empty(),
            "private addresses on the core: {leaked:#?}"
        );
    }

    fn start_echo(&self, host: &str) {
        let listener = self
            .lab
            .host(host)
            .run(|| TcpListener::bind(self.echo(host)).unwrap())
            .unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut all = Vec::new();
                    // A dialler that breaks off is the test's matter.
                    if stream.read_to_end(&mut all).is_ok() {
                        drop(stream.write_all(&all));
                    }
                });
            }
        });
    }

    /// Returns the addresses of the connection that a dial reported.
    pub fn reported(&self, dialled: &Finished) -> (String, SocketAddr, SocketAddr) {
        let established = dialled.event("established").unwrap();
        let text = |field: &str| established[field].as_str().unwrap().to_owned();
        (
            text("how"),
            text("local").parse().unwrap(),
            text("remote").parse().unwrap(),
        )
    }

    /// Returns the IPv4 address that the core sees a host under.
    pub fn external(&self, host: &str) -> Ipv4Addr {
        self.lab.host(host).external_ipv4()
    }
}

/// Returns the command that serves on an address of the server.
fn serve(lab: &Lab, keys: &TempDir, listen: SocketAddr) -> Command {
    let mut command = lab.host("server").command(p2pconnect());
    command.args(["serve", "--listen", &listen.to_string(), "--key"]);
    command
        .arg(keys.path().join("server.pem"))
        .env("RUST_LOG", "error");
    command
}

impl Drop for Net {
    fn drop(&mut self) {
        // The lab kills it anyway; this only reaps it.
        drop(self.server.kill());
        drop(self.server.wait());
    }
}
