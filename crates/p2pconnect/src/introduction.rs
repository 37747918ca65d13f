//! What this side says of itself, what it hears of the other side, and the connection that comes of
//! both.

pub(crate) mod advertisement;
pub(crate) mod advertising;
pub(crate) mod answer;
pub(crate) mod attempt;
pub(crate) mod called_sessions;
pub(crate) mod circumstances;
pub(crate) mod gather;
pub(crate) mod glare;
pub(crate) mod known_families;
pub(crate) mod listening;
pub(crate) mod one_each;
pub(crate) mod pending_failures;
pub(crate) mod recovery;
pub(crate) mod registrations;
pub(crate) mod remote_candidates;
pub(crate) mod shared;
pub(crate) mod shares;
pub(crate) mod staleness;
