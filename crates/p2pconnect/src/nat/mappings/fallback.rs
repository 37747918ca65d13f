//! Asks further servers for mappings while no other one answers: by way of the web where nothing
//! else leads to the coordinator, and the addresses that serve for comparison.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::timeout};

use super::{
    Shared,
    table::{Key, Table},
};
use crate::machine::punch_ports::PunchPorts;

/// How long the servers that are asked first may take before others are asked beside them. An
/// answer takes two round trips, and the first half of them is over when the coordinator has named
/// its servers. A firewall that drops what is sent to their port never answers.
const PATIENCE: Duration = Duration::from_millis(500);

/// Has further servers asked whenever a family has no mapping, for as long as the future is polled.
pub(super) async fn run(shared: Arc<Shared>, ports: PunchPorts) {
    let mut table = shared.table.watch();
    // Ends with this future.
    let mut holding = JoinSet::new();
    loop {
        let is_needed = |table: &Table| table.complete && !table.unmapped().is_empty();
        table.wait_for(is_needed).await;
        let is_clear = |table: &Table| table.unmapped().is_empty() || table.have_all_failed();
        // Waits longer only for those who may still answer.
        drop(timeout(PATIENCE, table.wait_for(is_clear)).await);
        for server in shared.unasked() {
            let punch_ports = ports.iter().map(|(punch_port, _)| punch_port);
            let is_new = shared
                .table
                .change_if(|table| table.name_fallback(server, punch_ports));
            if is_new {
                tracing::debug!(%server, "asked for mappings as well");
                for (punch_port, port) in ports.iter() {
                    let key = Key { punch_port, server };
                    holding.spawn(Arc::clone(&shared).hold(key, port));
                }
            }
        }
        shared
            .table
            .change_if(|table| std::mem::take(&mut table.may_fall_back));
        table.mark_unchanged();
        table.changed().await;
    }
}

impl Shared {
    /// Returns the servers to ask of the families that have no mapping.
    fn unasked(&self) -> Vec<SocketAddr> {
        let unmapped: BTreeSet<bool> = self.table.borrow().unmapped();
        let alternates = self.alternates.borrow().clone().unwrap_or_default();
        let is_wanted = |it: &SocketAddr| unmapped.contains(&it.is_ipv4());
        let all = self.web_server().into_iter().chain(alternates);
        all.filter(is_wanted).collect()
    }
}
