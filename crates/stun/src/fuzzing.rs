//! The pure parts behind the sockets, for fuzzing.

use std::net::SocketAddr;

use p2pconnect_proto::ReflexiveToken;

use crate::{
    Commitment, MappingError, StunServerConfig, binding,
    server::answer::{self, Answer, Caller},
};

/// Answers a message that has come from `remote` at `now`, in seconds since the Unix epoch; `None`
/// where it is not answered.
///
/// # Errors
///
/// Why it is no message, with which the connection ends.
pub fn answer(
    message: &[u8],
    remote: SocketAddr,
    config: &StunServerConfig,
    now: u64,
) -> Result<Option<Vec<u8>>, String> {
    let backs = &[];
    match answer::answer(message, Caller { remote, backs }, config, now) {
        Ok(Answer::Send(bytes)) => Ok(Some(bytes)),
        Ok(Answer::Nothing) => Ok(None),
        Err(why) => Err(why.to_string()),
    }
}

/// What a client takes from a success response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Success {
    /// Where the server has seen the client.
    pub mapped: SocketAddr,
    /// The server's word for it.
    pub token: Option<ReflexiveToken>,
}

/// Reads a message as a client does that has sent a Binding request; `None` if it answers none.
///
/// # Errors
///
/// Why the message cannot be read, or what it says.
pub fn read(
    message: &[u8],
    commitment: Option<&Commitment>,
) -> Result<Option<Success>, MappingError> {
    let Some(response) = binding::response(message, commitment)? else {
        return Ok(None);
    };
    let answer = response.result?;
    Ok(Some(Success {
        mapped: answer.mapped,
        token: answer.token,
    }))
}

/// Returns a Binding request.
#[must_use]
pub fn request(commitment: Option<&Commitment>) -> Vec<u8> {
    binding::request(commitment).1
}
