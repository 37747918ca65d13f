use netns_lab::{NatSpec, test};

use crate::{
    net::Net,
    process::{Process, run},
};

/// Drops all TCP that comes to a host, without a word to anybody. What it has sent, such as its first answer,
/// still arrives.
const CUT: &str = "add table ip cut
    add chain ip cut in { type filter hook input priority 0; }
    add rule ip cut in meta l4proto tcp drop";

/// Starts a dial that holds its stream open, and cuts its peer off once the stream is there.
fn cut_off(net: &Net, listener: &mut Process) -> Process {
    let peer = net.id("b");
    let options = ["dial", "--json", "--stream-timeout", "3s", &peer];
    let mut dial = Process::spawn(net.command("a", &options));
    dial.wait_for("established");
    listener.wait_for("established");
    run(net.lab.host("b").command("nft").arg(CUT));
    dial
}

#[test]
fn a_stream_with_data_under_way_ends_in_time() {
    test(|| {
        let nat = [NatSpec::port_preserving()];
        let net = Net::new(&nat, &nat);
        let mut listener = net.listen("b");
        let mut dial = cut_off(&net, &mut listener);
        dial.give(b"nobody acknowledges this");
        let ended = dial.finish();
        assert_eq!(ended.code(), 1, "{:#?}", ended.stderr);
        assert!(
            ended.reason().contains("nothing has come"),
            "{}",
            ended.reason()
        );
        net.finish();
    });
}

#[test]
fn an_idle_stream_ends_in_time() {
    test(|| {
        let nat = [NatSpec::port_preserving()];
        let net = Net::new(&nat, &nat);
        let mut listener = net.listen("b");
        let mut dial = cut_off(&net, &mut listener);
        let failed = dial.wait_for("failed");
        assert_eq!(failed["status"], 1, "{failed}");
        net.finish();
    });
}

#[test]
fn bytes_that_the_kernel_has_taken_are_not_said_to_have_arrived() {
    test(|| {
        let nat = [NatSpec::port_preserving()];
        let net = Net::new(&nat, &nat);
        let mut listener = net.listen_with("b", &["--allow-any", "--once"]);
        // It has nothing to say, so that the dialler has all of it before the path is cut.
        drop(listener.stdin.take());
        let mut dial = cut_off(&net, &mut listener);
        dial.give(&[7; 10_000]);
        let ended = dial.finish();
        assert_eq!(ended.code(), 1, "{:#?}", ended.stderr);
        assert!(
            ended.reason().contains("nothing has come"),
            "{}",
            ended.reason()
        );
        net.finish();
    });
}
