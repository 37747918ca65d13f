//! The subcommand `serve`: runs a coordinator and a STUN server.

mod addresses;

use std::{
    io::{self, Write as _},
    net::{IpAddr, SocketAddr},
};

use anyhow::Context as _;
use p2pconnect_coordinator::{
    BindError, Coordinator, Rendezvous, RendezvousError, RendezvousPorts, ServiceLimits,
    memory_for_clients,
};
use p2pconnect_proto::TokenKey;
use p2pconnect_stun::{BYTES_PER_CONNECTION, StunServerConfig};
use tokio::task::JoinSet;

use self::addresses::Addresses;
use crate::{
    args,
    exit::{self, Exit},
    key::{self, COORDINATOR_KEY, Loaded},
    memory,
    privileges::Privileges,
    signals, stdio,
};

/// How many files a process may have open at least, for all that is known: what Linux allows by
/// default.
const FEWEST_FILES: u64 = 1024;

/// How many open files are kept for all but STUN: UDP sockets, listeners, what the runtime and the
/// resolver need, and connections that are accepted only to be refused, or are about to be closed.
/// Half of all where there are fewer.
const FILES_KEPT: usize = 128;

/// How many STUN servers share the files and the memory: one at its own port, and at the port of
/// QUIC one for each address family.
const STUN_SERVERS: usize = 3;

/// Runs a coordinator and the STUN server beside it until it is told to end.
pub(crate) async fn run(options: args::Serve) -> Exit {
    let rendezvous = match start(&options) {
        Ok(rendezvous) => rendezvous,
        Err(error) => return Exit::usage(error),
    };
    // Whoever has read where it listens may tell it to end.
    let told_to_end = signals::told_to_end();
    let coordinator = &rendezvous.coordinator;
    let announced = exit::of_printing(announce(coordinator, rendezvous.stun.local_addrs()));
    if announced != Exit::DONE {
        return announced;
    }
    let mut warning = JoinSet::new();
    let hidden = coordinator.hidden_clients();
    warning.spawn(async move { hidden.await.into_iter().for_each(warn_of) });
    let inside = coordinator.client_inside();
    warning.spawn(async move { inside.await.into_iter().for_each(warn_of_inside) });
    rendezvous.run(async { _ = told_to_end.await }).await;
    Exit::DONE
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

fn start(options: &args::Serve) -> anyhow::Result<Rendezvous> {
    let privileges = Privileges::wanted(options.user.as_deref())?;
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).context("no randomness from the system")?;
    let addresses = Addresses::wanted(options)?;
    let token_key = TokenKey::from_bytes(secret);
    let memory = memory::limit().unwrap_or(u64::MAX);
    let stun = stun_config(memory);
    let ports = RendezvousPorts::bind(addresses.listen, &addresses.stun, stun, token_key);
    let ports = ports.map_err(|error| match error {
        RendezvousError::Stun(error) => {
            let failed = format!("STUN cannot listen on TCP {}", join(&addresses.stun));
            not_listening(error, &failed, "--stun")
        }
        RendezvousError::Shortage(error) => error.into(),
        RendezvousError::Coordinator(BindError::Socket { address, source }) => {
            let failed = format!("the UDP address {address} cannot be listened on");
            not_listening(source, &failed, "--listen")
        }
        RendezvousError::Coordinator(error) => error.into(),
    })?;
    // What is noted comes behind all that may be wrong.
    let Loaded { key, path, is_new } = key::load(&options.key_file(), COORDINATOR_KEY)?;
    if addresses.is_without_ipv6 {
        stdio::say(
            "note: this machine has no IPv6; listening on addresses of IPv4, such as 0.0.0.0",
        );
    }
    let limits = limits(memory);
    if let Some(error) = ports.no_alternates() {
        say_that_mappings_cannot_be_compared(addresses.listen, error);
    }
    if is_new {
        stdio::say(format_args!(
            "note: a new key was made, {}: peers know this coordinator by the id that goes with it",
            path.display()
        ));
    }
    let mut config = ports.config(key);
    config.service = limits;
    let rendezvous = ports.coordinate(config)?;
    // Nothing else is opened by its name, or at a port of its own choice, from here on.
    privileges.apply()?;
    Ok(rendezvous)
}

/// Returns how many clients the memory of this process bears, and says so if these are fewer than
/// usual.
fn limits(bytes: u64) -> ServiceLimits {
    let usual = ServiceLimits::default();
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

/// Says where nothing can listen, and what to do about it.
fn not_listening(error: io::Error, failed: &str, option: &str) -> anyhow::Error {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => format!("; name another with {option}, or end what has it"),
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 are for root, or for CAP_NET_BIND_SERVICE".to_owned()
        }
        _ => String::new(),
    };
    anyhow::Error::new(error).context(format!("{failed}{advice}"))
}

fn say_that_mappings_cannot_be_compared(listen: SocketAddr, error: &impl std::fmt::Display) {
    stdio::say(format_args!(
        "note: TCP {listen} cannot be listened on as well ({error}), so peers with one STUN address \
         cannot tell whether their NAT gives each destination another port; free it, or name two \
         addresses with --stun"
    ));
}

fn stun_config(memory: u64) -> StunServerConfig {
    let mut config = StunServerConfig::default();
    share_files(
        &mut config,
        p2pconnect::raise_file_limit().unwrap_or(FEWEST_FILES),
    );
    share_memory(&mut config, memory);
    config
}

/// Bounds what STUN takes of the memory that the process may have to a quarter of what clients may
/// take, which is as many connections as the clients of the coordinator hold.
fn share_memory(config: &mut StunServerConfig, bytes: u64) {
    let all = memory_for_clients(bytes) / 4 / BYTES_PER_CONNECTION;
    let all = usize::try_from(all).unwrap_or(usize::MAX);
    config.max_connections = config.max_connections.min((all / STUN_SERVERS).max(1));
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
    fn who_may_not_listen_is_told_why() {
        for (kind, told) in [
            (io::ErrorKind::PermissionDenied, "ports below 1024"),
            (io::ErrorKind::AddrInUse, "another with --stun"),
        ] {
            let error = not_listening(kind.into(), "here", "--stun");
            assert!(format!("{error:#}").contains(told), "{error:#}");
        }
    }

    #[test]
    fn stun_takes_a_part_of_the_memory_and_holds_the_mappings_of_all_clients() {
        for mib in [0, 32, 64, 128, 512, 1 << 20] {
            let bytes = mib << 20;
            let mut config = StunServerConfig::default();
            share_memory(&mut config, bytes);
            let taken = (config.max_connections * STUN_SERVERS) as u64 * BYTES_PER_CONNECTION;
            assert!(taken <= (bytes / 4).max(15 << 10), "{mib} MiB: {taken}");
            // A client has two punch ports.
            let clients = ServiceLimits::default()
                .within_memory(bytes)
                .max_connections;
            assert!(
                config.max_connections >= 2 * clients || clients == 1,
                "{mib} MiB"
            );
        }
        let mut config = StunServerConfig::default();
        share_memory(&mut config, u64::MAX);
        assert_eq!(config.max_connections, 40_960);
    }

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
