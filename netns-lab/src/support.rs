//! Finding out whether this system can run labs, and if not, why not.

use std::{io, net::Ipv4Addr};

use p2pconnect_nat::{Dependence, NatSpec, UnsolicitedSyn};

use crate::{
    error::Error,
    firewall,
    isolation::{is_isolated, probe_namespaces},
    namespace::Namespace,
    netlink::{
        Netlink,
        route::{self, VethEnd},
    },
    packet_socket::PacketSocket,
};

/// Checks that this system can run labs.
///
/// Outside of [`isolate`](crate::isolate) it checks that namespaces can be made; inside also
/// network namespaces, virtual Ethernet, packet sockets and every kind of NAT rule. It takes some
/// milliseconds and leaves nothing behind.
///
/// # Errors
///
/// [`Error::Unsupported`] with what is missing and what to do about it.
pub fn support() -> Result<(), Error> {
    if !is_isolated() {
        return probe_namespaces();
    }
    std::thread::scope(|scope| {
        // A thread of its own, since it leaves the namespace of the caller.
        let probe = std::thread::Builder::new()
            .spawn_scoped(scope, probe)
            .map_err(|source| Error::System {
                action: "start a thread".into(),
                source,
            })?;
        probe
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn probe() -> Result<(), Error> {
    let namespace = Namespace::enter_new().map_err(|error| {
        unsupported(
            error,
            "make a network namespace",
            "it needs CONFIG_NET_NS, and user.max_net_namespaces must not be exhausted",
        )
    })?;
    probe_veth(&namespace).map_err(|error| {
        unsupported(
            error,
            "make a pair of virtual Ethernet links",
            "it needs CONFIG_VETH: try `sudo modprobe veth`",
        )
    })?;
    PacketSocket::open().map_err(|error| {
        unsupported(
            error,
            "receive packets on a packet socket",
            "it needs CONFIG_PACKET (`sudo modprobe af_packet`), and a sandbox must allow it",
        )
    })?;
    probe_rules().map_err(|error| {
        unsupported(
            error,
            "install NAT rules",
            "it needs nf_tables with NAT, reject, hash and connection tracking: try \
             `sudo modprobe -a nf_tables nft_ct nft_nat nft_reject_inet nft_hash \
             nf_conntrack_netlink`",
        )
    })
}

fn probe_veth(namespace: &Namespace) -> Result<(), Error> {
    let end = |name, index| VethEnd {
        name,
        index,
        mac: [2, 0, 0, 0, 0, 1],
        mtu: 1500,
        namespace: namespace.descriptor(),
    };
    let pair = route::veth(end("one", 2), end("other", 3));
    Netlink::open(libc::NETLINK_ROUTE)?.request("make a link", vec![pair])
}

/// Installs rules that need every expression but those of rare boxes (numgen, connlimit); each on a
/// namespace of its own, since a box has only one table.
fn probe_rules() -> Result<(), Error> {
    for nat in [
        NatSpec::random_port()
            .filtering(Dependence::EndpointIndependent)
            .answering(UnsolicitedSyn::Rst)
            .established_timeout(std::time::Duration::from_secs(60)),
        NatSpec::random_per_destination().answering(UnsolicitedSyn::IcmpProhibited),
    ] {
        let _namespace = Namespace::enter_new()?;
        firewall::install(&nat, Ipv4Addr::LOCALHOST, 0)?;
    }
    Ok(())
}

fn unsupported(error: Error, missing: &'static str, advice: &'static str) -> Error {
    let source = match error {
        Error::System { source, .. } | Error::Netlink { source, .. } => source,
        other => io::Error::other(other),
    };
    Error::Unsupported {
        missing,
        advice,
        source,
    }
}
