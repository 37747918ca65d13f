//! What ICMP errors mean to a connection attempt: Linux's `icmp_err_convert`,
//! `tcp_v4_err`, `icmpv6_err_convert` and `tcp_v6_err`.

use crate::{packet::Icmp, virtual_time::socket::Failure};

/// Returns how an attempt ends that gets this error, if it does, and whether the half-open
/// connection of a listener ends with it.
pub(super) fn meaning(error: &Icmp, ipv4: bool) -> Option<(Failure, bool)> {
    if ipv4 {
        meaning_v4(error.kind, error.code)
    } else {
        meaning_v6(error.kind, error.code)
    }
}

/// Returns whether the error will not pass by itself: it ends a connected UDP socket's call, which
/// others do not.
pub(super) const fn is_lasting(error: &Icmp, ipv4: bool) -> bool {
    match (ipv4, error.kind, error.code) {
        (true, 3, code) => matches!(code, 2 | 3 | 6..=10 | 13..=15),
        (true, kind, _) => kind == 12,
        (false, 1, code) => matches!(code, 1 | 4..=6),
        (false, kind, _) => kind == 4,
    }
}

/// RFC 792, RFC 1122 section 3.2.2.1 and RFC 1812 section 5.2.7.1 for the codes.
fn meaning_v4(kind: u8, code: u8) -> Option<(Failure, bool)> {
    let ends_half_open = kind != 3 || code < 2;
    let failure = match (kind, code) {
        (3, 0 | 6 | 9 | 11) => Failure::NetworkUnreachable,
        // 8 (source host isolated) is ENONET, which nobody tells apart.
        (3, 1 | 7 | 8 | 10 | 12..=15) | (11, _) => Failure::HostUnreachable,
        (3, 2) => Failure::ProtocolUnreachable,
        (3, 3) => Failure::Refused,
        // Fragmentation needed: the path has a smaller MTU, and no SYN is big.
        (3, 4) => return None,
        (3, _) | (12, _) => Failure::ProtocolError,
        _ => return None,
    };
    Some((failure, ends_half_open))
}

/// RFC 4443 section 3 for the types and codes.
fn meaning_v6(kind: u8, code: u8) -> Option<(Failure, bool)> {
    let ends_half_open = kind == 4 || (kind == 1 && matches!(code, 1 | 4..=6));
    let failure = match (kind, code) {
        (1, 0) => Failure::NetworkUnreachable,
        (1, 1 | 5 | 6) => Failure::Prohibited,
        (1, 2 | 3) | (3, _) => Failure::HostUnreachable,
        (1, 4) => Failure::Refused,
        (1, _) | (4, _) => Failure::ProtocolError,
        _ => return None,
    };
    Some((failure, ends_half_open))
}
