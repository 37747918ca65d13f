//! Mappings that outlive the idle limit of their NAT.

use std::time::Duration;

use netns_lab::{NatSpec, TestRun};
use p2pconnect_tests::net::Net;

#[test]
fn outlives_the_idle_limit_of_its_nat() {
    TestRun::new().limit(Duration::from_secs(180)).run(|| {
        let forgetful = [NatSpec::port_preserving()
            .established_timeout(Duration::from_secs(20))
            .pickup(false)];
        let net = Net::new(&forgetful, &forgetful);
        let peer = net.id("b");
        let mut listener = net.listen("b");
        // Time must pass here: what is tested is that 60 s do no harm.
        let asleep = Duration::from_secs(61);
        let began = std::time::Instant::now();
        let changed = net.lab.capture().wait_for(asleep, |_| false);
        assert!(changed.is_none() && began.elapsed() >= asleep);

        net.dial_echo("a", &peer, "still mapped");
        drop(listener.stdin.take());
        assert!(
            !listener.heard.iter().any(|line| line.contains("\"old\"")),
            "{:?}",
            listener.heard
        );
        net.finish();
    });
}
