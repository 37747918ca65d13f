//! Tests of what candidates a coordinator takes for true.

use p2pconnect_proto::{PunchPort, ReflexiveToken};

use super::*;

const NOW: u64 = 1_000;
const PORT: PunchPort = PunchPort::PRIMARY;
const PEER: PeerId = PeerId::from_public_key([1; 32]);
const OTHER: PeerId = PeerId::from_public_key([2; 32]);

fn key() -> TokenKey {
    TokenKey::from_bytes([9; 32])
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn token(peer: &PeerId, at: SocketAddr, expires_at: u64) -> ReflexiveToken {
    let salt = [3; 16];
    ReflexiveToken {
        salt,
        expires_at,
        mac: key().mint(&ReflexiveToken::commitment(&salt, peer), at, expires_at),
    }
}

fn admit_from(seen: &str, candidates: &[Candidate]) -> Admitted {
    let claimant = Claimant {
        peer: PEER,
        seen: address(seen),
    };
    admit(candidates, &claimant, &key(), NOW)
}

fn is_admitted(seen: &str, candidate: &Candidate) -> bool {
    let admitted = admit_from(seen, std::slice::from_ref(candidate));
    assert_eq!(admitted.candidates.len() + admitted.unproven.len(), 1);
    admitted.unproven.is_empty()
}

#[test]
fn without_a_token_an_address_counts_when_it_is_seen_or_local() {
    // Seen address, candidate address, counts as host, counts as server-reflexive.
    let table = [
        ("192.0.2.1:999", "192.0.2.1:40000", true, true),
        ("192.0.2.1:999", "192.0.2.2:40000", false, false),
        ("192.0.2.1:999", "198.51.100.1:40000", false, false),
        ("192.0.2.1:999", "203.0.113.1:40000", false, false),
        ("192.0.2.1:999", "8.8.8.8:40000", false, false),
        ("192.0.2.1:999", "10.0.0.1:40000", true, false),
        ("192.0.2.1:999", "172.16.0.1:40000", true, false),
        ("192.0.2.1:999", "192.168.1.1:40000", true, false),
        ("192.0.2.1:999", "169.254.1.1:40000", true, false),
        ("192.0.2.1:999", "100.64.0.1:40000", true, false),
        ("10.0.0.1:999", "10.0.0.1:40000", true, true),
        ("192.0.2.1:999", "[2001:db8::1]:40000", false, false),
        ("192.0.2.1:999", "[fd00::1]:40000", true, false),
        ("192.0.2.1:999", "[fe80::1]:40000", true, false),
        ("[2001:db8::1]:999", "[2001:db8::1]:40000", true, true),
        ("[2001:db8::1]:999", "[2001:db8::ffff:2]:40000", true, true),
        ("[2001:db8::1]:999", "[2001:db8:0:1::1]:40000", false, false),
        ("[2001:db8::1]:999", "[64:ff9b::a00:1]:40000", false, false),
        ("[2001:db8::1]:999", "192.0.2.1:40000", false, false),
        (
            "[64:ff9b::c000:201]:999",
            "[64:ff9b::c000:201]:40000",
            true,
            true,
        ),
        ("[64:ff9b::c000:201]:999", "192.0.2.1:40000", true, true),
        (
            "[64:ff9b::c000:201]:999",
            "[64:ff9b::c000:202]:40000",
            false,
            false,
        ),
        (
            "[64:ff9b::c000:201]:999",
            "[64:ff9b::a00:1]:40000",
            false,
            false,
        ),
        ("192.0.2.1:999", "[64:ff9b:1::a00:1]:40000", true, false),
        ("192.0.2.1:999", "[2002:c000:201::1]:40000", true, true),
        ("192.0.2.1:999", "[2002:c000:202::1]:40000", false, false),
        ("[2001::1]:999", "[2001::1]:40000", false, false),
        ("[::192.0.2.1]:999", "[::192.0.2.1]:40000", false, false),
        ("[::ffff:192.0.2.1]:999", "192.0.2.1:40000", true, true),
        ("192.0.2.1:999", "[::ffff:192.0.2.1]:40000", true, true),
        ("192.0.2.1:999", "[::ffff:10.0.0.1]:40000", true, false),
        ("192.0.2.1:999", "[::ffff:192.0.2.2]:40000", false, false),
    ];
    for (seen, candidate, as_host, as_reflexive) in table {
        let host = Candidate::host(address(candidate), PORT);
        let reflexive = Candidate::server_reflexive(address(candidate), PORT, None);
        assert_eq!(
            is_admitted(seen, &host),
            as_host,
            "{candidate} seen at {seen}"
        );
        assert_eq!(
            is_admitted(seen, &reflexive),
            as_reflexive,
            "{candidate} seen at {seen}"
        );
    }
}

#[test]
fn a_token_counts_for_its_peer_address_and_time() {
    let mapped = address("198.51.100.7:40000");
    let other_port = address("198.51.100.7:40001");
    let table = [
        (token(&PEER, mapped, NOW), true),
        (token(&PEER, mapped, NOW - 1), false),
        (token(&OTHER, mapped, NOW), false),
        (token(&PEER, other_port, NOW), false),
    ];
    for (token, counts) in table {
        let reflexive = Candidate::server_reflexive(mapped, PORT, Some(token));
        assert_eq!(is_admitted("192.0.2.1:999", &reflexive), counts);
        let host = Candidate {
            kind: CandidateKind::Host,
            ..reflexive
        };
        assert_eq!(is_admitted("192.0.2.1:999", &host), counts);
    }
}

#[test]
fn ports_that_no_server_has_seen_count_on_the_address_that_one_has() {
    let mapped = address("198.51.100.7:40000");
    let reflexive = Candidate::server_reflexive(mapped, PORT, Some(token(&PEER, mapped, NOW)));
    let expired = token(&PEER, mapped, NOW - 1);
    let unproven = Candidate::server_reflexive(mapped, PORT, Some(expired));
    for kind in [CandidateKind::Mapped, CandidateKind::Predicted] {
        let at = |address: SocketAddr| Candidate {
            kind,
            address,
            punch_port: PunchPort::FRESH,
            token: None,
        };
        let same = at(address("198.51.100.7:50000"));
        let other = at(address("198.51.100.8:50000"));
        let seen = at(address("192.0.2.1:50000"));
        let local = at(address("192.168.1.2:50000"));
        for (candidates, counting) in [
            (vec![same.clone()], 0),
            (vec![reflexive.clone(), same.clone()], 2),
            (vec![unproven.clone(), same.clone()], 0),
            (vec![reflexive.clone(), other], 1),
            (vec![seen], 1),
            (vec![local], 0),
        ] {
            let admitted = admit_from("192.0.2.1:999", &candidates);
            assert_eq!(admitted.candidates.len(), counting, "{candidates:?}");
        }
    }
}

#[test]
fn a_token_counts_for_an_ipv4_address_in_disguise() {
    let mapped = address("198.51.100.7:40000");
    let disguised = address("[::ffff:198.51.100.7]:40000");
    let token = token(&PEER, mapped, NOW);
    let candidate = Candidate::server_reflexive(disguised, PORT, Some(token));
    let admitted = admit_from("192.0.2.1:999", &[candidate]);
    assert_eq!(
        admitted.candidates,
        [Candidate::server_reflexive(mapped, PORT, None)]
    );
}

#[test]
fn no_token_makes_up_for_an_impossible_address_or_kind() {
    for impossible in [
        "0.0.0.0:40000",
        "0.1.2.3:40000",
        "224.0.0.1:40000",
        "255.255.255.255:40000",
        "192.0.2.1:0",
        "127.0.0.1:40000",
        "[::]:40000",
        "[::1]:40000",
        "[ff02::1]:40000",
        "[::ffff:127.0.0.1]:40000",
        "[::ffff:224.0.0.1]:40000",
    ] {
        let at = portable(address(impossible));
        let token = Some(token(&PEER, at, NOW));
        for kind in [CandidateKind::Host, CandidateKind::ServerReflexive] {
            let candidate = Candidate {
                kind,
                address: address(impossible),
                punch_port: PORT,
                token: token.clone(),
            };
            assert!(!is_admitted("192.0.2.1:999", &candidate), "{impossible}");
        }
    }
    for seen in ["192.0.2.1:999", "10.0.0.1:999", "127.0.0.1:999"] {
        let at = address(seen);
        let candidate = Candidate {
            kind: CandidateKind::PeerReflexive,
            address: at,
            punch_port: PORT,
            token: Some(token(&PEER, at, NOW)),
        };
        assert!(!is_admitted(seen, &candidate), "{seen}");
    }
}

#[test]
fn loopback_is_for_peers_on_the_coordinators_host() {
    let v4 = Candidate::host(address("127.0.0.1:40000"), PORT);
    let v6 = Candidate::host(address("[::1]:40000"), PORT);
    for seen in ["127.0.0.1:999", "[::1]:999", "[::ffff:127.0.0.1]:999"] {
        assert!(is_admitted(seen, &v4), "{seen}");
        assert!(is_admitted(seen, &v6), "{seen}");
        assert!(is_reachable_from(&v4, address(seen)), "{seen}");
    }
    assert!(!is_reachable_from(&v4, address("192.0.2.1:999")));
    let elsewhere = Candidate::host(address("10.0.0.1:40000"), PORT);
    assert!(is_reachable_from(&elsewhere, address("192.0.2.1:999")));
}

#[test]
fn tokens_are_taken_off_and_duplicates_left_out() {
    let seen = "192.0.2.1:999";
    let at = address("192.0.2.1:40000");
    let attested = Candidate::server_reflexive(at, PORT, Some(token(&PEER, at, NOW)));
    let plain = Candidate::server_reflexive(at, PORT, None);
    let spare = Candidate::server_reflexive(at, PunchPort::SPARE, None);
    let foreign = Candidate::host(address("203.0.113.5:1"), PORT);
    let admitted = admit_from(
        seen,
        &[
            attested,
            plain.clone(),
            spare.clone(),
            foreign.clone(),
            foreign,
        ],
    );
    assert_eq!(admitted.candidates, [plain, spare]);
    assert_eq!(admitted.unproven, [address("203.0.113.5:1")]);
}
