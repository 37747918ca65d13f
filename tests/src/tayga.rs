//! A home with IPv6 only, behind a NAT64.
//!
//! tayga translates each address for itself (RFC 7915), and netfilter puts all of them behind the
//! router's one: together they are a stateful NAT64 (RFC 6146).

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use netns_lab::Host;

use crate::process::{run, wait_for};

/// The prefix that stands for IPv4, 96 bits long.
const PREFIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x6464, 0, 0, 0, 0, 0);

/// The address of the router towards the home.
pub(crate) const ROUTER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x7777, 0, 0, 0, 0, 1);

/// The address of the home.
pub const HOME: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x7777, 0, 0, 0, 0, 2);

/// What the home's address is between tayga and netfilter.
const BETWEEN: &str = "192.168.255.2";

/// tayga's own addresses, which nobody asks for.
const OWN: &str = "ipv4-addr 192.168.255.1";

/// A name that the home's resolver knows, of a server with IPv4 only.
pub(crate) const NAME: &str = "coordinator.test";

/// The addresses that the name is for: those of the lab's server.
pub(crate) const NAMED: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(203, 0, 113, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2),
);

/// Lets IPv6 out, behind the router's address, because the lab leads no other to it.
pub(crate) const LEADS_OUT: &str = "
add rule inet router forward iifname lan oifname eth0 accept
add rule inet router postrouting oifname eth0 meta nfproto ipv6 masquerade
";

/// Returns the address that leads to an IPv4 address through the NAT64.
pub fn translated(address: Ipv4Addr) -> IpAddr {
    Ipv6Addr::from_bits(PREFIX.to_bits() | u128::from(address.to_bits())).into()
}

/// Writes down what the home's resolver answers: as one that knows of the NAT64, it makes addresses
/// for names that have only IPv4 ones (RFC 6147).
pub(crate) fn hosts(folder: &Path, named_has_ipv6: bool) -> PathBuf {
    let (v4, v6) = NAMED;
    let named = if named_has_ipv6 {
        v6.into()
    } else {
        translated(v4)
    };
    let mut lines = format!("127.0.0.1 localhost\n{v4} {NAME}\n{named} {NAME}\n");
    for address in [170, 171].map(|last| Ipv4Addr::new(192, 0, 0, last)) {
        for address in [address.into(), translated(address)] {
            lines.push_str(&format!("{address} ipv4only.arpa\n"));
        }
    }
    let file = folder.join("hosts");
    std::fs::write(&file, lines).unwrap();
    file
}

/// Starts to translate, on the router.
pub(crate) fn start(host: &Host, folder: &Path) -> Child {
    let settings = format!("tun-device nat64\n{OWN}\nprefix {PREFIX}/96\nmap {BETWEEN} {HOME}\n");
    let file = folder.join("tayga.conf");
    std::fs::write(&file, settings).unwrap();
    // Or what it says would be held back until there is more of it.
    let mut tayga = host.command("stdbuf");
    tayga.args(["--output=L", "tayga", "--nodetach", "-d", "--config"]);
    let mut tayga = tayga.arg(&file).stdout(Stdio::piped()).spawn().unwrap();
    wait_for("NAT64 prefix", tayga.stdout.take().unwrap());
    let ip = |arguments: &str| run(host.command("ip").args(arguments.split(' ')));
    ip("link set nat64 up");
    ip(&format!("route add {PREFIX}/96 dev nat64"));
    ip(&format!("route add {BETWEEN} dev nat64"));
    tayga
}
