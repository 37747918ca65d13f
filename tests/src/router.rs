//! A home behind a router of Debian's own programs: netfilter, and miniupnpd to map ports, or tayga
//! to translate.
//!
//! The host of the lab is the router, and the home a namespace behind it.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::Ipv4Addr,
    path::Path,
    process::{Child, Command, Stdio},
};

use netns_lab::Host;
use tempfile::TempDir;

use crate::{
    nat_pmp,
    process::{run, wait_for},
    tayga,
};

/// The router's public address. miniupnpd maps no port behind an address for documentation, which
/// those of the lab are.
pub const PUBLIC: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 3);

/// The router's address at home.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);

/// Another device in the LAN.
const DEVICE: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 66);

const HOME: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 2);

/// Drops strangers. IPv6 from home leads to the NAT64 alone, unless more is said.
const RULES: &str = "
table inet router {
    chain forward {
        type filter hook forward priority 0; policy drop;
        jump upnp
        ct state established,related accept
        ct state invalid meta nfproto ipv4 drop
        iifname { lan, nat64 } meta nfproto ipv4 accept
        iifname lan oifname nat64 accept
        iifname nat64 oifname lan accept
    }
    chain input {
        type filter hook input priority 0; policy drop;
        ct state established,related accept
        iifname { lan, lo } accept
    }
    chain prerouting { type nat hook prerouting priority -100; jump upnp_in; }
    chain postrouting {
        type nat hook postrouting priority 100;
        jump upnp_out
        oifname eth0 meta nfproto ipv4 masquerade PORTS
    }
    chain upnp { }
    chain upnp_in { }
    chain upnp_out { }
}
";

/// What a router does for its home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Maps ports for a home with IPv4 whose NAT cannot be punched.
    MapsPorts(Speaks),
    /// Translates the IPv6 of a home that has nothing else.
    Nat64 {
        /// What its NAT does with ports.
        ports: Ports,
        /// Whether IPv6 leads out as it is, too, as it does behind most NAT64s.
        leads_out: bool,
    },
}

/// Which external ports the router's NAT gives to connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// That of the home, if it is free.
    Kept,
    /// Another random one for each destination.
    Random,
}

/// What the router maps ports by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// PCP, and NAT-PMP.
    Pcp,
    /// NAT-PMP alone.
    NatPmp,
    /// UPnP alone.
    Upnp,
    /// It maps no ports.
    Nothing,
}

/// A router with a home behind it.
#[derive(Debug)]
pub struct Router {
    host: Host,
    kind: Kind,
    home: Home,
    daemon: Option<Child>,
    files: TempDir,
}

/// A namespace behind the router.
#[derive(Debug)]
struct Home {
    /// Holds it until its input ends.
    holder: Child,
    /// The number of `holder` as /proc has it.
    pid: String,
}

impl Router {
    /// Makes a host of the lab a router, and waits until it answers.
    pub fn start(host: &Host, kind: Kind) -> Self {
        let files = tempfile::tempdir().unwrap();
        let home = match kind {
            Kind::MapsPorts(_) => Home::new(host, None),
            Kind::Nat64 { leads_out, .. } => {
                Home::new(host, Some(&tayga::hosts(files.path(), leads_out)))
            }
        };
        let mut router = Self {
            host: host.clone(),
            kind,
            home,
            daemon: None,
            files,
        };
        router.connect();
        router.filter();
        match kind {
            Kind::MapsPorts(Speaks::Nothing) => {}
            Kind::MapsPorts(Speaks::NatPmp) => nat_pmp::serve(host, ROUTER, HOME, PUBLIC),
            Kind::MapsPorts(speaks @ (Speaks::Pcp | Speaks::Upnp)) => {
                router.daemon = Some(router.map_ports(speaks));
            }
            Kind::Nat64 { .. } => router.daemon = Some(tayga::start(host, router.files.path())),
        }
        router
    }

    fn connect(&self) {
        let link = "link add lan type veth peer name eth0 netns";
        self.ip(&format!("{link} {}", self.home.holder.id()));
        self.ip("link set lan up");
        self.ip_at_home("link set lo up");
        self.ip_at_home("link set eth0 up");
        match self.kind {
            Kind::MapsPorts(_) => {
                self.ip(&format!("addr add {ROUTER}/24 dev lan"));
                self.ip_at_home(&format!("addr add {HOME}/24 dev eth0"));
                self.ip_at_home(&format!("route add default via {ROUTER}"));
            }
            Kind::Nat64 { .. } => {
                let (router, home) = (tayga::ROUTER, tayga::HOME);
                self.ip(&format!("addr add {router}/64 dev lan nodad"));
                self.ip_at_home(&format!("addr add {home}/64 dev eth0 nodad"));
                self.ip_at_home(&format!("-6 route add default via {router}"));
                self.set("ipv6/conf/all/forwarding");
            }
        }
        self.set("ipv4/ip_forward");
    }

