//! AF_PACKET: reading and writing whole frames on every link of a namespace.
//!
//! Frames arrive in a ring shared with the kernel rather than in a socket buffer: the size of the
//! latter is limited for ordinary users (208 KiB by default, some ninety packets), and a lab must
//! never lose a packet that its links did not lose.
#![expect(
    unsafe_code,
    reason = "packet sockets and their rings exist only as system calls"
)]

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use crate::{error::Error, packet::IpHeader};

/// Length of an Ethernet header.
const ETHERNET: usize = 14;

/// EtherTypes (RFC 894, RFC 2464 section 3).
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xDD];

/// On a link without ARP, Linux sends to the sender's own hardware address, so all hosts and boxes
/// have the same one; the core's ends have another, so that its own network stack ignores what it
/// gets.
pub(crate) const BOX_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The hardware address of the core's ends.
pub(crate) const CORE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

const PACKET_RX_RING: libc::c_int = 5;
const PACKET_VERSION: libc::c_int = 10;
const PACKET_VNET_HDR: libc::c_int = 15;
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
const TPACKET_V2: libc::c_int = 1;
const STATUS_KERNEL: u32 = 0;
const STATUS_USER: u32 = 1;

/// Length of struct virtio_net_hdr, and its values (linux/virtio_net.h).
const VIRTIO_NET_HEADER: usize = 10;
const NEEDS_CHECKSUM: u8 = 1;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;

/// Where the checksum stands in a TCP header (RFC 9293 section 3.1).
const TCP_CHECKSUM: u16 = 16;

/// Bytes per frame slot: an Ethernet frame of MTU 1500 and the kernel's header.
const SLOT: usize = 2048;
/// Slots per physically contiguous block of 32 KiB, a size that is easy to get.
const SLOTS_PER_BLOCK: usize = 16;
/// Slots in the ring: at 100 MB/s these last for 60 ms in which the engine does not get onto a
/// processor, for 8 MiB of memory for each lab.
const SLOTS: usize = 4096;

/// Packets per `sendmmsg` call: enough that the call itself hardly counts, few enough that the
/// answers to them fit the ring.
pub(crate) const SEND_BATCH: usize = 32;

/// A frame in the ring.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    /// When the kernel took it, counted from 1970.
    pub(crate) at: Duration,
    /// The link it came in by.
    pub(crate) link: u32,
    /// The frame with its Ethernet header.
    pub(crate) data: &'a [u8],
}

/// A packet to send, of which parts are in different places.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    /// The link to send it by.
    pub(crate) link: u32,
    /// The parts, one behind the other.
    pub(crate) parts: Vec<&'a [u8]>,
    /// How the kernel is to divide it, if it is longer than the link carries.
    pub(crate) division: Option<Division>,
}

/// How a long TCP packet is divided, wherever that has to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Division {
    /// Where its TCP header starts.
    pub(crate) transport: u16,
    /// Where its data starts.
    pub(crate) data: u16,
    /// Bytes of data in each segment but the last.
    pub(crate) segment: u16,
}

impl Outgoing<'_> {
    /// Returns struct virtio_net_hdr and the Ethernet header.
    fn head(&self) -> [u8; VIRTIO_NET_HEADER + ETHERNET] {
        let mut head = [0; VIRTIO_NET_HEADER + ETHERNET];
        let packet = self.parts.first().copied().unwrap_or_default();
        head[VIRTIO_NET_HEADER..].copy_from_slice(&ethernet_header(packet));
        let Some(division) = self.division else {
            return head;
        };
        let is_ipv6 = packet.first().is_some_and(|first| first >> 4 == 6);
        head[0] = NEEDS_CHECKSUM;
        head[1] = if is_ipv6 { GSO_TCPV6 } else { GSO_TCPV4 };
        let ethernet = ETHERNET as u16;
        for (at, word) in [
            (2, ethernet + division.data),
            (4, division.segment),
            (6, ethernet + division.transport),
            (8, TCP_CHECKSUM),
        ] {
            head[at..at + 2].copy_from_slice(&word.to_ne_bytes());
        }
        head
    }
}

/// A packet socket on all links of one network namespace.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    fd: OwnedFd,
    /// Another, whose packets have a header that tells how to divide them.
    sender: OwnedFd,
    ring: Ring,
    next: usize,
}

#[derive(Debug)]
struct Ring {
    start: *mut u8,
}

