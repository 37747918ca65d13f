//! Waiting until links carry packets.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    error::Error,
    netlink::{Netlink, route},
};

/// The kernel needs microseconds, on a machine that is short of time milliseconds.
const LIMIT: Duration = Duration::from_secs(5);

/// Short beside the time that building a lab takes.
const PAUSE: Duration = Duration::from_micros(100);

/// Waits until links of the thread's namespace send what is given to them.
///
/// Of a pair, the end that is set up first gets its carrier with the other one, but its queue only
/// a moment later, from a worker of the kernel. Until then it drops every packet without a word,
/// and a lost SYN costs a second.
pub(super) fn await_links(links: &[u32]) -> Result<(), Error> {
    let action = "look at the links";
    let mut netlink = Netlink::open(libc::NETLINK_ROUTE)?;
    let deadline = Instant::now() + LIMIT;
    loop {
        let mut running = Vec::new();
        netlink.dump(action, route::links(), |body| {
            running.extend(route::running_link(body));
        })?;
        if links.iter().all(|link| running.contains(link)) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::LinksDown { limit: LIMIT });
        }
        sleep(PAUSE);
    }
}
