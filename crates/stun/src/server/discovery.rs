//! Two addresses of a server with two ports each, by which clients find out how their NAT behaves
//! (RFC 5780).

use std::net::{IpAddr, SocketAddr};

use stun_types::{
    attribute::{AttributeType, RawAttribute},
    message::Message,
    prelude::Attribute as _,
};

/// Where a client wants its answer from (RFC 5780 section 7.2).
const CHANGE_REQUEST: AttributeType = AttributeType::new(0x0003);

/// Where it wants its answer to (RFC 5780 section 7.5).
const RESPONSE_PORT: AttributeType = AttributeType::new(0x0027);

/// The flags of CHANGE-REQUEST.
const CHANGE_IP: u32 = 0x04;
const CHANGE_PORT: u32 = 0x02;

/// Four addresses: two IP addresses of a host with the same two ports each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quad {
    /// One of them.
    pub(crate) one: SocketAddr,
    /// The one that has neither its IP address nor its port.
    pub(crate) other: SocketAddr,
}

impl Quad {
    /// Returns all four, `one` first.
    pub(crate) fn all(self) -> [SocketAddr; 4] {
        let with = |ip, port| self.changed(self.one, Change { ip, port });
        [
            self.one,
            with(false, true),
            with(true, false),
            with(true, true),
        ]
    }

    /// Returns what an answer says of the server that leaves from one of the four.
    pub(crate) fn place(self, origin: SocketAddr) -> Place {
        let both = Change {
            ip: true,
            port: true,
        };
        Place {
            origin,
            other: self.changed(origin, both),
        }
    }

    /// Returns where an answer leaves from to a request that has come to `asked` (RFC 5780, table
    /// 1).
    pub(crate) fn changed(self, asked: SocketAddr, change: Change) -> SocketAddr {
        let [one, other] = [self.one, self.other];
        let ip = match (change.ip, asked.ip() == one.ip()) {
            (false, _) => asked.ip(),
            (true, true) => other.ip(),
            (true, false) => one.ip(),
        };
        let port = match (change.port, asked.port() == one.port()) {
            (false, _) => asked.port(),
            (true, true) => other.port(),
            (true, false) => one.port(),
        };
        SocketAddr::new(ip, port)
    }
}

/// What an answer says of the server: RESPONSE-ORIGIN and OTHER-ADDRESS (RFC 5780 section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Where the answer leaves from.
    pub(crate) origin: SocketAddr,
    /// The address of the server that differs from that in both.
    pub(crate) other: SocketAddr,
}

impl Place {
    /// Returns the same with the IP addresses by which others know these.
    pub(crate) fn map(self, known_as: impl Fn(IpAddr) -> IpAddr) -> Self {
        let map = |it: SocketAddr| SocketAddr::new(known_as(it.ip()), it.port());
        Self {
            origin: map(self.origin),
            other: map(self.other),
        }
    }
}

/// What is to be changed of the address that an answer leaves from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// Whether the IP address is.
    pub(crate) ip: bool,
    /// Whether the port is.
    pub(crate) port: bool,
}

/// How a request wants to be answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// CHANGE-REQUEST.
    pub(crate) change: Change,
    /// RESPONSE-PORT.
    pub(crate) port: Option<u16>,
}

impl Wishes {
    /// Reads them. What cannot be read is left out, and refused where attributes are looked at.
    pub(crate) fn of(request: &Message<'_>) -> Self {
        let attributes = || request.iter_attributes().map(|(_, attribute)| attribute);
        Self {
            change: attributes()
                .find_map(|it| change_request(&it))
                .unwrap_or_default(),
            port: attributes().find_map(|it| response_port(&it)),
        }
    }
}

/// Tells whether an attribute is one of the two that a request may have for behaviour discovery,
/// and can be obeyed: where the answer comes from and goes to can be chosen for a datagram, of a
/// server that has four addresses.
///
/// A CHANGE-REQUEST that changes nothing can be obeyed anywhere. Clients of RFC 3489, and those of
/// others that care for such servers, send one with each request.
pub(crate) fn is_obeyed(attribute: &RawAttribute<'_>, is_chosen: bool) -> bool {
    let change = change_request(attribute);
    change.is_some_and(|it| is_chosen || it == Change::default())
        || is_chosen && response_port(attribute).is_some()
}

fn change_request(attribute: &RawAttribute<'_>) -> Option<Change> {
    let is_it = attribute.get_type() == CHANGE_REQUEST;
    let value: &[u8] = is_it.then_some(&*attribute.value)?;
    let flags = u32::from_be_bytes(value.try_into().ok()?);
    Some(Change {
        ip: flags & CHANGE_IP != 0,
        port: flags & CHANGE_PORT != 0,
    })
}

/// Reads the port, which two bytes of padding may follow.
fn response_port(attribute: &RawAttribute<'_>) -> Option<u16> {
    let is_it = attribute.get_type() == RESPONSE_PORT;
    let value: &[u8] = is_it.then_some(&*attribute.value)?;
    let port = match *value {
        [high, low] | [high, low, _, _] => u16::from_be_bytes([high, low]),
        _ => 0,
    };
    (port != 0).then_some(port)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    #[test]
    fn what_is_changed_is_what_the_table_of_the_rfc_says() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let quad = Quad {
            one: at("192.0.2.1:3478"),
            other: at("192.0.2.2:3479"),
        };
        let expected = [
            "192.0.2.1:3478",
            "192.0.2.1:3479",
            "192.0.2.2:3478",
            "192.0.2.2:3479",
        ];
        assert_eq!(quad.all(), expected.map(at));
        for (asked, ip, port, leaves) in [
            ("192.0.2.1:3478", false, false, "192.0.2.1:3478"),
            ("192.0.2.1:3479", false, true, "192.0.2.1:3478"),
            ("192.0.2.2:3478", true, false, "192.0.2.1:3478"),
            ("192.0.2.2:3478", true, true, "192.0.2.1:3479"),
            ("192.0.2.1:3479", true, true, "192.0.2.2:3478"),
        ] {
            let leaving = quad.changed(at(asked), Change { ip, port });
            assert_eq!(leaving, at(leaves), "{asked} {ip} {port}");
        }
        assert_eq!(quad.place(quad.all()[1]).other, quad.all()[2]);
    }

    #[test]
    fn only_what_can_be_done_is_obeyed() {
        for (kind, value, at_one, at_two) in [
            (CHANGE_REQUEST, &[0, 0, 0, 0][..], true, true),
            (CHANGE_REQUEST, &[0, 0, 0, 2], false, true),
            (CHANGE_REQUEST, &[0, 0, 0, 6], false, true),
            (CHANGE_REQUEST, &[0, 0, 6], false, false),
            (RESPONSE_PORT, &[1, 2], false, true),
            (RESPONSE_PORT, &[1, 2, 0, 0], false, true),
            (RESPONSE_PORT, &[0, 0, 0, 0], false, false),
            (RESPONSE_PORT, &[1], false, false),
            (AttributeType::new(0x0026), &[0; 8], false, false),
        ] {
            let attribute = RawAttribute::new(kind, value);
            assert_eq!(is_obeyed(&attribute, false), at_one, "{kind:?} {value:?}");
            assert_eq!(is_obeyed(&attribute, true), at_two, "{kind:?} {value:?}");
        }
    }
}
