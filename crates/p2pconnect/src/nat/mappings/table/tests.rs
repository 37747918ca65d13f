//! Tests of which servers are asked, and what counts of what they tell.

use p2pconnect_proto::ReflexiveToken;

use super::*;

const PORTS: [PunchPort; 2] = [PunchPort::PRIMARY, PunchPort::SPARE];

fn server(number: u8) -> SocketAddr {
    ([198, 51, 100, number], 3478).into()
}

/// A table in which so many servers are named, the last one first by its address.
fn named(count: u8) -> Table {
    let mut table = Table::default();
    for number in 0..count {
        assert!(table.name(server(100 - number), PORTS.into_iter()));
    }
    table
}

const fn key(punch_port: PunchPort, server: SocketAddr) -> Key {
    Key { punch_port, server }
}

fn fail(table: &mut Table, server: SocketAddr) {
    for punch_port in PORTS {
        let error = MappingError::Refused;
        table.set(Key { punch_port, server }, Slot::Failed(error));
    }
}

fn hold(table: &mut Table, key: Key) {
    let Key { punch_port, server } = key;
    let mapped = Mapped {
        punch_port,
        local: ([192, 168, 1, 2], 40_000).into(),
        mapped: ([203, 0, 113, 7], 40_000).into(),
        server,
        token: None,
    };
    assert!(table.set(key, Slot::Held(mapped)));
}

#[test]
fn who_is_named_next_takes_the_place_of_one_that_failed() {
    let mut table = named(4);
    let [one, two, three, four] = [100, 99, 98, 97].map(server);
    let may_ask = |table: &mut Table, server| PORTS.map(|port| table.ask(key(port, server)));
    assert_eq!(may_ask(&mut table, one), [true; 2]);
    assert_eq!(may_ask(&mut table, two), [true; 2]);
    assert_eq!(may_ask(&mut table, three), [false; 2]);

    hold(&mut table, key(PORTS[0], two));
    fail(&mut table, one);
    assert_eq!(may_ask(&mut table, four), [false; 2], "it was named last");
    assert_eq!(may_ask(&mut table, three), [true; 2]);
    assert_eq!(may_ask(&mut table, one), [false; 2], "two others are asked");
    fail(&mut table, three);
    assert_eq!(may_ask(&mut table, four), [true; 2]);
    fail(&mut table, four);
    assert_eq!(may_ask(&mut table, one), [true; 2], "once more");
}

#[test]
fn a_token_is_news_if_the_last_one_proved_nothing() {
    let (mut table, server) = (named(1), server(100));
    let address = SocketAddr::from(([203, 0, 113, 7], 40_000));
    let token_until = |table: &mut Table, expires_at| {
        let mapped = Mapped {
            punch_port: PunchPort::PRIMARY,
            local: ([192, 168, 1, 2], 40_000).into(),
            mapped: address,
            server,
            token: Some(ReflexiveToken {
                salt: [1; 16],
                expires_at,
                mac: [2; 16],
            }),
        };
        table.set(key(PunchPort::PRIMARY, server), Slot::Held(mapped))
    };
    let told = |table: &Table| {
        let of = |it: Mapped| Candidate::server_reflexive(it.mapped, it.punch_port, it.token);
        table.known().into_iter().map(of).collect::<Vec<_>>()
    };
    assert!(token_until(&mut table, 1));
    assert!(!token_until(&mut table, 2));
    let first = told(&table);
    let (is_new, is_news) = (true, false);
    assert_eq!(
        table.note_unproven(&first, &[address]),
        Unproven { is_new, is_news }
    );
    assert!(!token_until(&mut table, 2), "it is the same");
    assert!(token_until(&mut table, 3));
    let second = told(&table);
    assert!(!table.note_unproven(&second, &[]).is_news);
    assert!(!token_until(&mut table, 4), "it is proved");
    // The answer comes when there is another one already.
    assert!(table.note_unproven(&second, &[address]).is_news);
}

