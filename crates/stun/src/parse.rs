//! Parses one STUN message, without a word about those that are none.

use stun_types::message::{Message, StunParseError};
use tracing::dispatcher::{Dispatch, with_default};

/// Parses one framed message.
///
/// The codec warns through `tracing` about each malformed message. What strangers send is no
/// reason for a warning, and would let them flood the log, so the codec speaks to nobody here.
pub(crate) fn parse(bytes: &[u8]) -> Result<Message<'_>, StunParseError> {
    with_default(&Dispatch::none(), || Message::from_bytes(bytes))
}