// SAFETY: the ring is plain memory owned by this value; nothing ties it to a thread.
unsafe impl Send for Ring {}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: `start` is what mmap returned for this length, and no slice into the ring
        // outlives the socket.
        unsafe { libc::munmap(self.start.cast(), SLOT * SLOTS) };
    }
}

impl PacketSocket {
    /// Opens a socket in the calling thread's network namespace.
    pub(crate) fn open() -> Result<Self, Error> {
        let (fd, sender) = (raw_socket()?, raw_socket()?);
        option(&sender, PACKET_VNET_HDR, &1)?;
        option(&fd, PACKET_VERSION, &TPACKET_V2)?;
        option(&fd, PACKET_IGNORE_OUTGOING, &1)?;
        // struct tpacket_req: block size, blocks, frame size, frames.
        let request = [SLOT * SLOTS_PER_BLOCK, SLOTS / SLOTS_PER_BLOCK, SLOT, SLOTS];
        option(&fd, PACKET_RX_RING, &request.map(|value| value as u32))?;
        let ring = map(&fd)?;
        let socket = Self {
            fd,
            sender,
            ring,
            next: 0,
        };
        socket.listen()?;
        Ok(socket)
    }

    /// Returns the descriptor to poll.
    pub(crate) fn descriptor(&self) -> libc::c_int {
        self.fd.as_raw_fd()
    }

