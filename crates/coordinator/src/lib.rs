//! The meeting point of p2pconnect.