#[test]
fn one_that_is_lost_leaves_its_place_and_what_it_told() {
    let mut table = named(3);
    let [one, two, three] = [100, 99, 98].map(server);
    let [primary, spare] = PORTS;
    for port in PORTS {
        assert!(table.ask(key(port, one)));
        hold(&mut table, key(port, one));
    }
    table.complete = true;
    assert!(table.lose(key(primary, one), MappingError::Refused));
    assert!(!table.ask(key(primary, three)), "it serves the other port");
    assert!(table.lose(key(spare, one), MappingError::Refused));
    assert!(!table.lose(key(spare, one), MappingError::Reset), "no news");
    assert!(table.ask(key(primary, three)));
    // All that is known is what it told.
    assert!(table.failure().is_some() && table.network().is_none());
    assert_eq!(table.known().len(), 1);
    hold(&mut table, key(spare, two));
    assert_eq!(table.known()[0].server, two);

    hold(&mut table, key(primary, three));
    assert!(table.lose(key(primary, one), MappingError::Refused));
    assert!(
        !table.is_lost(key(primary, one)),
        "others have both port_sets"
    );
    assert!(!table.ask(key(primary, one)));
    fail(&mut table, two);
    assert!(table.ask(key(primary, one)), "once more");
}

#[test]
fn a_fallback_is_asked_while_the_others_tell_nothing() {
    let mut table = named(1);
    let [first, fallback] = [100, 1].map(server).map(|it| key(PORTS[0], it));
    hold(&mut table, first);
    assert!(table.unmapped().is_empty());
    table.lose(first, MappingError::Refused);
    assert_eq!(table.unmapped(), [true].into());
    assert!(table.name_fallback(fallback.server, PORTS.into_iter()));
    assert!(table.ask(fallback));
    hold(&mut table, fallback);
    assert!(table.unmapped().is_empty() && !table.is_superseded(fallback));
    assert_eq!(table.known()[0].server, fallback.server);
    hold(&mut table, first);
    assert!(table.is_superseded(fallback) && !table.is_superseded(first));
    assert!(!table.ask(fallback));
    let other_port = key(PORTS[1], fallback.server);
    assert!(!table.is_superseded(other_port), "it keeps its mapping");
    assert!(table.stand_down(fallback).is_some());
    assert_eq!(table.known()[0].server, first.server);
}

#[test]
fn one_port_of_a_server_that_serves_the_other_is_asked_again() {
    let mut table = named(3);
    let one = server(100);
    hold(&mut table, key(PORTS[0], one));
    let failed = Slot::Failed(MappingError::Refused);
    table.set(key(PORTS[1], one), failed);
    assert!(table.ask(key(PORTS[1], one)));
}

#[test]
fn nothing_is_hopeless_before_all_have_been_asked() {
    let mut table = named(3);
    table.complete = true;
    for number in [100, 99] {
        fail(&mut table, server(number));
        assert!(!table.is_hopeless());
    }
    let last = server(98);
    assert!(PORTS.into_iter().all(|port| table.ask(key(port, last))));
    assert!(!table.is_hopeless());
    fail(&mut table, last);
    assert!(table.is_hopeless());
    // Neither is there more hope while one is asked again.
    assert!(table.ask(key(PORTS[0], server(99))));
    assert!(table.is_hopeless());
    assert!(table.failure().is_some());
}

#[test]
fn families_do_not_take_each_others_places() {
    let mut table = named(2);
    let v6 = SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 3478));
    assert!(table.name(v6, PORTS.into_iter()));
    assert!(table.ask(key(PORTS[0], v6)));
    assert!(!table.name(v6, PORTS.into_iter()), "it is known");
}

#[test]
fn ipv6_shows_how_nats_behave_where_no_server_answers_over_ipv4() {
    let is_ipv4 = false;
    let mut table = named(1);
    table.complete = true;
    assert!(!table.counts(is_ipv4), "it may answer yet");
    fail(&mut table, server(100));
    assert!(table.counts(is_ipv4));
    assert!(table.ask(key(PORTS[0], server(100))));
    assert!(table.counts(is_ipv4), "it is asked again");
    hold(&mut table, key(PORTS[0], server(100)));
    assert!(!table.counts(is_ipv4));
    table.lose(key(PORTS[0], server(100)), MappingError::Refused);
    assert!(!table.counts(is_ipv4), "it comes back");
}

#[test]
fn servers_are_bounded() {
    let mut table = named(u8::try_from(MAX_SERVERS).unwrap_or(u8::MAX));
    assert!(!table.name(server(1), PORTS.into_iter()));
}
