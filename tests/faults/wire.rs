//! What the packets show: who goes to whose addresses, and which box has not the ports that a peer
//! needs.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use netns_lab::{
    Event, LogEntry, Remark,
    model::{DropReason, Verdict},
};

use crate::{
    checks::{Broken, Checks},
    ground::{Ground, host_name},
};

/// The protocol number of TCP.
const TCP: u8 = 6;

/// The flags of TCP that tell a connection's first segment.
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// What has been read of a world's log.
#[derive(Debug)]
pub(crate) struct Wire {
    /// Which peers have had which addresses.
    owners: BTreeMap<IpAddr, BTreeSet<usize>>,
    /// The number of each peer's host.
    hosts: BTreeMap<String, usize>,
    /// When a box of a peer had no ports left last.
    full: BTreeMap<usize, Duration>,
    /// The boxes that keep ports wherever they can, by name.
    keeping: BTreeSet<String>,
    /// The peers that a box could not keep a port for, since somebody else has it: the peer itself,
    /// at an address that it had before.
    crowded: BTreeSet<usize>,
    /// How many entries of the log have been read.
    read: usize,
}

impl Wire {
    pub(crate) fn new(ground: &Ground) -> Self {
        let mut wire = Self {
            owners: BTreeMap::new(),
            hosts: (0..ground.peers()).map(|it| (host_name(it), it)).collect(),
            full: BTreeMap::new(),
            keeping: ground.port_keeping_boxes(),
            crowded: BTreeSet::new(),
            read: 0,
        };
        wire.note(ground);
        wire
    }

    /// Notes where the peers are at present.
    pub(crate) fn note(&mut self, ground: &Ground) {
        for peer in 0..ground.peers() {
            for address in ground.addresses(peer) {
                self.owners.entry(address).or_default().insert(peer);
            }
        }
    }

    /// Reads what is new in a log, and checks that nobody has gone to addresses of peers that it
    /// had not been introduced to.
    pub(crate) fn check(&mut self, log: &[LogEntry], checks: &Checks) {
        for entry in log.iter().skip(self.read) {
            match &entry.event {
                Event::Entered { .. } => self.check_syn(entry, checks),
                Event::Arrived {
                    verdict:
                        Remark::Verdict(Verdict::Dropped(DropReason::NoPort(_) | DropReason::TableFull)),
                } => {
                    if let Some(peer) = self.behind(&entry.to) {
                        self.full.insert(peer, entry.at);
                    }
                }
                Event::Arrived {
                    verdict: Remark::Verdict(Verdict::Mapped { internal, external }),
                } if internal.port() != external.port() && self.keeping.contains(&*entry.to) => {
                    self.crowded.extend(self.behind(&entry.to));
                }
                _ => {}
            }
        }
        self.read = log.len();
    }

    fn check_syn(&self, entry: &LogEntry, checks: &Checks) {
        let (Some(&peer), Some(to)) = (self.hosts.get(&*entry.from), destination_of_syn(entry))
        else {
            return;
        };
        let Some(owners) = self.owners.get(&to).filter(|it| !it.contains(&peer)) else {
            return;
        };
        let mut owning = owners.iter();
        if !owning.any(|it| checks.has_heard_of(peer, *it, entry.at)) {
            let text = format!("{peer} goes to {to} of {owners:?} at {:?}", entry.at);
            checks.breaks(Broken::Admission, text);
        }
    }

    /// Returns the peer that is behind a box.
    fn behind(&self, name: &str) -> Option<usize> {
        self.hosts.get(name.split('.').next()?).copied()
    }

    /// Returns whether a box could not keep a port for a peer.
    pub(crate) fn is_crowded(&self, peer: usize) -> bool {
        self.crowded.contains(&peer)
    }

    /// Returns whether a box of a peer has had no ports left since then.
    pub(crate) fn was_full(&self, peer: usize, since: Duration) -> bool {
        self.full.get(&peer).is_some_and(|at| *at >= since)
    }
}

/// Returns where the first segment of a connection goes, if a packet is one.
fn destination_of_syn(entry: &LogEntry) -> Option<IpAddr> {
    let packet = &entry.packet;
    let (protocol, to, header) = match packet.first()? >> 4 {
        4 => {
            let to: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            let header = usize::from(packet[0] & 0x0f) * 4;
            (packet[9], IpAddr::V4(Ipv4Addr::from(to)), header)
        }
        _ => {
            let to: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            (packet[6], IpAddr::V6(Ipv6Addr::from(to)), 40)
        }
    };
    let flags = *packet.get(header + 13)?;
    (protocol == TCP && flags & (SYN | ACK) == SYN).then_some(to)
}
