//! What scripts do on every ground, and what they see.

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use netns_lab::{Event, EventLog};
use netns_lab_rig::packets::{ACK, RST, SYN, ends, flags, icmp};

/// How long nothing must happen to count as silence: longer than any round trip here, shorter than
/// the first repetition of a SYN after one second.
pub(crate) const PATIENCE: Duration = Duration::from_millis(700);

/// A socket, in the order in which the script got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sock(pub(crate) usize);

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Connected,
    Refused,
    HostUnreachable,
    NetworkUnreachable,
    AddressNotAvailable,
    Reset,
    /// Nothing happened for [`PATIENCE`].
    Silence,
    Bytes(String),
    EndOfStream,
    Echo,
    /// An ICMP error, by its type and code.
    Told(u8, u8),
    Other(String),
}

/// What tells the echoes of these hosts from others.
pub(crate) const IDENTIFIER: u16 = 77;

/// From which host and port to dial whom.
pub(crate) type Dial<'a> = (&'a str, u16, SocketAddr);

/// One lab, with calls that never wait except for the network.
pub(crate) trait Ground {
    fn local(&self, host: &str) -> Ipv4Addr;
    fn listen(&mut self, host: &str, port: u16);
    /// Begins to connect.
    fn dial(&mut self, host: &str, port: u16, to: SocketAddr) -> Sock;
    /// Begins both, with nothing slow between them.
    fn dial_together(&mut self, dials: [Dial<'_>; 2]) -> [Sock; 2];
    /// Waits until an attempt has ended.
    fn settle(&mut self, sock: Sock) -> Seen;
    /// Waits for a connection.
    fn accept(&mut self, host: &str, port: u16) -> Option<(Sock, SocketAddr)>;
    fn send(&mut self, sock: Sock, text: &str);
    /// Waits for bytes or for the end.
    fn receive(&mut self, sock: Sock) -> Seen;
    /// Asks for an echo of so many bytes, and waits for what comes of it.
    fn ping(&mut self, host: &str, to: Ipv4Addr, length: u16) -> Seen;
    /// Gives a socket up: with FIN, or without a word if it is not connected.
    fn close(&mut self, sock: Sock);
    /// Gives a socket up with RST.
    fn abort(&mut self, sock: Sock);
    /// Makes a box forget everything.
    fn flush(&mut self, name: &str);
    /// Waits until nothing is under way, and returns what was.
    fn finish(&mut self) -> EventLog;
}

/// What a script saw, line by line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sight {
    pub(crate) lines: Vec<String>,
    /// What arrived at each end of each link.
    pub(crate) packets: BTreeMap<String, Vec<String>>,
}

impl Sight {
    pub(crate) fn note(&mut self, what: &str, seen: impl fmt::Debug) {
        self.lines.push(format!("{what}: {seen:?}"));
    }

    /// Returns whether there is just this line.
    pub(crate) fn has(&self, text: &str) -> bool {
        self.to_string().lines().any(|line| line.trim() == text)
    }

    /// Notes the packets that open, refuse and reset, without repetitions.
    pub(crate) fn read(&mut self, log: &EventLog) {
        for entry in log.entries() {
            let Event::Arrived { .. } = entry.event else {
                continue;
            };
            let Some(kind) = kind(&entry.packet) else {
                continue;
            };
            let link = format!("{} -> {}", entry.from, entry.to);
            let kinds = self.packets.entry(link).or_default();
            if kinds.last() != Some(&kind) {
                kinds.push(kind);
            }
        }
    }
}

impl fmt::Display for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "  {line}")?;
        }
        for (link, kinds) in &self.packets {
            writeln!(f, "  {link}: {}", kinds.join(", "))?;
        }
        Ok(())
    }
}

/// Returns what kind of packet this is, if it is one that decides.
fn kind(packet: &[u8]) -> Option<String> {
    match ends(packet).0 {
        1 => {
            let (kind, code, _) = icmp(packet);
            Some(format!("icmp {kind}/{code}"))
        }
        6 => match flags(packet) {
            flags if flags & RST != 0 => Some("rst".into()),
            flags if flags & (SYN | ACK) == SYN | ACK => Some("syn-ack".into()),
            flags if flags & SYN != 0 => Some("syn".into()),
            _ => None,
        },
        _ => None,
    }
}
