//! Values that a target takes off the front of its input.

use std::net::{IpAddr, SocketAddr};

/// Takes values off the front of an input. Where no bytes are left, they are 0.
#[derive(Debug, Clone)]
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns what has not been taken.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let (taken, rest) = self.0.split_at(N.min(self.0.len()));
        self.0 = rest;
        let mut array = [0; N];
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    pub(crate) fn u8(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    /// Returns one of several things, by a byte.
    pub(crate) fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[usize::from(self.u8()) % of.len()].clone()
    }

    /// Returns an address of either family, by an even or odd byte, and a port.
    pub(crate) fn address(&mut self) -> SocketAddr {
        let ip: IpAddr = if self.u8().is_multiple_of(2) {
            self.array::<4>().into()
        } else {
            self.array::<16>().into()
        };
        SocketAddr::new(ip, self.u16())
    }
}
