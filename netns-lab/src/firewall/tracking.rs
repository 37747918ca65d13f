//! Settings and limits of connection tracking.

use std::time::Duration;

use p2pconnect_nat::{Limits, NatSpec, Timers};

use crate::{error::Error, namespace::set_sysctl};

/// Returns how many connections may go out at once, if there is a limit.
///
/// The kernel's own limit cannot be set for one namespace, so rules count. One host is behind each
/// box, so the lower of both limits holds.
pub(super) fn limit(spec: &NatSpec) -> Option<u32> {
    let Limits {
        sessions,
        sessions_per_host,
        ..
    } = spec.limits;
    let limit = sessions.min(sessions_per_host);
    let generous = Limits::GENEROUS.sessions;
    // More than the kernel can count is no limit.
    (limit < generous).then(|| u32::try_from(limit).unwrap_or(u32::MAX))
}

/// The timeouts of connections that are partially open.
const TRANSITORY: [&str; 3] = [
    "tcp_timeout_syn_sent",
    "tcp_timeout_syn_recv",
    "tcp_timeout_last_ack",
];

/// The timeouts of connections that at least one end has not closed.
const ESTABLISHED: [&str; 3] = [
    "tcp_timeout_established",
    "tcp_timeout_fin_wait",
    "tcp_timeout_close_wait",
];

pub(super) fn configure(spec: &NatSpec) -> Result<(), Error> {
    let (ours, linux) = (&spec.timers, &Timers::LINUX);
    let timeouts: [(Duration, Duration, &[&str]); 5] = [
        (ours.transitory, linux.transitory, &TRANSITORY),
        (ours.established, linux.established, &ESTABLISHED),
        (ours.time_wait, linux.time_wait, &["tcp_timeout_time_wait"]),
        (ours.udp, linux.udp, &["udp_timeout", "udp_timeout_stream"]),
        (ours.echo, linux.echo, &["icmp_timeout", "icmpv6_timeout"]),
    ];
    for (time, default, names) in timeouts {
        // What is Linux's own stays as it is, with different times for each state.
        if time == default {
            continue;
        }
        let seconds = time.as_secs().max(1).to_string();
        for name in names {
            set_sysctl(&format!("netfilter/nf_conntrack_{name}"), &seconds)?;
        }
    }
    if !spec.pickup {
        set_sysctl("netfilter/nf_conntrack_tcp_loose", "0")?;
    }
    Ok(())
}
