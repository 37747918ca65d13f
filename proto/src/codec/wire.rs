//! How each type is written and read (PROTOCOL.md, "Encoding").
//!
//! Whatever is too long for the length in front of it makes a frame that is too long as well, so
//! that nothing wrong is sent.

use std::net::{IpAddr, SocketAddr};

/// What has an encoding.
pub trait Wire: Sized {
    /// Appends the encoding.
    fn write(&self, out: &mut Vec<u8>);

    /// Takes a value off the front of `bytes`, or returns `None` where there is none.
    fn read(bytes: &mut &[u8]) -> Option<Self>;

    /// Takes a value off that may be of a kind that this version does not know: `Some(None)` then.
    /// Only for types whose encoding tells its own length in that case too.
    fn read_known(bytes: &mut &[u8]) -> Option<Option<Self>> {
        Self::read(bytes).map(Some)
    }
}

macro_rules! integers {
    ($($integer:ty),*) => {
        $(impl Wire for $integer {
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn read(bytes: &mut &[u8]) -> Option<Self> {
                Wire::read(bytes).map(Self::from_be_bytes)
            }
        })*
    };
}
integers!(u8, u16, u32, u64);

impl<const N: usize> Wire for [u8; N] {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        let (array, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(*array)
    }
}

impl Wire for bool {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        match u8::read(bytes)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl<T: Wire> Wire for Option<T> {
    fn write(&self, out: &mut Vec<u8>) {
        self.is_some().write(out);
        if let Some(value) = self {
            value.write(out);
        }
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        match bool::read(bytes)? {
            true => T::read(bytes).map(Some),
            false => Some(None),
        }
    }

    /// What is of an unknown kind counts as absent.
    fn read_known(bytes: &mut &[u8]) -> Option<Option<Self>> {
        match bool::read(bytes)? {
            true => T::read_known(bytes).map(Some),
            false => Some(Some(None)),
        }
    }
}

/// Bytes, with their number in front.
impl Wire for Vec<u8> {
    fn write(&self, out: &mut Vec<u8>) {
        count(self.len()).write(out);
        out.extend_from_slice(self);
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        take(bytes).map(<[u8]>::to_vec)
    }
}

const IPV4: u8 = 4;
const IPV6: u8 = 6;

/// Without the scope and flow label of IPv6, which mean something on one host only.
impl Wire for SocketAddr {
    fn write(&self, out: &mut Vec<u8>) {
        match self.ip() {
            IpAddr::V4(ip) => {
                out.push(IPV4);
                ip.octets().write(out);
            }
            IpAddr::V6(ip) => {
                out.push(IPV6);
                ip.octets().write(out);
            }
        }
        self.port().write(out);
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        let ip: IpAddr = match u8::read(bytes)? {
            IPV4 => <[u8; 4]>::read(bytes)?.into(),
            IPV6 => <[u8; 16]>::read(bytes)?.into(),
            _ => return None,
        };
        Some(Self::new(ip, Wire::read(bytes)?))
    }
}

/// Returns a number of items or bytes as it is written.
fn count(items: usize) -> u16 {
    u16::try_from(items).unwrap_or(u16::MAX)
}

/// Takes bytes off that have their number in front.
fn take<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u16::read(bytes)?;
    let (taken, rest) = bytes.split_at_checked(length.into())?;
    *bytes = rest;
    Some(taken)
}

/// Appends a list, with the number of its items in front.
pub(crate) fn write_list<T: Wire>(list: &[T], out: &mut Vec<u8>) {
    count(list.len()).write(out);
    for item in list {
        item.write(out);
    }
}

/// Takes a list off, without the items of unknown kinds. Of one that has more than `most` others,
/// one more is kept, so that the receiver can say what is wrong with it.
pub(crate) fn read_list<T: Wire>(bytes: &mut &[u8], most: usize) -> Option<Vec<T>> {
    let items = u16::read(bytes)?;
    // Each item has a byte at least, so that nothing is taken for what is not there.
    let room = usize::from(items).min(most + 1).min(bytes.len());
    let mut kept = Vec::with_capacity(room);
    for _ in 0..items {
        let item = T::read_known(bytes)?;
        if kept.len() <= most {
            kept.extend(item);
        }
    }
    Some(kept)
}

/// Appends what `write` does, with its length in front.
pub(crate) fn write_sized(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    0_u16.write(out);
    let fields = out.len();
    write(out);
    let length = count(out.len() - fields).to_be_bytes();
    out[start..fields].copy_from_slice(&length);
}

