//! Tests of how many connections a server has from whom.

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

fn refusal(limits: &mut Limits, ip: IpAddr, now: Instant) -> Refusal {
    limits.admit(ip, now).unwrap_err()
}

fn is_ended(admitted: &mut Admitted) -> bool {
    admitted.end.try_recv() == Err(oneshot::error::TryRecvError::Closed)
}

#[test]
fn connections_are_limited_by_address_and_altogether() {
    let (mut limits, now) = (limits(3, 2, 100), Instant::now());
    let first = limits.admit(ONE, now).unwrap();
    limits.admit(ONE, now).unwrap();
    assert_eq!(refusal(&mut limits, ONE, now), Refusal::NetworkFull);
    limits.admit(OTHER, now).unwrap();
    assert_eq!(refusal(&mut limits, OTHER, now), Refusal::Full);
    limits.release(first.id, now);
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
            let admitted = limits.admit(ONE, now).unwrap();
            for _ in 0..requests {
                ask(&mut limits, now);
            }
            limits.release(admitted.id, now);
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
    let neighbour = "2001:db8::2:3:4:5".parse().unwrap();
    assert_eq!(refusal(&mut limits, neighbour, now), Refusal::NetworkFull);
    limits
        .admit("2001:db8:0:1::1".parse().unwrap(), now)
        .unwrap();
}

#[test]
fn clients_behind_a_translator_are_told_apart() {
    let networks = |text: &str| Network::all_of(text.parse().unwrap());
    for form in ["::ffff:192.0.2.1", "64:ff9b::192.0.2.1", "2002:c000:201::1"] {
        assert_eq!(networks(form), networks("192.0.2.1"), "{form}");
    }
}

#[test]
fn the_table_forgets_addresses_that_have_gone() {
    let (mut limits, now) = (limits(4, 4, 1), Instant::now());
    for host in 0..100_u8 {
        let ip = IpAddr::from([198, 51, 100, host]);
        let admitted = limits.admit(ip, now).unwrap();
        limits.release(admitted.id, now);
        assert!(limits.networks.len() <= 8);
    }
    let later = now + Duration::from_secs(1);
    let admitted = limits.admit(ONE, later).unwrap();
    limits.release(admitted.id, later + Duration::from_secs(1));
    let [network] = Network::all_of(ONE)[..] else {
        panic!("an IPv4 address is one network");
    };
    assert!(!limits.networks.contains_key(&network));
}

#[test]
fn the_quietest_connection_of_the_fullest_network_makes_room() {
    let (mut limits, now) = (limits(4, 4, 100), Instant::now());
    let third = IpAddr::from([192, 0, 2, 3]);
    let mut at_one: Vec<_> = (0..3).map(|_| limits.admit(ONE, now).unwrap()).collect();
    let mut at_other = limits.admit(OTHER, now).unwrap();
    let later = now + Duration::from_secs(15);
    limits.heard(at_one[0].id, later);
    limits.admit(third, later).unwrap();
    assert!(is_ended(&mut at_one[1]));
    assert!(!is_ended(&mut at_one[0]) && !is_ended(&mut at_one[2]) && !is_ended(&mut at_other));
    assert_eq!(limits.connections(), 4);
    // One that is forgotten is not forgotten twice.
    limits.release(at_one[1].id, later);
    assert_eq!(limits.connections(), 4);
    // Shares are even now: nobody is thrown out for a second connection of somebody else.
    assert_eq!(refusal(&mut limits, third, later), Refusal::Full);
}

#[test]
fn a_quiet_connection_makes_room_for_another_one_of_its_network() {
    let (mut limits, now) = (limits(9, 2, 100), Instant::now());
    let mut held = limits.admit(ONE, now).unwrap();
    let mut quiet = limits.admit(ONE, now).unwrap();
    let later = now + QUIET;
    limits.heard(held.id, later);
    limits.admit(ONE, later).unwrap();
    assert!(is_ended(&mut quiet) && !is_ended(&mut held));
    assert_eq!(refusal(&mut limits, ONE, later), Refusal::NetworkFull);
}

#[test]
fn the_subnets_of_a_site_do_not_count_anew() {
    let (mut limits, now) = (limits(100, 2, 3), Instant::now());
    let subnet = |n: u16| IpAddr::from([0x2001, 0xdb8, 7, n, 0, 0, 0, 1]);
    for n in 0..8 {
        limits.admit(subnet(n), now).unwrap();
    }
    assert_eq!(refusal(&mut limits, subnet(8), now), Refusal::NetworkFull);
    limits.admit("2001:db8:8::1".parse().unwrap(), now).unwrap();
    // Nor do their requests: the burst of four addresses is 12, and 8 of it are gone.
    for n in 100..104 {
        assert_eq!(limits.charge(subnet(n), now), Ok(Duration::ZERO));
    }
    assert_eq!(
        limits.charge(subnet(104), now),
        Ok(Duration::from_millis(25))
    );
}

#[test]
fn connections_back_are_shared_out() {
    let (mut limits, now) = (Limits::new(&StunServerConfig::default()), Instant::now());
    let taken = (0..512).filter(|_| limits.admit_back(ONE, now)).count();
    assert!((100..512 / 4).contains(&taken), "{taken}");
    let other = (0..512).filter(|_| limits.admit_back(OTHER, now)).count();
    assert!((64..=taken).contains(&other), "{other}");
    // What one has given back is there for whoever has less.
    for _ in 0..taken {
        limits.release_back(ONE);
    }
    assert!(limits.admit_back(ONE, now));
}
