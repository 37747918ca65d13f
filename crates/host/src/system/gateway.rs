//! Which router the operating system sends to what is in none of its networks.

use std::{
    io::{self, Read as _},
    net::Ipv4Addr,
};

/// How much of the system's table of routes is read, in bytes: five hundred lines. Linux lists the
/// default routes first.
const MAX_TABLE: u64 = 64 * 1024;

/// Returns the default gateway of IPv4, as Linux tells it (proc(5)).
pub(super) fn gateway() -> io::Result<Option<Ipv4Addr>> {
    Ok(default_gateway(&beginning_of("/proc/net/route")?))
}

/// Reads the beginning of a file of the system's. A router that knows the routes of the whole
/// internet has millions of lines there.
fn beginning_of(path: &str) -> io::Result<String> {
    let mut beginning = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(MAX_TABLE).read_to_end(&mut beginning)?;
    Ok(String::from_utf8_lossy(&beginning).into_owned())
}

/// Reads the default route with the lowest metric out of Linux's table. Addresses are in
/// hexadecimal there, of a number in the machine's byte order.
fn default_gateway(table: &str) -> Option<Ipv4Addr> {
    let routes = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let destination = fields.nth(1)?;
        let gateway = u32::from_str_radix(fields.next()?, 16).ok()?;
        let metric: u32 = fields.nth(3)?.parse().ok()?;
        let mask = fields.next()?;
        let is_default = destination == "00000000" && mask == "00000000" && gateway != 0;
        is_default.then(|| (metric, Ipv4Addr::from(gateway.to_ne_bytes())))
    });
    routes.min_by_key(|(metric, _)| *metric).map(|(_, it)| it)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line of the table with an address as Linux would write it on this machine.
    fn line(destination: u32, gateway: [u8; 4], metric: u32, mask: u32) -> String {
        let gateway = u32::from_ne_bytes(gateway);
        format!(
            "eth0\t{destination:08X}\t{gateway:08X}\t0003\t0\t0\t{metric}\t{mask:08X}\t0\t0\t0\n"
        )
    }

    #[test]
    fn no_more_of_a_table_is_read_than_the_default_routes_need() {
        // A file that has no end.
        let beginning = beginning_of("/dev/zero").map(|it| it.len()).ok();
        assert_eq!(beginning, usize::try_from(MAX_TABLE).ok());
    }

    #[test]
    fn the_default_route_with_the_lowest_metric_counts() {
        let table = [
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
                .into(),
            line(0, [192, 168, 1, 1], 600, 0),
            line(0, [10, 0, 0, 1], 100, 0),
            line(0, [0, 0, 0, 0], 0, 0),
            line(0x0000_a8c0, [10, 0, 0, 9], 0, 0x00ff_ffff),
        ];
        assert_eq!(default_gateway(&table.concat()), Some([10, 0, 0, 1].into()));
        assert_eq!(default_gateway(&table[0]), None);
        assert_eq!(default_gateway("nonsense\n\u{0}\nx y z"), None);
    }
}
