//! Looking host names up.

use std::{io, net::SocketAddr, time::Duration};

use p2pconnect_proto::unmapped;
use p2pconnect_stun::shortage;
use tokio::{net::lookup_host, time::timeout};

/// How long a look-up may take. A resolver gives each name server 5 s before it asks the next
/// (resolv.conf(5)), so two may be dead.
pub(crate) const LOOKUP_LIMIT: Duration = Duration::from_secs(15);

/// Returns the addresses of a host, as the system's resolver has them, within a limit.
///
/// # Errors
///
/// What the resolver says, or [`io::ErrorKind::TimedOut`].
///
/// # Cancel safety
///
/// Dropping the future is safe; the resolver goes on in a thread until it has an answer or none.
pub(crate) async fn look_up(host: &str, port: u16, limit: Duration) -> io::Result<Vec<SocketAddr>> {
    let found = timeout(limit, lookup_host((host, port))).await;
    let silent = || {
        io::Error::new(
            io::ErrorKind::TimedOut,
            "no name server has answered in time",
        )
    };
    let found = found.map_err(|_| silent())?.inspect_err(|error| {
        shortage::note(error);
    })?;
    // No socket here has both families.
    Ok(found.map(unmapped).collect())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_ipv4_address_in_ipv6_is_one_of_ipv4() {
        let found = look_up("::ffff:192.0.2.1", 1, LOOKUP_LIMIT).await.unwrap();
        assert_eq!(found, [SocketAddr::from(([192, 0, 2, 1], 1))]);
        let found = look_up("fe80::1%1", 2, LOOKUP_LIMIT).await.unwrap();
        assert!(matches!(found[..], [SocketAddr::V6(it)] if it.scope_id() == 1));
    }
}
