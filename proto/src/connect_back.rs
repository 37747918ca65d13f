//! What became of connections that a server made to a client's mapping.

/// What became of a connection that a server made to a mapping of a client's.
///
/// It tells of the NAT's filtering only if the connection that made the mapping is still open, and
/// nothing else has been sent from its local port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectBack {
    /// Where the server connected from.
    pub from: BackFrom,
    /// What became of it.
    pub outcome: BackOutcome,
}

/// Where a server connects from, as seen from the connection that it was asked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackFrom {
    /// The same address and another port.
    OtherPort,
    /// Another address.
    OtherAddress,
}

/// What became of a connection that a server made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BackOutcome {
    /// It arrived.
    Connected,
    /// RST answered the SYN.
    Reset,
    /// ICMP answered the SYN.
    Icmp,
    /// Nothing came back in time.
    Silent,
}
