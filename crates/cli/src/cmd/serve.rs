mod addresses;

use std::{
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use anyhow::Context as _;
use p2pconnect::Shortage;
use p2pconnect_coordinator::{BindError, Config, Coordinator, ServiceLimits};
use p2pconnect_proto::TokenKey;
use p2pconnect_stun::{StunServer, StunServerConfig, Witness};
use tokio::task::JoinSet;

use self::addresses::{Addresses, serves_both_families};
use crate::{
    args,
    exit::{self, Exit},
    key::{self, COORDINATOR_KEY, Loaded},
    memory,
    privileges::Privileges,
    signals, stdio,
};

/// How often a free port is looked for that is free for both UDP and TCP.
const ATTEMPTS: usize = 16;

/// How many files a process may have open at least, for all that is known: what Linux allows by
/// default.
const FEWEST_FILES: u64 = 1024;

/// How many open files are kept for all but STUN: UDP sockets, listeners, what the runtime and the
/// resolver need, and connections that are accepted only to be refused, or are about to be closed.
/// Half of all where there are fewer.
const FILES_KEPT: usize = 128;

/// How many STUN servers share the files: one at its own port, and at the port of QUIC one for each
/// address family.
const STUN_SERVERS: usize = 3;

/// Runs a coordinator and the STUN server beside it until it is told to end.
pub(crate) async fn run(options: args::Serve) -> Exit {
    let Started {
        coordinator,
        stun,
        alternates,
    } = match start(&options) {
        Ok(started) => started,
        Err(error) => return Exit::usage(error),
    };
    let announced = exit::of_printing(announce(&coordinator, stun.local_addrs()));
    if announced != Exit::DONE {
        return announced;
    }
    let mut servers = JoinSet::new();
    for server in alternates.into_iter().chain([stun]) {
        servers.spawn(server.run());
    }
    let hidden = coordinator.hidden_clients();
    servers.spawn(async move { hidden.await.into_iter().for_each(warn_of) });
    let inside = coordinator.client_inside();
    servers.spawn(async move { inside.await.into_iter().for_each(warn_of_inside) });
    let told_to_end = async {
        signals::interrupted().await;
    };
    coordinator.run(told_to_end).await;
    Exit::DONE
}

/// What is bound.
struct Started {
    coordinator: Coordinator,
    stun: StunServer,
    /// STUN at the coordinator's own port.
    alternates: Vec<StunServer>,
}

/// Says that clients are hidden, and what to do about it.
fn warn_of(hidden_behind: IpAddr) {
    stdio::say(format_args!(
        "warning: different peers are seen at {hidden_behind}, which none of them has. If they come from \
         elsewhere, a container with published ports or a router hides their addresses, and dials \
         between them fail: run this on the host's own network (docker run --network host), or on a \
         machine with a public address"
    ));
}

/// Says that some clients are inside a network, and others are not, and what to do about it.
fn warn_of_inside(address: IpAddr) {
    stdio::say(format_args!(
        "warning: a peer is seen at {address}, inside a network, and others are outside it. These cannot be \
         told where that one is, and most dials between them fail: run this on a machine with a public \
         address, outside that network"
    ));
}

fn start(options: &args::Serve) -> anyhow::Result<Started> {
    let privileges = Privileges::wanted(options.user.as_deref())?;
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).context("no randomness from the system")?;
    let token_key = TokenKey::from_bytes(secret);
    let witness = Witness::default();

    let Addresses {
        listen,
        stun: addresses,
    } = Addresses::wanted(options)?;
    let mut config = stun_config(&token_key);
    config.witness = Some(witness.clone());
    let stun =
        StunServer::bind(&addresses, config).map_err(|error| stun_failed(error, &addresses))?;
    let (coordinator, alternates) = bind_coordinator(
        options,
        listen,
        &Shared {
            token_key: &token_key,
            witness: &witness,
            stun: stun.local_addrs(),
            limits: limits(),
        },
    )?;
    // Nothing else is opened by its name, or at a port of its own choice, from here on.
    privileges.apply()?;
    Ok(Started {
        coordinator,
        stun,
        alternates,
    })
}

/// What the coordinator has in common with the STUN server in this process.
struct Shared<'a> {
    token_key: &'a TokenKey,
    witness: &'a Witness,
    stun: &'a [SocketAddr],
    limits: ServiceLimits,
}

/// Returns how many clients the memory of this process bears, and says so if these are fewer than usual.
fn limits() -> ServiceLimits {
    let usual = ServiceLimits::default();
    let Some(bytes) = memory::limit() else {
        return usual;
    };
    let limits = usual.clone().within_memory(bytes);
    if limits.max_connections < usual.max_connections {
        stdio::say(format!(
            "note: this process may have {} MiB of memory, which is room for {} clients",
            bytes >> 20,
            limits.max_connections
        ));
    }
    limits
}

/// Says where STUN cannot listen, and what to do about it.
fn stun_failed(error: io::Error, addresses: &[SocketAddr]) -> anyhow::Error {
    let advice = match error.kind() {
        io::ErrorKind::AddrNotAvailable => {
            "; if this is the address of a router or cloud in front of this machine, listen on 0.0.0.0 \
             or [::]; or IPv6 is off here (sysctl net.ipv6.conf.all.disable_ipv6)"
        }
        io::ErrorKind::AddrInUse => "; name another with --stun, or end what has it",
        io::ErrorKind::PermissionDenied => "; ports below 1024 are for root alone",
        _ => "",
    };
    let addresses = join(addresses);
    anyhow::Error::new(error).context(format!("STUN cannot listen on TCP {addresses}{advice}"))
}

