//! A home behind a router of Debian's own programs: netfilter, and miniupnpd to map ports.
//!
//! The host of the lab is the router, and the home a namespace behind it.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
};

use netns_lab::Host;
use tempfile::TempDir;

use crate::nat_pmp;

/// The router's public address. miniupnpd maps no port behind an address for documentation, which
/// those of the lab are.
pub(crate) const PUBLIC: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 3);

const ROUTER: &str = "192.168.77.1";

const HOME: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 2);

/// Drops strangers, and gives each destination another random port: nothing to be punched.
const RULES: &str = "
table inet router {
    chain forward {
        type filter hook forward priority 0; policy drop;
        jump upnp
        ct state established,related accept
        iifname lan accept
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
        oifname eth0 masquerade fully-random
    }
    chain upnp { }
    chain upnp_in { }
    chain upnp_out { }
}
";

/// What the router maps ports by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// PCP, and NAT-PMP.
    Pcp,
    /// NAT-PMP alone.
    NatPmp,
    Upnp,
    Nothing,
}

/// A router with a home behind it.
pub(crate) struct Router {
    host: Host,
    /// Holds the home's namespace until its input ends.
    home: Child,
    daemon: Option<Child>,
    /// The number of `home` as /proc has it.
    pid: String,
    files: TempDir,
}

impl Router {
    /// Makes a host of the lab a router, and waits until it answers.
    pub(crate) fn start(host: &Host, speaks: Speaks) -> Self {
        let mut hold = host.command("unshare");
        // The lab has numbers of its own for processes, and /proc those of the machine.
        hold.args(["--net", "sh", "-c"])
            .arg("read pid rest < /proc/self/stat; echo $pid; exec cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut home = hold.spawn().unwrap();
        let mut pid = String::new();
        let mut output = BufReader::new(home.stdout.take().unwrap());
        output.read_line(&mut pid).unwrap();
        let files = tempfile::tempdir().unwrap();
        let mut router = Self {
            host: host.clone(),
            pid: pid.trim_end().to_owned(),
            home,
            daemon: None,
            files,
        };
        router.connect();
        router.filter();
        match speaks {
            Speaks::Pcp | Speaks::Upnp => router.daemon = Some(router.map_ports(speaks)),
            Speaks::NatPmp => nat_pmp::serve(host, ROUTER, HOME, PUBLIC),
            Speaks::Nothing => {}
        }
        router
    }

    fn connect(&self) {
        let on = |command: &mut Command, arguments: &str| {
            command.arg("ip").args(arguments.split(' '));
            run(command);
        };
        let router = |arguments: &str| on(&mut self.host.command("env"), arguments);
        let home = |arguments: &str| on(&mut self.at_home(), arguments);
        let link = "link add lan type veth peer name eth0 netns";
        router(&format!("{link} {}", self.home.id()));
        router(&format!("addr add {ROUTER}/24 dev lan"));
        router("link set lan up");
        home(&format!("addr add {HOME}/24 dev eth0"));
        home("link set lo up");
        home("link set eth0 up");
        home(&format!("route add default via {ROUTER}"));
        self.host
            .run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap())
            .unwrap();
    }

    fn filter(&self) {
        let mut nft = self.host.command("nft");
        let mut nft = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        let mut input = nft.stdin.take().unwrap();
        input.write_all(RULES.as_bytes()).unwrap();
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
        let mut lines = BufReader::new(daemon.stderr.take().unwrap()).lines();
        // UPnP is there before it says so about the other, which it names last.
        let ready = match speaks {
            Speaks::Pcp => "Listening for NAT-PMP/PCP",
            Speaks::Upnp | Speaks::NatPmp | Speaks::Nothing => "HTTP listening on port",
        };
        let line = lines.find(|line| line.as_ref().unwrap().contains(ready));
        assert!(line.is_some(), "miniupnpd has ended");
        std::thread::spawn(move || lines.for_each(drop));
        daemon
    }

    /// Returns a command that runs its arguments at home.
    pub(crate) fn at_home(&self) -> Command {
        let mut command = self.host.command("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.pid));
        command
    }

    /// Returns how many ports the router forwards.
    pub(crate) fn mappings(&self) -> usize {
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

impl Drop for Router {
    fn drop(&mut self) {
        for child in self.daemon.iter_mut().chain([&mut self.home]) {
            // It may have ended by itself.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}
