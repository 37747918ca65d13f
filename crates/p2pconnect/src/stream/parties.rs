//! Who is introduced to whom.

use p2pconnect_proto::{PeerId, Role};

/// The two peers of an introduction, seen from this side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parties {
    pub(crate) own: PeerId,
    pub(crate) peer: PeerId,
    /// This side's role.
    pub(crate) role: Role,
}
