//! The reference is complete, and its example works.

use netns_lab::scenario::{self, Scenario};

use crate::run;

const REFERENCE: &str = include_str!("../../../SCENARIOS.md");

#[test]
fn every_field_is_in_the_reference() {
    for (table, field) in scenario::fields() {
        assert!(
            REFERENCE.contains(&format!("`{field}`")),
            "{table}: {field} is not in SCENARIOS.md"
        );
    }
}

#[test]
fn the_example_of_the_reference_works() {
    let (_, rest) = REFERENCE.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let scenario = Scenario::parse(example).unwrap();
    let run = run(&scenario, scenario.seed());
    assert_eq!(run.unmet, [] as [&str; 0]);
}

/// Every field at once, so that each is read by some test.
#[test]
fn all_fields_can_be_written() {
    let text = r#"
        [boxes.home]
        preset = "openwrt"
        translation = "nat44"
        translation6 = { nptv6 = { internal = "fd00:1::", external = "2001:db8:9::", length = 48 } }
        mapping = "address-dependent"
        filtering = "endpoint-independent"
        ports = { random-in-block = 512 }
        port_range = [20000, 29999]
        pooling = "arbitrary"
        unsolicited = { icmp-port-unreachable-after = "6s" }
        simultaneous_open = "reset"
        rst = "ignored"
        pickup = true
        hairpinning = "internal-source"
        timers = { transitory = "30s", established = "2h", time_wait = "10s", udp = "2min", echo = "1min" }
        udp_inbound_refresh = true
        strip_window_scale = "inbound"
        drop_echo = true
        drop_ecn_udp = true
        drop_udp = true
        limits = { sessions = 1000, sessions_per_host = 64, when_full = "refuse" }

        [boxes.backbone]
        shared = true
        addresses = 2

        [boxes.cgn]
        shared = true
        behind = "backbone"
        link = { burst_loss = { enter = 0.01, leave = 0.25 }, duplicating = "1%" }

        [hosts.a]
        behind = ["home", { ports = { sequential = 1 } }, "cgn"]
        link = { delay = "1ms", jitter = "5ms", reordering = true, silent_mtu = 1400 }

        [hosts.b]

        [hosts.s]

        [[gates]]
        hold = "syn from a"
        until = "syn from b"
        limit = "200ms"

        [punch]
        dialler = "b"
        listener = "a"
        server = "s"

        [expect]
        how = ["accepted", "connected"]
    "#;
    let scenario = Scenario::parse(text).unwrap();
    let run = run(&scenario, 3);
    assert_eq!(run.dials, []);
}
