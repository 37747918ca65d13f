//! Building and reading netlink messages as bytes.

/// Length of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;

/// Attribute types carry flags in their two upper bits.
const ATTRIBUTE_TYPE_MASK: u16 = 0x3fff;

/// `NLA_F_NESTED`: nf_tables refuses nests without it since Linux 5.2.
const NESTED: u16 = 1 << 15;

/// One netlink message under construction.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// Starts a message with the given type and `NLM_F_*` flags.
    pub(crate) fn new(kind: u16, flags: i32) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        // All NLM_F_* flags fit the header's 16 bits.
        bytes[6..8].copy_from_slice(&(flags as u16).to_ne_bytes());
        Self { bytes }
    }

    /// Appends raw bytes, such as the fixed header of a family.
    pub(crate) fn raw(mut self, data: &[u8]) -> Self {
        self.bytes.extend_from_slice(data);
        self.pad();
        self
    }

    /// Appends an attribute.
    pub(crate) fn attribute(mut self, kind: u16, data: &[u8]) -> Self {
        let length = (4 + data.len()) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(data);
        self.pad();
        self
    }

    /// Appends a 32-bit attribute in host order, as rtnetlink wants it.
    pub(crate) fn u32(self, kind: u16, value: u32) -> Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// Appends a 32-bit attribute in network order, as nfnetlink wants it.
    pub(crate) fn be32(self, kind: u16, value: u32) -> Self {
        self.attribute(kind, &value.to_be_bytes())
    }

    /// Appends a string attribute with its terminating zero.
    pub(crate) fn string(self, kind: u16, text: &str) -> Self {
        let mut data = Vec::with_capacity(text.len() + 1);
        data.extend_from_slice(text.as_bytes());
        data.push(0);
        self.attribute(kind, &data)
    }

    /// Appends an attribute that holds what `fill` appends.
    pub(crate) fn nest(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        let mut filled = fill(self);
        let length = (filled.bytes.len() - start) as u16;
        filled.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        filled.bytes[start + 2..start + 4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
        filled
    }

    /// Writes length and sequence number and appends the message to `out`.
    pub(crate) fn finish_into(mut self, sequence: u32, out: &mut Vec<u8>) {
        let length = self.bytes.len() as u32;
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        out.extend_from_slice(&self.bytes);
    }

    /// Returns whether the kernel is asked to acknowledge the message.
    pub(crate) fn wants_ack(&self) -> bool {
        u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) & (libc::NLM_F_ACK as u16) != 0
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}

/// A message as received: its type and what follows the header.
#[derive(Debug)]
pub(crate) struct Received<'a> {
    pub(crate) kind: u16,
    pub(crate) sequence: u32,
    pub(crate) body: &'a [u8],
}

/// Splits a received datagram into its messages; stops at the first malformed one.
pub(crate) fn messages(mut datagram: &[u8]) -> Vec<Received<'_>> {
    let mut found = Vec::new();
    while let Some(header) = datagram.get(..HEADER) {
        let length = read_u32(header, 0) as usize;
        let Some(body) = datagram.get(HEADER..length) else {
            break;
        };
        found.push(Received {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            sequence: read_u32(header, 8),
            body,
        });
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    found
}

/// Iterates over the attributes in `data`; stops at the first malformed one.
pub(crate) fn attributes(mut data: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let head = data.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]) & ATTRIBUTE_TYPE_MASK;
        let value = data.get(4..length)?;
        data = data.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

/// Returns the first attribute of type `wanted`.
pub(crate) fn find(data: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(data).find_map(|(kind, value)| (kind == wanted).then_some(value))
}

/// Reads a host-order 32-bit number; 0 where `data` is too short.
pub(crate) fn read_u32(data: &[u8], offset: usize) -> u32 {
    data.get(offset..offset + 4)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nest_is_read_back_with_its_padding() {
        let message = Message::new(7, 1)
            .raw(&[1, 2, 3, 4])
            .nest(5, |m| m.string(1, "ab").be32(2, 9));
        let mut bytes = Vec::new();
        message.finish_into(42, &mut bytes);

        let parsed = messages(&bytes);
        assert_eq!(parsed.len(), 1);
        assert_eq!((parsed[0].kind, parsed[0].sequence), (7, 42));
        let nest = find(&parsed[0].body[4..], 5).expect("the nest was written");
        assert_eq!(find(nest, 1), Some(&b"ab\0"[..]));
        assert_eq!(find(nest, 2), Some(&[0, 0, 0, 9][..]));
    }

    #[test]
    fn truncated_input_ends_the_iteration() {
        assert!(messages(&[9; 15]).is_empty());
        assert!(messages(&[255; 16]).is_empty());
        assert_eq!(attributes(&[8, 0, 1, 0, 1]).count(), 0);
        assert_eq!(attributes(&[0, 0, 1, 0, 1]).count(), 0);
    }
}
