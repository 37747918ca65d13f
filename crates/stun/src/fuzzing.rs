//! The pure parts behind the sockets, for fuzzing.

use std::net::SocketAddr;

use p2pconnect_proto::ReflexiveToken;

use crate::{
    Commitment, MappingError, StunServerConfig, binding,
    server::{
        answer::{self, Answer, Caller, Manner},
        datagram::{self, Arrival},
        discovery::Quad,
    },
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
    let caller = Caller {
        remote,
        backs: &[],
        place: None,
        manner: Manner::Stream,
    };
    match answer::answer(message, caller, config, now) {
        Ok(Answer::Send(bytes)) => Ok(Some(bytes)),
        Ok(Answer::Nothing) => Ok(None),
        Err(why) => Err(why.to_string()),
    }
}

/// What a server with four addresses sends in answer to a datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The datagram.
    pub bytes: Vec<u8>,
    /// From where.
    pub from: SocketAddr,
    /// Where to.
    pub to: SocketAddr,
}

/// Answers a datagram that has come from `remote` to `addresses[0]` of a server whose other address
/// is `addresses[1]`; `None` where it is not answered.
#[must_use]
pub fn answer_datagram(
    bytes: &[u8],
    remote: SocketAddr,
    addresses: [SocketAddr; 2],
    config: &StunServerConfig,
) -> Option<Reply> {
    let [one, other] = addresses;
    let arrival = Arrival {
        bytes,
        from: remote,
        at: one,
        quad: Some(Quad { one, other }),
    };
    let reply = datagram::reply(arrival, config, 0)?;
    Some(Reply {
        bytes: reply.bytes,
        from: reply.by,
        to: reply.to,
    })
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
