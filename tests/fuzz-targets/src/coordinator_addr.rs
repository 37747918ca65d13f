//! What a person types in a coordinator's place.

use std::net::IpAddr;

use p2pconnect_proto::{CoordinatorAddr, PeerId, parse_host};

use crate::says_why;

/// Takes an input for what a person types in a coordinator's place, and for what stands behind the
/// `@` there.
///
/// What is understood is shown as it can be typed again. Nothing is understood that looks like
/// something else than it is taken for.
pub fn coordinator_addr(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    check(text);
    check(&format!("{}@{text}", PeerId::from_public_key([1; 32])));
}

fn check(text: &str) {
    let address: CoordinatorAddr = match text.parse() {
        Ok(address) => address,
        Err(why) => return says_why(&why, text.as_bytes()),
    };
    let shown = address.to_string();
    assert_eq!(shown.parse().as_ref(), Ok(&address), "{shown}");
    let CoordinatorAddr {
        id,
        host,
        port,
        web,
    } = &address;
    assert_eq!(id.to_string().parse().as_ref(), Ok(id));
    assert!(!id.is_forgeable());
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || "@,/[]".contains(c);
    assert!(!host.is_empty() && !host.contains(is_odd), "{host:?}");
    assert!(
        host.parse().is_ok_and(|ip: IpAddr| !ip.is_unspecified())
            || host.parse::<IpAddr>().is_err()
    );
    if let Some(web) = web {
        assert!(web.path.starts_with('/') && !web.path.contains(|c: char| c.is_control()));
        return;
    }
    let (typed, typed_port) = text.split_once('@').unwrap().1.rsplit_once(':').unwrap();
    assert_eq!(parse_host(typed), Ok(host.as_str()));
    let is_number = typed_port.bytes().all(|it| it.is_ascii_digit());
    assert!(is_number && *port != 0, "{typed_port:?} is no port");
}
