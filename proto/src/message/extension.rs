//! What later versions, and peers among themselves, add to messages.

use crate::codec::wire::{Wire, fields, read_list, write_list};

/// The most extensions of one message, or of one peer.
pub const MAX_EXTENSIONS: usize = 32;

/// The most bytes of all values in the extensions of one message.
pub const MAX_EXTENSION_BYTES: usize = 4 * 1024;

/// The most bytes that a peer tells its peers of itself by way of the coordinator.
pub const MAX_PEER_EXTENSIONS: usize = 1024;

/// The type, in a welcome, of the name of the registry that several coordinators share: a peer that
/// has registered at one of them can be dialled at all of them.
pub const CLUSTER: u16 = 1;

/// The most bytes of such a name.
pub const MAX_CLUSTER: usize = 64;

/// The type, in a welcome, of a [`Succession`](crate::Succession): the coordinator changes its key.
pub const SUCCESSION: u16 = 4;

/// The bit of a type that says that the extension must not be passed over.
const REQUIRED: u16 = 0x8000;

/// Something that a message says besides what its version defines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// The number of what it is. One with the highest bit set must not be passed over by a receiver
    /// that does not know it.
    pub kind: u16,
    /// What it says.
    pub value: Vec<u8>,
}
fields!(Extension { kind, value });

/// The extensions of a message, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extensions(pub Vec<Extension>);

impl Wire for Extensions {
    fn write(&self, out: &mut Vec<u8>) {
        write_list(&self.0, out);
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        read_list(bytes, MAX_EXTENSIONS).map(Self)
    }
}

impl Extensions {
    /// Reads what a peer tells of itself. What is malformed, or too much, counts as nothing.
    #[must_use]
    pub fn of_peer(mut bytes: &[u8]) -> Self {
        let are_few = bytes.len() <= MAX_PEER_EXTENSIONS;
        let read = Self::read(&mut bytes).filter(|it| it.are_within_limits());
        read.filter(|_| are_few && bytes.is_empty())
            .unwrap_or_default()
    }

    /// Returns what a peer tells of itself as bytes.
    #[must_use]
    pub fn to_peer(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        bytes
    }

    /// Tells whether there are no more of them than allowed, in number and in bytes.
    #[must_use]
    pub fn are_within_limits(&self) -> bool {
        let bytes: usize = self.0.iter().map(|it| it.value.len()).sum();
        self.0.len() <= MAX_EXTENSIONS && bytes <= MAX_EXTENSION_BYTES
    }

    /// Returns what the first extension of a type says.
    #[must_use]
    pub fn value(&self, kind: u16) -> Option<&[u8]> {
        let found = self.0.iter().find(|it| it.kind == kind)?;
        Some(&found.value)
    }

    /// Returns the first type that this version does not know and must not pass over. It knows none
    /// that is required.
    #[must_use]
    pub fn unknown_required(&self) -> Option<u16> {
        let mut kinds = self.0.iter().map(|it| it.kind);
        kinds.find(|kind| kind & REQUIRED != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kinds: &[u16], bytes: usize) -> Extensions {
        let extension = |&kind: &u16| Extension {
            kind,
            value: vec![7; bytes],
        };
        Extensions(kinds.iter().map(extension).collect())
    }

    #[test]
    fn the_highest_bit_says_what_must_not_be_passed_over() {
        assert_eq!(of(&[], 0).unknown_required(), None);
        assert_eq!(of(&[0, 1, 0x7FFF], 3).unknown_required(), None);
        assert_eq!(of(&[1, 0x8002, 0xFFFF], 3).unknown_required(), Some(0x8002));
    }

    #[test]
    fn of_several_of_one_type_the_first_counts() {
        let mut several = of(&[1, 2, 2], 3);
        several.0[2].value = vec![9];
        assert_eq!(several.value(2), Some(&[7; 3][..]));
        assert_eq!(several.value(3), None);
    }

    #[test]
    fn there_are_no_more_than_allowed() {
        assert!(of(&[1; MAX_EXTENSIONS], MAX_EXTENSION_BYTES / MAX_EXTENSIONS).are_within_limits());
        assert!(!of(&[1; MAX_EXTENSIONS + 1], 0).are_within_limits());
        assert!(!of(&[1, 2], MAX_EXTENSION_BYTES / 2 + 1).are_within_limits());
    }

    #[test]
    fn what_a_peer_tells_is_read_whole_or_not_at_all() {
        let told = of(&[1, 2, 0x8003], 5);
        let bytes = told.to_peer();
        assert_eq!(Extensions::of_peer(&bytes), told);
        for len in 0..bytes.len() {
            assert_eq!(Extensions::of_peer(&bytes[..len]), Extensions::default());
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Extensions::of_peer(&longer), Extensions::default());
        let too_many = of(&[1; MAX_EXTENSIONS + 1], 0).to_peer();
        assert_eq!(Extensions::of_peer(&too_many), Extensions::default());
        let too_long = of(&[1], MAX_PEER_EXTENSIONS).to_peer();
        assert_eq!(Extensions::of_peer(&too_long), Extensions::default());
    }
}
