//! Writing capture files (draft-ietf-opsawg-pcapng).

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::Path,
    time::Duration,
};

const SECTION_HEADER: u32 = 0x0A0D_0D0A;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER_MAGIC: u32 = 0x1A2B_3C4D;
/// IPv4 and IPv6 packets behind [`FAMILY`] bytes that tell which. LINKTYPE_RAW has none, but
/// libpcap, and so tcpdump, refuses it where there are several interfaces: it compares the number
/// 101 with its own, which is 12 (1.10.3).
const LINKTYPE_NULL: u16 = 0;
const FAMILY: usize = 4;
/// The families as BSD numbers them, and with `AF_INET6` as macOS does.
const AF_INET: u32 = 2;
const AF_INET6: u32 = 30;
const OPTION_COMMENT: u16 = 1;
const OPTION_INTERFACE_NAME: u16 = 2;
const OPTION_RESOLUTION: u16 = 9;
const OPTION_PACKET_FLAGS: u16 = 2;
/// Ten to the minus ninth of a second.
const NANOSECONDS: u8 = 9;

/// A capture file with one interface for each end of each link.
#[derive(Debug)]
pub(crate) struct PcapngWriter {
    file: BufWriter<File>,
    snap_length: usize,
    /// Whether what is seen at an interface is written; all is if nothing is told.
    is_kept: Vec<bool>,
}

impl PcapngWriter {
    /// Creates the file and describes one interface for each name.
    pub(crate) fn create(
        path: &Path,
        snap_length: usize,
        interfaces: impl Iterator<Item = String>,
    ) -> io::Result<Self> {
        let mut writer = Self {
            file: BufWriter::new(File::create(path)?),
            snap_length,
            is_kept: Vec::new(),
        };
        let mut section = BYTE_ORDER_MAGIC.to_ne_bytes().to_vec();
        // Version 1.0, and a section of unknown length.
        section.extend_from_slice(&1u16.to_ne_bytes());
        section.extend_from_slice(&0u16.to_ne_bytes());
        section.extend_from_slice(&u64::MAX.to_ne_bytes());
        writer.block(SECTION_HEADER, &section)?;
        for name in interfaces {
            let mut body = LINKTYPE_NULL.to_ne_bytes().to_vec();
            body.extend_from_slice(&0u16.to_ne_bytes());
            body.extend_from_slice(&((FAMILY + snap_length) as u32).to_ne_bytes());
            option(&mut body, OPTION_INTERFACE_NAME, name.as_bytes());
            option(&mut body, OPTION_RESOLUTION, &[NANOSECONDS]);
            option(&mut body, 0, &[]);
            writer.block(INTERFACE, &body)?;
        }
        Ok(writer)
    }

    /// Leaves out what is seen at interfaces that are not kept.
    pub(crate) fn only(mut self, is_kept: impl Iterator<Item = bool>) -> Self {
        self.is_kept = is_kept.collect();
        self
    }

    /// Writes an IP packet that leaves the interface, or comes to it; `at` counts from 1970.
    pub(crate) fn packet(
        &mut self,
        interface: u32,
        at: Duration,
        packet: &[u8],
        leaves: bool,
        comment: Option<&str>,
    ) -> io::Result<()> {
        if self.is_kept.get(interface as usize) == Some(&false) {
            return Ok(());
        }
        let kept = &packet[..packet.len().min(self.snap_length)];
        let at = at.as_nanos() as u64;
        let family = match packet.first() {
            Some(first) if first >> 4 == 6 => AF_INET6,
            _ => AF_INET,
        };
        let mut body = Vec::with_capacity(64 + kept.len());
        for value in [
            interface,
            (at >> 32) as u32,
            (at & u64::from(u32::MAX)) as u32,
            (FAMILY + kept.len()) as u32,
            (FAMILY + packet.len()) as u32,
            family,
        ] {
            body.extend_from_slice(&value.to_ne_bytes());
        }
        body.extend_from_slice(kept);
        pad(&mut body);
        // The lowest two bits: 1 is inbound, 2 is outbound.
        let flags: u32 = if leaves { 2 } else { 1 };
        option(&mut body, OPTION_PACKET_FLAGS, &flags.to_ne_bytes());
        if let Some(comment) = comment {
            option(&mut body, OPTION_COMMENT, comment.as_bytes());
        }
        option(&mut body, 0, &[]);
        self.block(ENHANCED_PACKET, &body)
    }

    /// Writes out what is buffered.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let length = (12 + body.len()) as u32;
        self.file.write_all(&kind.to_ne_bytes())?;
        self.file.write_all(&length.to_ne_bytes())?;
        self.file.write_all(body)?;
        self.file.write_all(&length.to_ne_bytes())
    }
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend_from_slice(&code.to_ne_bytes());
    body.extend_from_slice(&(value.len() as u16).to_ne_bytes());
    body.extend_from_slice(value);
    pad(body);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}
