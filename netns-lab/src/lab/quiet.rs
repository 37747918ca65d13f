//! Keeps namespaces quiet.

use crate::{error::Error, namespace::set_sysctl};

/// Keeps the kernel from sending packets of its own accord on new links.
pub(super) fn quiet() -> Result<(), Error> {
    for (name, value) in [
        // No link-local addresses: nothing on these links is found by them.
        ("ipv6/conf/default/addr_gen_mode", "1"),
        ("ipv6/conf/default/accept_ra", "0"),
        ("ipv6/conf/default/accept_dad", "0"),
        ("ipv6/conf/default/router_solicitations", "0"),
        // Inherited from the machine, where it may be strict.
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
    ] {
        set_sysctl(name, value)?;
    }
    Ok(())
}
