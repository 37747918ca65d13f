//! Which packet is where, and when it moves on. No socket and no clock here.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use super::Clock;
use crate::capture::{
    Capture, Direction, Fate, Packet, PcapngWriter, destination, is_private, parse,
};
use crate::link::{Crossing, Link};
use crate::packet_socket::Frame;

/// Packets under way at most: 98 MB of full packets, which is 100 MB/s over a
/// second of delay.
const MAX_UNDER_WAY: usize = 65_536;

/// Buffers kept for the next packets.
const MAX_SPARE_BUFFERS: usize = 4096;

/// Length of an Ethernet header, which links do not count.
const ETHERNET: usize = 14;

/// An access link as the core sees it.
#[derive(Debug)]
pub(crate) struct Port {
    /// The host's name.
    pub(crate) name: Arc<str>,
    /// The index of the link's end in the core's namespace.
    pub(crate) link: u32,
    /// From the box to the core.
    pub(crate) up: Link,
    /// From the core to the box.
    pub(crate) down: Link,
}

/// The address of a port in the core's routing table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Prefix {
    /// One IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 /48.
    V6([u16; 3]),
}

impl Prefix {
    /// Returns the prefix that an address belongs to.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                let [first, second, third, ..] = address.segments();
                Self::V6([first, second, third])
            }
        }
    }
}

/// The packets under way and where they may go.
#[derive(Debug)]
pub(crate) struct Backbone {
    ports: Vec<Port>,
    routes: BTreeMap<Prefix, usize>,
    queue: BinaryHeap<Reverse<Step>>,
    sequence: u64,
    due: Vec<(u32, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
    capture: Option<Capture>,
    recorded: Vec<Packet>,
    file: Option<PcapngWriter>,
}

/// A packet's next move.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Step {
    at: Duration,
    /// Keeps packets of the same moment in order, and the comparison short.
    sequence: u64,
    place: Place,
    port: usize,
    frame: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// Reaches the core and is about to enter the link to `port`.
    Core,
    /// Reaches the box of `port`.
    Box,
}

impl Backbone {
    /// Makes a core with these ports; `routes` lead to their places in the list.
    pub(crate) fn new(
        ports: Vec<Port>,
        routes: BTreeMap<Prefix, usize>,
        capture: Option<Capture>,
        file: Option<PcapngWriter>,
    ) -> Self {
        Self {
            ports,
            routes,
            queue: BinaryHeap::new(),
            sequence: 0,
            due: Vec::new(),
            spare: Vec::new(),
            capture,
            recorded: Vec::new(),
            file,
        }
    }

    /// Returns when the next packet moves.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.queue.peek().map(|Reverse(step)| step.at)
    }

    /// Takes a frame that left a box at `at`.
    pub(crate) fn receive(
        &mut self,
        at: Duration,
        frame: &Frame<'_>,
        clock: Clock,
    ) -> io::Result<()> {
        let Some(from) = self.ports.iter().position(|port| port.link == frame.link) else {
            return Ok(());
        };
        // Neighbours of a link talk among themselves by multicast, not to us.
        let Some(to) = destination(frame.data).filter(|address| !address.is_multicast()) else {
            return Ok(());
        };
        let crossing = self.ports[from].up.carry(at, packet_length(frame.data));
        let route = self.routes.get(&Prefix::of(to)).copied();
        let fate = self.fate(frame.data, crossing, route);
        self.note(from, at, (frame.data, Direction::FromHost), fate, clock)?;
        if let (Fate::Carried, Crossing::Exits { at, duplicate }, Some(port)) =
            (fate, crossing, route)
        {
            self.enqueue_copy(duplicate, Place::Core, port, frame.data);
            self.enqueue_copy(Some(at), Place::Core, port, frame.data);
        }
        Ok(())
    }

    /// Moves every packet whose time has come.
    pub(crate) fn advance(&mut self, now: Duration, clock: Clock) -> io::Result<()> {
        while self.next_due().is_some_and(|at| at <= now) {
            let Some(Reverse(step)) = self.queue.pop() else {
                break;
            };
            let Step {
                at,
                place,
                port,
                frame,
                ..
            } = step;
            match place {
                Place::Core => match self.ports[port].down.carry(at, packet_length(&frame)) {
                    Crossing::Exits { at, duplicate } => {
                        self.enqueue_copy(duplicate, Place::Box, port, &frame);
                        self.enqueue(at, Place::Box, port, frame);
                    }
                    Crossing::Lost(_) => {
                        self.note(port, at, (&frame, Direction::ToHost), Fate::Lost, clock)?;
                    }
                },
                Place::Box => {
                    let arrival = at.max(clock.now);
                    self.note(
                        port,
                        arrival,
                        (&frame, Direction::ToHost),
                        Fate::Carried,
                        clock,
                    )?;
                    self.due.push((self.ports[port].link, frame));
                }
            }
        }
        Ok(())
    }

    /// Makes what was noted visible to the capture's readers.
    pub(crate) fn publish(&mut self) {
        if let Some(capture) = self.capture.as_ref().filter(|_| !self.recorded.is_empty()) {
            capture.record(self.recorded.drain(..));
        }
    }

    /// Hands over the frames to send now, with their links.
    pub(crate) fn take_due(&mut self) -> Vec<(u32, Vec<u8>)> {
        std::mem::take(&mut self.due)
    }

    /// Takes the buffers of sent frames back.
    pub(crate) fn recycle(&mut self, sent: &mut Vec<(u32, Vec<u8>)>) {
        for (_, mut buffer) in sent.drain(..) {
            if self.spare.len() < MAX_SPARE_BUFFERS {
                buffer.clear();
                self.spare.push(buffer);
            }
        }
        self.due = std::mem::take(sent);
    }

    /// Completes the capture.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.publish();
        self.file.as_mut().map_or(Ok(()), PcapngWriter::flush)
    }

    fn fate(&self, frame: &[u8], crossing: Crossing, route: Option<usize>) -> Fate {
        let private = parse(frame).is_some_and(|(source, ..)| is_private(source));
        match (crossing, route) {
            (Crossing::Lost(_), _) => Fate::Lost,
            _ if private => Fate::PrivateSource,
            (_, None) => Fate::NoRoute,
            _ if self.queue.len() >= MAX_UNDER_WAY => Fate::Overflow,
            _ => Fate::Carried,
        }
    }

    /// Puts a copy of a frame under way, if there is a time for it.
    fn enqueue_copy(&mut self, at: Option<Duration>, place: Place, port: usize, frame: &[u8]) {
        if let Some(at) = at {
            let mut buffer = self.spare.pop().unwrap_or_default();
            buffer.extend_from_slice(frame);
            self.enqueue(at, place, port, buffer);
        }
    }

    fn enqueue(&mut self, at: Duration, place: Place, port: usize, frame: Vec<u8>) {
        self.sequence += 1;
        let step = Step {
            at,
            sequence: self.sequence,
            place,
            port,
            frame,
        };
        self.queue.push(Reverse(step));
    }

    fn note(
        &mut self,
        port: usize,
        at: Duration,
        (frame, direction): (&[u8], Direction),
        fate: Fate,
        clock: Clock,
    ) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            // There are at most as many ports as addresses in a /24.
            file.packet(
                port as u32,
                clock.wall(at),
                (frame, direction),
                fate.comment(),
            )?;
        }
        if self.capture.is_some() {
            let host = &self.ports[port].name;
            self.recorded
                .extend(Packet::from_frame(frame, at, host, direction, fate));
        }
        Ok(())
    }
}

fn packet_length(frame: &[u8]) -> usize {
    frame.len().saturating_sub(ETHERNET)
}
