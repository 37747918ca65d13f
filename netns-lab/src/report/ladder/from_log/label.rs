//! A packet in a few words.

use crate::packet::{Body, Headers, IcmpContent, Segment, Unread};

/// Returns a packet in a few words. Its source address is left out, since a ladder shows where it
/// comes from.
pub(super) fn of(packet: &[u8]) -> String {
    let Some(Headers { ip, body }) = Headers::read(packet) else {
        return "malformed packet".into();
    };
    let destination = ip.destination;
    match body {
        Body::Tcp(segment) => tcp(&segment),
        Body::Icmp(icmp) => match icmp.content {
            IcmpContent::Echo(echo) if echo.is_echo_request => {
                format!("echo request > {destination}")
            }
            IcmpContent::Echo(_) => format!("echo reply > {destination}"),
            IcmpContent::Error(_) | IcmpContent::Other => {
                format!("ICMP {}/{} > {destination}", icmp.kind, icmp.code)
            }
        },
        Body::Unread(Unread::Malformed) => format!("malformed {} > {destination}", ip.protocol),
        Body::Udp(_) | Body::Unread(_) => format!("{} {ip}", ip.protocol),
    }
}

fn tcp(segment: &Segment) -> String {
    let (flow, length) = (&segment.flow, segment.payload);
    let flags = flow.flags;
    let names = [
        (flags.has_syn(), "SYN"),
        (flags.is_fin(), "FIN"),
        (flags.is_rst(), "RST"),
    ];
    let set = names.iter().filter(|(is_set, _)| *is_set);
    let mut names: Vec<_> = set.map(|(_, name)| *name).collect();
    if flags.is_ack() && (length == 0 || !names.is_empty()) {
        names.push("ACK");
    }
    let mut text = names.join(",");
    if length > 0 {
        let space = if text.is_empty() { "" } else { " " };
        text = format!("{text}{space}{length} bytes");
    }
    format!("{text} :{} > {}", flow.source.port(), flow.destination)
}