/// Binds the coordinator to the same port number on UDP as a second STUN address on TCP.
///
/// Two ports to ask show a peer whether its NAT maps each destination to another port. Where
/// something else has the TCP port, peers do without.
fn bind_coordinator(
    options: &args::Serve,
    wanted: SocketAddr,
    shared: &Shared<'_>,
) -> anyhow::Result<(Coordinator, Vec<StunServer>)> {
    let Shared {
        token_key,
        witness,
        stun,
        ref limits,
    } = *shared;
    let mut listen = wanted;
    for attempt in 1.. {
        let alternates = bind_alternates(wanted, token_key)?;
        if let Some(address) = alternates.first().and_then(|it| it.local_addrs().first()) {
            listen.set_port(address.port());
        }
        let Loaded { key, path, is_new } = key::load(&options.key_file(), COORDINATOR_KEY)?;
        if is_new {
            stdio::say(format_args!(
                "note: a new key was made, {}: peers know this coordinator by the id that goes with it",
                path.display()
            ));
        }
        let mut config = Config::new(listen, key, token_key.clone());
        config.stun_servers = announced(stun, listen);
        let alternate = alternates.iter().flat_map(StunServer::local_addrs);
        config.stun_alternates = announced(alternate, listen);
        config.witness = Some(witness.clone());
        config.service = limits.clone();
        match Coordinator::bind(config) {
            Ok(coordinator) => return Ok((coordinator, alternates)),
            Err(error) if wanted.port() == 0 && attempt < ATTEMPTS && is_taken(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    anyhow::bail!("no port is free for both UDP and TCP")
}

/// Tells whether something else has an address, and another port may be free.
fn is_taken(error: &BindError) -> bool {
    matches!(error, BindError::Socket { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
}

/// Binds STUN to the coordinator's port number, for both families where QUIC serves both. None where something else
/// has the port.
///
/// # Errors
///
/// What the machine lacks.
fn bind_alternates(listen: SocketAddr, token_key: &TokenKey) -> io::Result<Vec<StunServer>> {
    let bind = |address| StunServer::bind(&[address], stun_config(token_key));
    let first = match bind(listen) {
        Ok(first) => first,
        Err(error) if Shortage::of(&error).is_some() => return Err(error),
        Err(error) => {
            say_that_mappings_cannot_be_compared(listen, &error);
            return Ok(Vec::new());
        }
    };
    let port = first.local_addrs().first().map(SocketAddr::port);
    let v4 = port
        .filter(|_| serves_both_families(listen.ip()))
        .and_then(|port| bind((Ipv4Addr::UNSPECIFIED, port).into()).ok());
    Ok([Some(first), v4].into_iter().flatten().collect())
}

fn say_that_mappings_cannot_be_compared(listen: SocketAddr, error: &impl std::fmt::Display) {
    stdio::say(format_args!(
        "note: TCP {listen} cannot be listened on as well ({error}), so peers with one STUN address \
         cannot tell whether their NAT gives each destination another port; free it, or name two \
         addresses with --stun"
    ));
}

fn stun_config(token_key: &TokenKey) -> StunServerConfig {
    let mut config = StunServerConfig::default();
    config.token_key = Some(token_key.clone());
    share_files(
        &mut config,
        p2pconnect::raise_file_limit().unwrap_or(FEWEST_FILES),
    );
    config
}

/// Bounds what STUN takes of the open files that the process may have, so that QUIC, and what the
/// runtime needs, always find some.
fn share_files(config: &mut StunServerConfig, files: u64) {
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    let kept = FILES_KEPT.min(files / 2);
    let each = (files - kept) / STUN_SERVERS;
    // A connection back takes two, from two addresses of the server.
    config.max_connect_backs = config.max_connect_backs.min(each / 8);
    let for_backs = 2 * config.max_connect_backs;
    config.max_connections = config.max_connections.min(each.saturating_sub(for_backs));
}

/// Returns what peers are told: where STUN is on the coordinator's own address, only the family and the
/// port, since behind a NAT that address is another from outside.
fn announced<'a>(
    stun: impl IntoIterator<Item = &'a SocketAddr>,
    listen: SocketAddr,
) -> Vec<SocketAddr> {
    let unspecified = |it: SocketAddr| match it {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, it.port()).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, it.port()).into(),
    };
    let announced = |it: &SocketAddr| match it.ip() == listen.ip() {
        true => unspecified(*it),
        false => *it,
    };
    stun.into_iter().map(announced).collect()
}

fn announce(coordinator: &Coordinator, stun: &[SocketAddr]) -> io::Result<()> {
    let address = coordinator.local_addr();
    let mut lines = format!("coordinator: {}@{address}\n", coordinator.server_id());
    lines.extend(stun.iter().map(|address| format!("stun: {address}\n")));
    // In one piece, so that whoever reads only the first line does not break the second.
    stdio::stdout().write_all(lines.as_bytes())?;
    if address.ip().is_unspecified() {
        let note = "note: peers need an address of this machine in the place of";
        stdio::say(format_args!("{note} {}", address.ip()));
    }
    Ok(())
}

fn join(addresses: &[SocketAddr]) -> String {
    addresses
        .iter()
        .map(SocketAddr::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stun_leaves_files_for_quic() {
        for files in [0, 20, 1024, 4096, 20_000, 1 << 20, u64::MAX] {
            let mut config = StunServerConfig::default();
            share_files(&mut config, files);
            let each = config.max_connections + 2 * config.max_connect_backs;
            let kept = files.saturating_sub(3 * each as u64);
            assert!(kept >= (files / 2).min(128), "{files}: {kept} kept");
        }
        let mut config = StunServerConfig::default();
        share_files(&mut config, u64::MAX);
        assert_eq!(config.max_connections, 40_960);
    }
}
