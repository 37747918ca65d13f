//! The subcommand `stun-server`: runs a STUN server alone.

use std::{
    io::{self, Write as _},
    net::{Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::bail;
use p2pconnect_coordinator::tcp_addresses;
use p2pconnect_stun::{
    DEFAULT_PORT, ListenError, StunMeter, StunServer, StunServerConfig, StunTransports,
};
use tokio::time::interval;

use super::serve::{addresses, not_listening, resources};
use crate::{
    args::{self, Alternate},
    exit::{self, Exit},
    memory,
    privileges::Privileges,
    signals, stdio,
};

/// How often it is said what was asked.
const REPORTS: Duration = Duration::from_secs(60);

/// How many seconds' worth of datagrams may come at once.
const BURST: u32 = 8;

/// Runs a STUN server until it is told to end.
pub(crate) async fn run(options: args::StunServer) -> Exit {
    let server = match start(&options) {
        Ok(server) => server,
        Err(error) => return Exit::usage(error),
    };
    // Whoever has read where it listens may tell it to end.
    let told_to_end = signals::told_to_end();
    let announced = exit::of_printing(announce(&server, options.transports()));
    if announced != Exit::DONE {
        return announced;
    }
    let meter = server.meter();
    tokio::select! {
        _ = told_to_end => {}
        () = server.run() => {}
        () = report(&meter), if options.verbose => {}
    }
    if options.verbose {
        stdio::say(in_words(&meter));
    }
    Exit::DONE
}

fn start(options: &args::StunServer) -> anyhow::Result<StunServer> {
    let privileges = Privileges::wanted(options.user.as_deref())?;
    let listen = listen(options)?;
    let mut config = StunServerConfig::default();
    config.transports = options.transports();
    config.alternates = alternates(&listen, &options.alternate)?;
    config.known_as = options
        .known_as
        .iter()
        .map(|it| (it.local, it.public))
        .collect();
    config.datagrams_per_second = options.rate;
    config.datagram_burst = options.rate * BURST;
    if !options.connect_back {
        config.max_connect_backs = 0;
    }
    let config = resources::of_stun_alone(config, memory::limit().unwrap_or(u64::MAX));
    let server = StunServer::bind(&listen, config).map_err(failed)?;
    // Nothing else is opened by its name, or at a port of its own choice, from here on. Connections
    // back leave from ports that the system chooses.
    privileges.apply()?;
    Ok(server)
}

/// Returns where to listen: on all addresses unless told otherwise, and on those of IPv4 where the
/// system has no IPv6.
fn listen(options: &args::StunServer) -> anyhow::Result<Vec<SocketAddr>> {
    let all = [(Ipv6Addr::UNSPECIFIED, DEFAULT_PORT).into()];
    let wanted = match options.listen.as_slice() {
        [] => all.as_slice(),
        wanted => wanted,
    };
    let mut addresses = Vec::new();
    for address in wanted.iter().flat_map(|it| tcp_addresses(*it)) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if !addresses::has_ipv6() {
        let named = |it: &&SocketAddr| it.is_ipv6() && !it.ip().is_unspecified();
        if let Some(address) = addresses.iter().find(named) {
            bail!(
                "{address} cannot be listened on: this machine has no IPv6; name an IPv4 address, or a port alone"
            );
        }
        addresses.retain(SocketAddr::is_ipv4);
    }
    let alternates = options.alternate.iter();
    let alternates = alternates.map(|it| ("--alternate", SocketAddr::new(it.ip, 0)));
    for (option, address) in addresses
        .iter()
        .map(|it| ("--listen", *it))
        .chain(alternates)
    {
        if let Some(why) = addresses::why_not(address) {
            bail!("{option} {address} cannot be listened on: {why}");
        }
    }
    Ok(addresses)
}

/// Returns the other addresses with their ports, each of which goes with one to listen on.
fn alternates(listen: &[SocketAddr], wanted: &[Alternate]) -> anyhow::Result<Vec<SocketAddr>> {
    let mut alternates: Vec<SocketAddr> = Vec::new();
    for Alternate { ip, port } in wanted {
        let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        let mut of_family = listen.iter().filter(|it| it.is_ipv4() == ip.is_ipv4());
        let (Some(one), None) = (of_family.next(), of_family.next()) else {
            bail!("--alternate {ip} goes with one address of {family}; name one with --listen");
        };
        if one.ip().is_unspecified() || one.ip() == *ip {
            bail!(
                "--alternate {ip} goes with another address of this machine, and --listen names {}; \
                 name that other one with --listen",
                one.ip()
            );
        }
        if alternates.iter().any(|it| it.is_ipv4() == ip.is_ipv4()) {
            bail!("there are two of --alternate for {family}; one goes with --listen {one}");
        }
        let next = match one.port() {
            0 => 0,
            port => port.checked_add(1).unwrap_or(port - 1),
        };
        let alternate = SocketAddr::new(*ip, port.unwrap_or(next));
        if alternate.port() == one.port() && one.port() != 0 {
            bail!(
                "--alternate {alternate} has the port of --listen {one}; it takes another one, which is \
                 listened on at both addresses"
            );
        }
        alternates.push(alternate);
    }
    Ok(alternates)
}

fn failed(error: ListenError) -> anyhow::Error {
    let told = error.to_string();
    not_listening(error.source, &told, "--listen")
}

/// Says what is served, and where.
fn announce(server: &StunServer, transports: StunTransports) -> io::Result<()> {
    let over = match transports {
        StunTransports::Both => "UDP and TCP",
        StunTransports::Udp => "UDP",
        StunTransports::Tcp => "TCP",
    };
    let line = |address: &SocketAddr| {
        let other = server.other_address(*address);
        let other = other.map_or(String::new(), |it| format!(", other address {it}"));
        format!("stun: {address} over {over}{other}\n")
    };
    let lines: String = server.local_addrs().iter().map(line).collect();
    // In one piece, so that whoever reads only the first line does not break the others.
    stdio::stdout().write_all(lines.as_bytes())
}

/// Says at intervals what was asked, if anything was.
async fn report(meter: &StunMeter) {
    let mut reports = interval(REPORTS);
    reports.tick().await;
    let mut said = in_words(meter);
    loop {
        reports.tick().await;
        let now = in_words(meter);
        if now != said {
            stdio::say(&now);
            said = now;
        }
    }
}

fn in_words(meter: &StunMeter) -> String {
    format!(
        "since the start: {} datagrams answered, {} left out for coming too fast, {} that are no requests; \
         {} requests in {} connections, {} connections refused",
        meter.datagrams(),
        meter.too_fast(),
        meter.foreign(),
        meter.requests(),
        meter.accepted(),
        meter.refused()
    )
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn alternate(text: &str, port: Option<u16>) -> Alternate {
        let ip = text.parse().unwrap();
        Alternate { ip, port }
    }

    #[test]
    fn the_other_port_is_the_next_one_unless_it_is_named() {
        let other = alternate("192.0.2.2", None);
        for (listen, expected) in [
            ("192.0.2.1:3478", "192.0.2.2:3479"),
            ("192.0.2.1:65535", "192.0.2.2:65534"),
            ("192.0.2.1:0", "192.0.2.2:0"),
        ] {
            assert_eq!(alternates(&[at(listen)], &[other]).unwrap(), [at(expected)]);
        }
        let both = [at("192.0.2.1:3478"), at("[2001:db8::1]:3478")];
        let others = [
            alternate("2001:db8::2", None),
            alternate("192.0.2.2", Some(5)),
        ];
        let expected = [at("[2001:db8::2]:3479"), at("192.0.2.2:5")];
        assert_eq!(alternates(&both, &others).unwrap(), expected);
    }

    #[test]
    fn an_address_that_goes_with_none_is_refused_with_a_reason() {
        let v4 = alternate("192.0.2.2", None);
        for (listen, others, told) in [
            (&["[2001:db8::1]:1"][..], &[v4][..], "one address of IPv4"),
            (
                &["192.0.2.1:1", "192.0.2.3:1"],
                &[v4],
                "one address of IPv4",
            ),
            (&["0.0.0.0:1"], &[v4], "--listen names 0.0.0.0"),
            (&["192.0.2.2:1"], &[v4], "--listen names 192.0.2.2"),
            (&["192.0.2.1:1"], &[v4, v4], "two of --alternate"),
            (
                &["192.0.2.1:5"],
                &[alternate("192.0.2.2", Some(5))],
                "has the port of --listen",
            ),
        ] {
            let listen: Vec<_> = listen.iter().map(|it| at(it)).collect();
            let error = alternates(&listen, others).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
