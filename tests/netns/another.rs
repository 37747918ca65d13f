//! Connections that the dialler uses and that prove to be another one's, or to lead nowhere.

use netns_lab::{NatSpec, test};
use p2pconnect_tests::{
    net::Net,
    process::{Process, run},
};

const NAT: [NatSpec; 1] = [NatSpec::port_preserving()];

/// Lets connections from one host to another open between one pair of ports, where they break as
/// soon as the first host says something, or between all. The other host is not heard.
fn breaks(net: &Net, from: &str, to: &str, pairs: Pairs) {
    let from = net.external(from);
    let syn = format!("ip saddr {from} tcp flags & syn == syn");
    let opens = match pairs {
        Pairs::One => format!(
            "add set ip breaks first {{ type inet_service . inet_service; flags dynamic; size 1; }}
            add rule ip breaks in {syn} update @first {{ tcp sport . tcp dport }} accept
            add rule ip breaks in {syn} drop"
        ),
        Pairs::All => String::new(),
    };
    let rules = format!(
        "add table ip breaks
        add chain ip breaks in {{ type filter hook input priority 0; }}
        {opens}
        add rule ip breaks in ip saddr {from} tcp flags & psh == psh reject with tcp reset
        add chain ip breaks out {{ type filter hook output priority 0; }}
        add rule ip breaks out ip daddr {from} tcp flags & psh == psh drop"
    );
    run(net.lab.host(to).command("nft").arg(rules));
}

#[derive(Debug, Clone, Copy)]
enum Pairs {
    One,
    All,
}

fn heals(net: &Net, host: &str) {
    run(net
        .lab
        .host(host)
        .command("nft")
        .arg("delete table ip breaks"));
}

/// Begins a dial that has something to say at once, and waits until it has a connection.
fn dial(net: &Net, said: &[u8]) -> Process {
    let peer = net.id("b");
    let mut dial = Process::spawn(net.command("a", &["dial", "--json", &peer]));
    dial.give(said);
    dial.wait_for("established");
    dial
}

#[test]
fn a_dial_goes_on_where_its_connection_was_another_one() {
    test(|| {
        let net = Net::new(&NAT, &NAT);
        let _listener = net.listen("b");
        breaks(&net, "a", "b", Pairs::One);
        let said = b"said on every connection and heard on one";
        let mut dial = dial(&net, said);
        // With the next introduction.
        dial.wait_for("introduced");
        heals(&net, "b");
        let ended = dial.finish();
        assert_eq!(ended.code(), 0, "{:#?}", ended.stderr);
        assert_eq!(ended.stdout, said);
        net.finish();
    });
}

#[test]
fn a_dial_ends_where_every_connection_is_another_one() {
    test(|| {
        let net = Net::new(&NAT, &NAT);
        let _listener = net.listen("b");
        breaks(&net, "a", "b", Pairs::All);
        let ended = dial(&net, b"said in vain").finish();
        assert_eq!(ended.code(), 5, "{:#?}", ended.stderr);
        assert!(ended.stdout.is_empty());
        let failed = ended.event("failed").unwrap();
        assert_eq!(failed["verdict"], "intercepted", "{failed}");
        net.finish();
    });
}
