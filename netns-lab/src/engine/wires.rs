//! The fabric with its places outside of it: which link device is which side of which node, and the
//! record of what crosses. No socket and no clock here.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use super::Clock;
use crate::{
    capture::{Capture, Direction, Fate, Packet, PcapngWriter},
    fabric::{Fabric, NodeId, Observation, Output},
    link::{Crossing, Loss},
    middlebox::Side,
    packet_socket::{Frame, unicast_packet},
    record::{DELIVERED, Event, SharedLog},
};

/// A packet on its way out of the engine.
#[derive(Debug)]
pub(crate) struct Due {
    /// The device to send it by.
    pub(crate) device: u32,
    /// The IP packet.
    pub(crate) packet: Arc<[u8]>,
}

/// Where packets come from and go to.
#[derive(Debug)]
pub(crate) struct Wires {
    fabric: Fabric,
    /// The node and the side at the other end of each device.
    by_device: BTreeMap<u32, (NodeId, Side)>,
    by_place: BTreeMap<(NodeId, Side), u32>,
    /// By whose name the packets of a link to the core are known.
    owners: BTreeMap<NodeId, Arc<str>>,
    due: Vec<Due>,
    records: Records,
}

/// Who wants to know what happened.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub(crate) capture: Option<Capture>,
    pub(crate) file: Option<PcapngWriter>,
    pub(crate) log: Option<SharedLog>,
}

impl Wires {
    /// Connects a fabric to devices; `owners` names the links to the core.
    pub(crate) fn new(
        fabric: Fabric,
        devices: impl IntoIterator<Item = (u32, NodeId, Side)>,
        owners: BTreeMap<NodeId, Arc<str>>,
        records: Records,
    ) -> Self {
        let mut by_device = BTreeMap::new();
        let mut by_place = BTreeMap::new();
        for (device, node, side) in devices {
            by_device.insert(device, (node, side));
            by_place.insert((node, side), device);
        }
        Self {
            fabric,
            by_device,
            by_place,
            owners,
            due: Vec::new(),
            records,
        }
    }

    /// Takes the link above a node up or down.
    pub(crate) fn set_link_up(&mut self, node: NodeId, up: bool) {
        self.fabric.set_link_up(node, up);
    }

    /// Returns when the next packet moves.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.fabric.next_due()
    }

    /// Takes a frame that came off a device at `at`.
    pub(crate) fn receive(&mut self, at: Duration, frame: &Frame<'_>) {
        let Some(&(node, side)) = self.by_device.get(&frame.link) else {
            return;
        };
        let Some(packet) = unicast_packet(frame.data) else {
            return;
        };
        self.fabric.send(at, node, side, packet.into());
    }

    /// Moves every packet whose time has come.
    pub(crate) fn advance(&mut self, limit: Duration, clock: Clock) -> io::Result<()> {
        loop {
            let moved = self.fabric.step(limit);
            while let Some(output) = self.fabric.poll_output() {
                self.hand_over(output);
            }
            self.keep_record(clock)?;
            if !moved {
                return Ok(());
            }
        }
    }

    /// Hands over the packets to send now.
    pub(crate) fn take_due(&mut self) -> Vec<Due> {
        std::mem::take(&mut self.due)
    }

    /// Completes the capture.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.records
            .file
            .as_mut()
            .map_or(Ok(()), PcapngWriter::flush)
    }

    fn hand_over(&mut self, output: Output) {
        let Output::Packet {
            to,
            by,
            link,
            packet,
        } = output
        else {
            // Nobody asked for a timer.
            return;
        };
        let Some(&device) = self.by_place.get(&(to, by)) else {
            return;
        };
        let copy = Arc::clone(&packet);
        self.fabric
            .note_arrival(link, by.other(), DELIVERED.into(), copy);
        self.due.push(Due { device, packet });
    }

    fn keep_record(&mut self, clock: Clock) -> io::Result<()> {
        let mut packets = Vec::new();
        while let Some(seen) = self.fabric.poll_observation() {
            if let Some(file) = &mut self.records.file {
                write(file, &seen, clock)?;
            }
            if self.records.capture.is_some() {
                packets.extend(self.packet(&seen));
            }
            if let Some(log) = &self.records.log {
                log.add(self.fabric.describe(seen));
            }
        }
        if let Some(capture) = self
            .records
            .capture
            .as_ref()
            .filter(|_| !packets.is_empty())
        {
            capture.record(packets);
        }
        Ok(())
    }

    /// Reads what matters to a capture: what is at the lower end of a link to the core, and what
    /// the core does with it.
    fn packet(&self, seen: &Observation) -> Option<Packet> {
        let owner = self.owners.get(&seen.link)?;
        let (direction, fate) = match (&seen.event, seen.towards) {
            (Event::Entered { crossing, .. }, Side::External) => {
                let fate = match crossing {
                    Crossing::Lost(loss) => fate_of(*loss),
                    Crossing::Exits { .. } => self.fabric.fate_in_core(&seen.packet),
                };
                (Direction::FromHost, fate)
            }
            (Event::Entered { crossing, .. }, Side::Internal) => match crossing {
                Crossing::Lost(loss) => (Direction::ToHost, fate_of(*loss)),
                Crossing::Exits { .. } => return None,
            },
            (Event::Arrived { .. }, Side::Internal) => (Direction::ToHost, Fate::Carried),
            (Event::Arrived { .. }, Side::External) | (Event::AtGate { .. }, _) => return None,
        };
        Packet::read(&seen.packet, seen.at, owner, direction, fate)
    }
}

const fn fate_of(loss: Loss) -> Fate {
    match loss {
        Loss::Overflow => Fate::Overflow,
        Loss::Random | Loss::Burst | Loss::QueueFull | Loss::Down | Loss::TooLong { .. } => {
            Fate::Lost
        }
    }
}

/// Writes what was seen at an end of a link to the interface for that end.
fn write(file: &mut PcapngWriter, seen: &Observation, clock: Clock) -> io::Result<()> {
    let leaves = match seen.event {
        Event::Entered { .. } => true,
        Event::Arrived { .. } => false,
        // It is written when it goes on.
        Event::AtGate { .. } => return Ok(()),
    };
    let at_lower_end = leaves == (seen.towards == Side::External);
    // Interfaces come in pairs: the lower end of a link, and the upper one.
    let interface = 2 * seen.link.index() as u32 + u32::from(!at_lower_end);
    let comment = seen.event.comment();
    let at = clock.wall(seen.at);
    file.packet(interface, at, &seen.packet, leaves, comment.as_deref())
}
