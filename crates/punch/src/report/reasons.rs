//! Why there was no direct path, and what would help, where that does not depend on how the NATs
//! behave.

pub(super) const NO_COMMON_FAMILY: &str = "\
    The peers have no address family in common, or one of them has no usable address. An IPv4 \
    address, or an IPv6 address, on both sides would help; a side that has both is known by both if it \
    names the coordinator by a host name that has both.";

pub(super) const WRONG_IDENTITY: &str = "\
    Somebody who holds another key answered in the peer's place, and was not believed. Check the \
    peer id, and who runs the coordinator and the peer's network.";

pub(super) const INTERCEPTED: &str = "\
    Connections from this side are taken at once by somebody who is not the peer, at ports that have \
    nothing in common: a transparent proxy or a firewall that answers in the place of others. No \
    punching gets past it. Another network, or an exception there for this machine, would help.";

pub(super) const CONCEALED_FROM_COORDINATOR: &str = "\
    The coordinator sees this side at a private address that this machine does not have, so that \
    nobody can be told where it is: it is in a container with published ports, or behind a router \
    that puts its own address in the place of whoever connects. Running it where it sees its \
    clients' addresses (the host's own network, or a machine with a public address) would help.";

pub(super) const KNOWN_INSIDE_ONLY: &str = "\
    The coordinator and the STUN servers see this side at addresses inside a network that the peer \
    is not in, so that the peer cannot be told where this side is: they are in that network \
    themselves, or reached without leaving it. A coordinator outside that network, on a machine with \
    a public address, would help.";

pub(super) const PEER_KNOWN_INSIDE_ONLY: &str = "\
    This side was told no address of the peer but such as lead nowhere from here. The peer's report \
    says why: no STUN server answers it, which is so as well where its NAT has no port left for some \
    minutes; or the coordinator and the STUN servers see it from inside its own network. Then a \
    coordinator outside that network, on a machine with a public address, would help.";

pub(super) const UNMAPPED_ROUTE: &str = "\
    Packets to the peer leave this machine by another way, such as a VPN, than those to the \
    coordinator and the STUN servers, so that the peer knows only the address of a way that is not \
    used. A coordinator that is reached by the same way as the peer, or leaving the VPN, would help.";

pub(super) const FIREWALL_BANS: &str = "\
    A firewall on this side seems to ban, for a while, whoever sends it a connection attempt that it \
    does not expect, as it has done with the STUN server. The peer's attempt may have come before \
    this side's own. An exception there for the peer's and the coordinator's addresses, or trying \
    again when the ban has ended, would help.";

pub(super) const WITHHELD: &str = "\
    This side has sent a lot to the peer's network lately and nobody there was the peer, so it sends \
    little there for now. Trying again in some minutes, or a port mapping on either side, would \
    help.";

pub(super) const REFUSED: &str = "\
    Every attempt was answered with a reset: a NAT or firewall turns the connection away, or the two \
    sides never started close enough together. Trying again, or a port mapping on either side, would \
    help.";

pub(super) const UNREACHABLE: &str = "\
    The network said that the peer is out of reach: a NAT or firewall turns the connection away, or \
    there is no route. A port mapping on either side, or another network, would help.";

pub(super) const SILENT: &str = "\
    Nothing came back from the peer's addresses: the peer has gone offline, or a NAT or firewall \
    drops everything it did not expect. A port mapping on either side, or another network, would \
    help; the other side's report may say more, since a VPN or a proxy shows only where it is.";

pub(super) const MIXED: &str = "\
    None of the peer's addresses led to the peer. A port mapping on either side, or another network, \
    would help.";
