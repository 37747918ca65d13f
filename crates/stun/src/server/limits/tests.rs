#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use super::*;

const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

fn limits(connections: usize, per_address: usize, burst: u32) -> Limits {
    Limits::new(&StunServerConfig {
        max_connections: connections,
        max_connections_per_address: per_address,
        requests_per_second: 10,
        request_burst: burst,
        ..StunServerConfig::default()
    })
}

#[test]
fn connections_are_limited_by_address_and_altogether() {
    let (mut limits, now) = (limits(3, 2, 100), Instant::now());
    limits.admit(ONE, now).unwrap();
    limits.admit(ONE, now).unwrap();
    assert_eq!(limits.admit(ONE, now), Err(Refusal::AddressFull));
    limits.admit(OTHER, now).unwrap();
    assert_eq!(limits.admit(OTHER, now), Err(Refusal::Full));
    limits.release(ONE, now);
    limits.admit(OTHER, now).unwrap();
    assert_eq!(limits.connections(), 3);
}

#[test]
fn a_burst_is_free_then_answers_wait_then_the_limit_ends_it() {
    let (mut limits, now) = (limits(9, 9, 5), Instant::now());
    for _ in 0..5 {
        assert_eq!(limits.charge(ONE, now), Ok(Duration::ZERO));
    }
    for waiting in 1..=40 {
        let delay = Duration::from_millis(100) * waiting;
        assert_eq!(limits.charge(ONE, now), Ok(delay));
    }
    assert_eq!(limits.charge(ONE, now), Err(Refusal::TooFast));
    assert_eq!(limits.charge(OTHER, now), Ok(Duration::ZERO));
    // A refused request costs nothing, so the rate recovers.
    let later = now + Duration::from_secs(1);
    assert_eq!(limits.charge(ONE, later), Ok(Duration::from_millis(3100)));
}

#[test]
fn peers_behind_one_address_are_served_by_default() {
    const PEERS: usize = 512;
    let (mut limits, now) = (Limits::new(&StunServerConfig::default()), Instant::now());
    let ask = |limits: &mut Limits, now| {
        assert_eq!(limits.charge(ONE, now), Ok(Duration::ZERO));
    };
    // All of them have got another address at the same moment. Two punch ports at two servers each.
    for _ in 0..4 * PEERS {
        limits.admit(ONE, now).unwrap();
        ask(&mut limits, now);
    }
    // Questions about the ports that the NAT gives out, and three about what it lets in, which
    // count twice.
    for _ in 0..PEERS {
        for requests in [[1; 13].as_slice(), &[6]].concat() {
            limits.admit(ONE, now).unwrap();
            for _ in 0..requests {
                ask(&mut limits, now);
            }
            limits.release(ONE, now);
        }
    }
    // Then they hold their mappings.
    for minute in 1..60 {
        for quarter in 0..4 {
            let now = now + Duration::from_secs(60 * minute + 15 * quarter);
            for _ in 0..4 * PEERS {
                ask(&mut limits, now);
            }
        }
    }
    assert_eq!(limits.connections(), 4 * PEERS);
}

#[test]
fn addresses_of_one_ipv6_prefix_count_as_one() {
    let (mut limits, now) = (limits(9, 1, 100), Instant::now());
    limits.admit("2001:db8::1".parse().unwrap(), now).unwrap();
    assert_eq!(
        limits.admit("2001:db8::2:3:4:5".parse().unwrap(), now),
        Err(Refusal::AddressFull)
    );
    limits
        .admit("2001:db8:0:1::1".parse().unwrap(), now)
        .unwrap();
}

#[test]
fn the_table_forgets_addresses_that_have_gone() {
    let (mut limits, now) = (limits(4, 4, 1), Instant::now());
    for host in 0..100_u8 {
        let ip = IpAddr::from([198, 51, 100, host]);
        limits.admit(ip, now).unwrap();
        limits.release(ip, now);
        assert!(limits.addresses.len() <= 8);
    }
    let later = now + Duration::from_secs(1);
    limits.admit(ONE, later).unwrap();
    limits.release(ONE, later + Duration::from_secs(1));
    assert!(!limits.addresses.contains_key(&ONE));
}
