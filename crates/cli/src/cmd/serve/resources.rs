//! What the machine bears of what `serve` is told to do.

use p2pconnect_coordinator::{ServiceLimits, memory_for_clients};
use p2pconnect_stun::{BYTES_PER_CONNECTION, StunServerConfig};

use crate::stdio;

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

/// Returns how many clients the memory of this process bears, and says so if these are fewer than
/// usual.
pub(super) fn of_service(usual: ServiceLimits, bytes: u64) -> ServiceLimits {
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

/// Returns how each STUN server is set up with the files and the memory that there are. Of the
/// memory STUN takes a quarter of what clients may take, which is as many connections as the
/// clients of the coordinator hold.
pub(super) fn of_stun(config: StunServerConfig, memory: u64) -> StunServerConfig {
    within(config, memory_for_clients(memory) / 4, STUN_SERVERS)
}

/// Returns how a STUN server without a coordinator is set up, which may take all that clients may.
pub(crate) fn of_stun_alone(config: StunServerConfig, memory: u64) -> StunServerConfig {
    within(config, memory_for_clients(memory), 1)
}

/// Sets each of so many STUN servers up, which have so much memory together.
fn within(mut config: StunServerConfig, memory: u64, servers: usize) -> StunServerConfig {
    let files = p2pconnect::raise_file_limit().unwrap_or(FEWEST_FILES);
    share_files(&mut config, files, servers);
    share_memory(&mut config, memory, servers);
    config
}

fn share_memory(config: &mut StunServerConfig, bytes: u64, servers: usize) {
    let all = usize::try_from(bytes / BYTES_PER_CONNECTION).unwrap_or(usize::MAX);
    config.max_connections = config.max_connections.min((all / servers).max(1));
}

/// Bounds what STUN takes of the open files that the process may have, so that QUIC, and what the
/// runtime needs, always find some.
fn share_files(config: &mut StunServerConfig, files: u64, servers: usize) {
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    let kept = FILES_KEPT.min(files / 2);
    let each = (files - kept) / servers;
    // A connection back takes two, from two addresses of the server.
    config.max_connect_backs = config.max_connect_backs.min(each / 8);
    let for_backs = 2 * config.max_connect_backs;
    config.max_connections = config.max_connections.min(each.saturating_sub(for_backs));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stun_takes_a_part_of_the_memory_and_holds_the_mappings_of_all_clients() {
        for mib in [0, 32, 64, 128, 512, 1 << 20] {
            let bytes = mib << 20;
            let mut config = StunServerConfig::default();
            share_memory(&mut config, memory_for_clients(bytes) / 4, STUN_SERVERS);
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
        share_memory(&mut config, u64::MAX, STUN_SERVERS);
        assert_eq!(config.max_connections, 40_960);
    }

    #[test]
    fn stun_leaves_files_for_quic() {
        for files in [0, 20, 1024, 4096, 20_000, 1 << 20, u64::MAX] {
            let mut config = StunServerConfig::default();
            share_files(&mut config, files, STUN_SERVERS);
            let each = config.max_connections + 2 * config.max_connect_backs;
            let kept = files.saturating_sub(3 * each as u64);
            assert!(kept >= (files / 2).min(128), "{files}: {kept} kept");
        }
        let mut config = StunServerConfig::default();
        share_files(&mut config, u64::MAX, STUN_SERVERS);
        assert_eq!(config.max_connections, 40_960);
    }
}
