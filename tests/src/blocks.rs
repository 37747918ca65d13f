//! Blocks of ports such as carriers give to their subscribers.

use netns_lab::NatSpec;

/// Sizes and first ports of blocks. None is aligned to its size, or to a power of two that holds it;
/// that of 1,000 begins where Juniper's do.
pub const BLOCKS: [(u16, u16); 5] = [
    (256, 20_000),
    (400, 30_001),
    (1000, 1024),
    (2016, 20_001),
    (3000, 30_001),
];

/// Returns a NAT that draws a port of the block for each destination.
pub const fn nat((size, first): (u16, u16)) -> NatSpec {
    NatSpec::random_per_destination().port_range(first, first + (size - 1))
}
