//! Blocks of ports such as carriers give to their subscribers.

use netns_lab::NatSpec;

/// A block of ports.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    size: u16,
    first: u16,
}

/// Blocks of several sizes. None is aligned to its size, or to a power of two that holds it;
/// that of 1,000 begins where Juniper's do.
pub const BLOCKS: [Block; 5] = [
    Block::new(256, 20_000),
    Block::new(400, 30_001),
    Block::new(1000, 1024),
    Block::new(2016, 20_001),
    Block::new(3000, 30_001),
];

impl Block {
    const fn new(size: u16, first: u16) -> Self {
        Self { size, first }
    }
}

/// Returns a NAT that draws a port of the block for each destination.
pub const fn nat(block: Block) -> NatSpec {
    let Block { size, first } = block;
    NatSpec::random_per_destination().port_range(first, first + (size - 1))
}
