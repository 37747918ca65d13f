//! What the reader says of texts that are no scenarios.

use netns_lab::scenario::Scenario;
use proptest::prelude::*;

use super::corpus::corpus;

#[track_caller]
fn check(text: &str, place: &str, parts: &[&str]) {
    let error = Scenario::parse(text).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{place}: ")), "{error}");
    for part in parts {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn errors_name_the_place_the_text_and_what_is_allowed() {
    let text = "seed = 1\n[hosts.a]\nbehnd = []";
    check(
        text,
        "3:1",
        &["`behnd`", "did you mean behind?", "link, listen"],
    );
    let text = "[hosts.a]\nbehind = [\"openwtr\"]";
    check(text, "2:11", &["did you mean openwrt?", "port-preserving"]);
    let text = "[hosts.a]\nlink = { delay = 20 }";
    check(text, "2:18", &["`20`", "of type integer", "\"20ms\""]);
    let text = "[hosts.a]\nlink = { delay = \"20\" }";
    check(text, "2:18", &["\"20ms\""]);
    let text = "[hosts.a]\nlink = { loss = 1.5 }";
    check(text, "2:17", &["`1.5`", "percentage"]);
    let text = "[hosts.a]\nlink = { queue = \"1KiB\" }";
    check(text, "2:18", &["only a link with a `rate`"]);
    let text = "[hosts.a]\nlink = { mtu = 1400, silent_mtu = 1400 }";
    check(text, "2:35", &["either an `mtu` or a `silent_mtu`"]);
    let text = "[hosts.a]\nbehind = [{ filtering = \"none\" }]";
    check(text, "2:25", &["endpoint-independent, address-dependent"]);
    let text = "[hosts.a]\nbehind = [{ preset = \"home-behind-cgnat\", pickup = true }]";
    check(text, "2:11", &["chain of 2 boxes"]);
    let text = "[hosts.a]\nbehind = [{ ports = \"sequential\" }]";
    check(text, "2:21", &["needs a value", "{ sequential = .. }"]);
}

#[test]
fn errors_know_the_places_of_the_lab() {
    let hosts = "[boxes.cgn]\nshared = true\n[hosts.a]\nbehind = [\"cgn\"]\n[hosts.b]\n";
    let with = |more: &str| format!("{hosts}{more}");
    let text = with("[[steps]]\nat = \"1s\"\nreboot = \"cgm\"");
    check(&text, "8:10", &["did you mean cgn?"]);
    let text = with("[[steps]]\nat = \"1s\"");
    check(&text, "6:1", &["`reboot`, `link_down` and `link_up`"]);
    let text = with("[[gates]]\nhold = \"sin from a\"\nuntil = \"syn from b\"");
    check(&text, "7:8", &["describes no packets", "syn-ack"]);
    let text = with("[[gates]]\nhold = \"syn from a\"\nuntil = \"syn from c\"");
    check(&text, "8:9", &["\"c\"", "cgn, a, b"]);
    let text = with("[[dials]]\nfrom = \"a\"\nto = \"a\"");
    check(&text, "8:6", &["does not dial itself"]);
    let text = with("[[dials]]\nfrom = \"a\"");
    check(&text, "6:1", &["`to` is missing"]);
    let text = with("[expect]\nresult = \"failed\"\nwithin = \"1s\"");
    check(&text, "8:1", &["neither a way nor a time"]);
    check("[boxes.openwrt]\n[hosts.a]", "1:8", &["name of a preset"]);
    let text = "[boxes.x]\naddresses = 2\n[hosts.a]";
    check(text, "2:1", &["shared = true"]);
    let text = "[boxes.x]\nshared = true\n[hosts.a]\nbehind = [\"x\", \"openwrt\"]";
    check(text, "4:16", &["nothing can come after"]);
    let text = "[boxes.x]\nshared = true\nbehind = \"y\"\n[hosts.a]";
    check(text, "3:10", &["no shared box", "there are none"]);
    check("", "1:1", &["needs hosts"]);
    check("[hosts.a", "1:9", &[]);
}

#[test]
fn columns_count_characters() {
    check("[hosts.a]\nlistn = [] # é", "2:1", &["listen"]);
    check("title = \"é\" x", "1:13", &[]);
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in ".{0,200}") {
        let _read = Scenario::parse(&text);
    }

    #[test]
    fn no_change_of_a_scenario_makes_the_reader_panic(
        file in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        length in 0..20_usize,
        fresh in "[\\[\\]{}=\"a-z0-9.\n -]{0,8}",
    ) {
        let corpus = corpus();
        let (_, text) = &corpus[file.index(corpus.len())];
        let letters: Vec<char> = text.chars().collect();
        let at = at.index(letters.len());
        let end = (at + length).min(letters.len());
        let changed: String = letters[..at].iter().collect::<String>()
            + &fresh
            + &letters[end..].iter().collect::<String>();
        if let Err(error) = Scenario::parse(&changed) {
            prop_assert!(error.line <= changed.lines().count() + 1);
        }
    }
}