/// Takes off what has its length in front, and returns what `read` makes of it: `Some(None)` where
/// it makes nothing of it. Bytes behind what it reads are ignored.
pub(crate) fn read_sized<T>(
    bytes: &mut &[u8],
    read: impl FnOnce(&mut &[u8]) -> Option<T>,
) -> Option<Option<T>> {
    let mut fields = take(bytes)?;
    Some(read(&mut fields))
}

/// Implements [`Wire`] for a struct: its fields in this order. A list is followed by the most items
/// that it may have, in brackets. With `sized` in front, the struct has its length in front, and
/// one that cannot be read is of an unknown kind.
macro_rules! fields {
    ($name:ident { $($field:tt $([$most:expr])?),* $(,)? }) => {
        impl $crate::codec::Wire for $name {
            fn write(&self, out: &mut Vec<u8>) {
                $($crate::codec::wire::fields!(@write out, &self.$field $(, $most)?);)*
            }

            fn read(bytes: &mut &[u8]) -> Option<Self> {
                Some(Self {
                    $($field: $crate::codec::wire::fields!(@read bytes $(, $most)?)),*
                })
            }
        }
    };
    (sized $name:ident { $($field:tt $([$most:expr])?),* $(,)? }) => {
        impl $crate::codec::Wire for $name {
            fn write(&self, out: &mut Vec<u8>) {
                $crate::codec::wire::write_sized(out, |out| {
                    $($crate::codec::wire::fields!(@write out, &self.$field $(, $most)?);)*
                });
            }

            fn read(bytes: &mut &[u8]) -> Option<Self> {
                <Self as $crate::codec::Wire>::read_known(bytes)?
            }

            fn read_known(bytes: &mut &[u8]) -> Option<Option<Self>> {
                $crate::codec::wire::read_sized(bytes, |bytes| Some(Self {
                    $($field: $crate::codec::wire::fields!(@read bytes $(, $most)?)),*
                }))
            }
        }
    };
    (@write $out:ident, $field:expr) => { $crate::codec::Wire::write($field, $out) };
    (@write $out:ident, $field:expr, $most:expr) => {
        $crate::codec::wire::write_list($field, $out)
    };
    (@read $bytes:ident) => { $crate::codec::Wire::read($bytes)? };
    (@read $bytes:ident, $most:expr) => { $crate::codec::wire::read_list($bytes, $most)? };
}

/// Implements [`Wire`] for an enum without fields: a number. A variant behind the others holds a
/// number that is written, and never read.
macro_rules! numbers {
    ($name:ident { $($number:literal $variant:ident),* $(; $written:ident)? $(,)? }) => {
        impl $crate::codec::Wire for $name {
            fn write(&self, out: &mut Vec<u8>) {
                let number: u16 = match self {
                    $(Self::$variant => $number,)*
                    $(Self::$written(number) => *number,)?
                };
                $crate::codec::Wire::write(&number, out);
            }

            fn read(bytes: &mut &[u8]) -> Option<Self> {
                <Self as $crate::codec::Wire>::read_known(bytes)?
            }

            fn read_known(bytes: &mut &[u8]) -> Option<Option<Self>> {
                Some(match <u16 as $crate::codec::Wire>::read(bytes)? {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                })
            }
        }
    };
}

/// Implements [`Wire`] for the messages of one direction: the number of the kind and what belongs
/// to it. What is of another kind is an `Unknown`, to which everything up to the end belongs.
macro_rules! kinds {
    ($name:ident { $($number:literal $variant:ident $(($fields:ident))?),* $(,)? }) => {
        impl $crate::codec::Wire for $name {
            fn write(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant $(($fields))? => {
                        let kind: u16 = $number;
                        $crate::codec::Wire::write(&kind, out);
                        $($crate::codec::Wire::write($fields, out);)?
                    })*
                    Self::Unknown(unknown) => {
                        $crate::codec::Wire::write(&unknown.kind, out);
                        out.extend_from_slice(&unknown.fields);
                    }
                }
            }

            fn read(bytes: &mut &[u8]) -> Option<Self> {
                Some(match <u16 as $crate::codec::Wire>::read(bytes)? {
                    $($number => {
                        $(let $fields = $crate::codec::Wire::read(bytes)?;)?
                        Self::$variant $(($fields))?
                    })*
                    kind => Self::Unknown(Unknown {
                        kind,
                        fields: std::mem::take(bytes).to_vec(),
                    }),
                })
            }
        }
    };
}

pub(crate) use {fields, kinds, numbers};