    /// Returns how many frames found the ring full since the last call.
    pub(crate) fn overflows(&self) -> u32 {
        /// `PACKET_STATISTICS`; the kernel resets the counts that it tells.
        const STATISTICS: libc::c_int = 6;
        // struct tpacket_stats: packets, drops.
        let mut counts = [0u32; 2];
        let mut length = size_of_val(&counts) as libc::socklen_t;
        // SAFETY: the pointers describe locals that outlive the call.
        let result = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                STATISTICS,
                (&raw mut counts).cast(),
                &raw mut length,
            )
        };
        if result < 0 { 0 } else { counts[1] }
    }

    /// Hands at most `most` waiting frames to `each`; returns how many there were.
    pub(crate) fn receive(&mut self, most: usize, mut each: impl FnMut(Frame<'_>)) -> usize {
        for count in 0..most {
            let slot = self.next * SLOT;
            // SAFETY: `slot` is within the ring, slots are aligned to 2048, and both sides access
            // the status word atomically.
            let status = unsafe { AtomicU32::from_ptr(self.ring.start.add(slot).cast()) };
            if status.load(Ordering::Acquire) & STATUS_USER == 0 {
                return count;
            }
            // SAFETY: the kernel gave this slot to us and writes nothing to it until the status
            // goes back.
            let bytes = unsafe { std::slice::from_raw_parts(self.ring.start.add(slot), SLOT) };
            each(parse_slot(bytes));
            status.store(STATUS_KERNEL, Ordering::Release);
            self.next = (self.next + 1) % SLOTS;
        }
        most
    }

    /// Sends IP packets, each out of its link; returns how many the kernel took.
    ///
    /// The first packet that fails ends the batch, and fails the call if it is the first of all.
    pub(crate) fn send(&self, packets: &[Outgoing<'_>]) -> io::Result<usize> {
        let packets = &packets[..packets.len().min(SEND_BATCH)];
        let heads: Vec<_> = packets.iter().map(Outgoing::head).collect();
        let mut addresses: Vec<_> = packets.iter().map(|it| link_address(it.link)).collect();
        let part = |bytes: &[u8]| libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        let mut parts: Vec<Vec<_>> = heads
            .iter()
            .zip(packets)
            .map(|(head, packet)| {
                let parts = packet.parts.iter().map(|it| part(it));
                std::iter::once(part(head)).chain(parts).collect()
            })
            .collect();
        let mut messages: Vec<libc::mmsghdr> = addresses
            .iter_mut()
            .zip(&mut parts)
            .map(|(address, parts)| {
                // SAFETY: mmsghdr is plain data for which all zeros mean "nothing".
                let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
                let header = &mut message.msg_hdr;
                header.msg_name = std::ptr::from_mut(address).cast();
                header.msg_namelen = size_of::<libc::sockaddr_ll>() as u32;
                header.msg_iov = parts.as_mut_ptr();
                header.msg_iovlen = parts.len();
                message
            })
            .collect();
        let count = messages.len() as u32;
        // SAFETY: the messages point to addresses, parts, heads and packets that all
        // outlive the call; the kernel only reads these.
        let sent =
            unsafe { libc::sendmmsg(self.sender.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
        usize::try_from(sent).map_err(|_negative| io::Error::last_os_error())
    }

    fn listen(&self) -> Result<(), Error> {
        let mut address = link_address(0);
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        let length = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the pointer and length describe `address`, alive for the call.
        let result =
            unsafe { libc::bind(self.fd.as_raw_fd(), (&raw const address).cast(), length) };
        if result < 0 {
            return Err(Error::system("listen on a packet socket"));
        }
        Ok(())
    }
}

/// Opens a socket that receives nothing.
fn raw_socket() -> Result<OwnedFd, Error> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers; protocol 0 receives nothing before `listen`.
    let raw = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if raw < 0 {
        return Err(Error::system("open a packet socket"));
    }
    // SAFETY: `raw` was just created and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Returns the IP packet in a frame, unless it is for many: neighbours of a link talk among
/// themselves by multicast, not to a lab.
pub(crate) fn unicast_packet(frame: &[u8]) -> Option<&[u8]> {
    let kind = frame.get(12..ETHERNET)?;
    let packet = &frame[ETHERNET..];
    let is_ip = kind == ETHERTYPE_IPV4 || kind == ETHERTYPE_IPV6;
    let is_for_many = |to: IpAddr| to.is_multicast() || to == Ipv4Addr::BROADCAST;
    let header = IpHeader::read(packet);
    let is_unicast = header.is_none_or(|header| !is_for_many(header.destination));
    (is_ip && is_unicast).then_some(packet)
}

/// Returns the header of a frame with an IP packet to a box.
fn ethernet_header(packet: &[u8]) -> [u8; ETHERNET] {
    let is_ipv6 = packet.first().is_some_and(|first| first >> 4 == 6);
    let kind = if is_ipv6 {
        ETHERTYPE_IPV6
    } else {
        ETHERTYPE_IPV4
    };
    let mut header = [0; ETHERNET];
    header[..6].copy_from_slice(&BOX_MAC);
    header[6..12].copy_from_slice(&BOX_MAC);
    header[12..].copy_from_slice(&kind);
    header
}

/// Reads `struct tpacket2_hdr` and the `sockaddr_ll` behind it.
fn parse_slot(slot: &[u8]) -> Frame<'_> {
    // Aligned to 16 bytes behind the 32-byte header, in that the index is at 4.
    const ADDRESS: usize = 32;
    let word = |at: usize| u32::from_ne_bytes([slot[at], slot[at + 1], slot[at + 2], slot[at + 3]]);
    let length = word(8) as usize;
    let start = usize::from(u16::from_ne_bytes([slot[12], slot[13]]));
    Frame {
        at: Duration::new(u64::from(word(16)), word(20)),
        link: word(ADDRESS + 4),
        data: slot.get(start..start + length).unwrap_or(&[]),
    }
}

fn link_address(link: u32) -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: link.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}

fn map(fd: &OwnedFd) -> Result<Ring, Error> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping of the ring that was set up with this very size.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            SLOT * SLOTS,
            protection,
            libc::MAP_SHARED,
            fd.as_raw_fd(),
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(Error::system("map the ring of a packet socket"));
    }
    Ok(Ring {
        start: start.cast(),
    })
}

fn option<T>(fd: &OwnedFd, name: libc::c_int, value: &T) -> Result<(), Error> {
    // SAFETY: the pointer and length describe `value`, alive for the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            name,
            (&raw const *value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(Error::system("configure a packet socket"));
    }
    Ok(())
}

/// Switches checksum offload off for a link of the calling thread's namespace.
///
/// The kernel then also segments large TCP packets before they leave, so that frames on this link
/// are what they would be on a wire.
pub(crate) fn disable_offload(link: &str) -> Result<(), Error> {
    /// `ETHTOOL_STXCSUM`.
    const SET_TX_CHECKSUM: u32 = 0x17;
    let mut value = [SET_TX_CHECKSUM, 0];
    // SAFETY: ifreq is plain data for which all zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(link.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: no pointers; a returned descriptor is ours alone.
    let raw = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if raw < 0 {
        return Err(Error::system("open a socket"));
    }
    // SAFETY: `raw` was just created and nothing else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: `request` and the value it points to outlive the call.
    if unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) } < 0 {
        return Err(Error::system("switch checksum offload off"));
    }
    Ok(())
}