    /// Runs `ip` on the router.
    fn ip(&self, arguments: &str) {
        run(self.host.command("ip").args(arguments.split(' ')));
    }

    fn ip_at_home(&self, arguments: &str) {
        run(self.at_home().arg("ip").args(arguments.split(' ')));
    }

    /// Switches something on in the router's kernel.
    fn set(&self, name: &str) {
        let file = Path::new("/proc/sys/net").join(name);
        self.host
            .run(|| std::fs::write(file, "1").unwrap())
            .unwrap();
    }

    fn filter(&self) {
        let ports = match self.kind {
            Kind::MapsPorts(_) => "fully-random",
            Kind::Nat64 { ports, .. } => match ports {
                Ports::Random => "fully-random",
                Ports::Kept => "",
            },
        };
        let mut rules = RULES.replace("PORTS", ports);
        if let Kind::Nat64 {
            leads_out: true, ..
        } = self.kind
        {
            rules.push_str(tayga::LEADS_OUT);
        }
        let mut nft = self.host.command("nft");
        let mut nft = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        let mut input = nft.stdin.take().unwrap();
        input.write_all(rules.as_bytes()).unwrap();
        drop(input);
        assert!(nft.wait().unwrap().success());
    }

    fn map_ports(&self, speaks: Speaks) -> Child {
        let yes_if = |it| if speaks == it { "yes" } else { "no" };
        let settings = format!(
            "ext_ifname=eth0\nlistening_ip=lan\nenable_natpmp={}\nenable_upnp={}\n\
             upnp_table_name=router\nupnp_nat_table_name=router\nupnp_forward_chain=upnp\n\
             upnp_nat_chain=upnp_in\nupnp_nat_postrouting_chain=upnp_out\n\
             allow 1024-65535 0.0.0.0/0 1024-65535\n",
            yes_if(Speaks::Pcp),
            yes_if(Speaks::Upnp),
        );
        let file = self.files.path().join("miniupnpd.conf");
        std::fs::write(&file, settings).unwrap();
        let mut daemon = self.host.command("miniupnpd");
        daemon.args(["-d", "-4", "-f"]).arg(&file);
        daemon.arg("-P").arg(self.files.path().join("pid"));
        let mut daemon = daemon.stderr(Stdio::piped()).spawn().unwrap();
        // UPnP is there before it says so about the other, which it names last.
        let ready = match speaks {
            Speaks::Pcp => "Listening for NAT-PMP/PCP",
            Speaks::Upnp | Speaks::NatPmp | Speaks::Nothing => "HTTP listening on port",
        };
        wait_for(ready, daemon.stderr.take().unwrap());
        daemon
    }

    /// Returns a command that runs its arguments at home.
    pub fn at_home(&self) -> Command {
        let mut command = self.host.command("nsenter");
        for (option, file) in [("net", "net"), ("mount", "mnt")] {
            command.arg(format!("--{option}=/proc/{}/ns/{file}", self.home.pid));
        }
        command
    }

    /// Tells whether the home has IPv6 only.
    pub fn translates(&self) -> bool {
        matches!(self.kind, Kind::Nat64 { .. })
    }

    /// Returns the host that is the router.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Puts another device into the LAN, and returns its address. The router's kernel plays it.
    pub fn add_device(&self) -> Ipv4Addr {
        self.ip(&format!("addr add {DEVICE}/24 dev lan"));
        DEVICE
    }

    /// Returns how many ports the router forwards.
    pub fn mappings(&self) -> usize {
        let mut list = self.host.command("nft");
        let list = list.args(["list", "chain", "inet", "router", "upnp_in"]);
        let output = list.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout)
            .unwrap()
            .matches("dnat")
            .count()
    }
}

impl Home {
    /// Makes the namespace, with another /etc/hosts than the machine's if wanted.
    fn new(host: &Host, hosts: Option<&Path>) -> Self {
        let mut hold = host.command("unshare");
        // The lab has numbers of its own for processes, and /proc those of the machine.
        let script = "if [ $# = 1 ]; then mount --bind \"$1\" /etc/hosts || exit; fi
            read pid rest < /proc/self/stat; echo $pid; exec cat";
        hold.args(["--net", "--mount", "sh", "-c", script, "home"])
            .args(hosts)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut holder = hold.spawn().unwrap();
        let mut output = BufReader::new(holder.stdout.take().unwrap());
        let mut pid = String::new();
        output.read_line(&mut pid).unwrap();
        let pid = pid.trim_end().to_owned();
        assert!(!pid.is_empty(), "there is no home");
        Self { holder, pid }
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        for child in self.daemon.iter_mut().chain([&mut self.home.holder]) {
            // It may have ended by itself.
            drop(child.kill());
            drop(child.wait());
        }
    }
}
