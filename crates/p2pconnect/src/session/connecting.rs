//! Opens TCP connections as the path asks for.

use std::{io, pin::pin};

use p2pconnect_host::{Host, Sharing, TcpSocket, TcpStream};
use p2pconnect_punch::{ConnectFailure, Opened};

use crate::{
    machine::{four_tuple::FourTuple, tcp},
    session::{
        path_faults::{Known, PathFaults},
        syn_budget::PaidSyn,
    },
};

/// The largest window without scaling (RFC 9293 section 3.1).
const UNSCALED_WINDOW: u32 = u16::MAX as u32;

/// Connects from exactly the local address of the 4-tuple, as the faults of the path ask for, and
/// tells how the connection came to be.
///
/// A connection whose peer reads our windows wrongly fails as one that was reset, which it is then:
/// so the peer learns that it has to open anew as well.
///
/// The attempt is given up when `given_up` ends, unless the peer's SYN has come by then: the peer
/// believes that the connection is open, or will in a moment.
///
/// Cancel safety: dropping the future closes the socket, which is what ends an attempt.
pub(crate) async fn connect(
    host: &Host,
    four_tuple: FourTuple,
    paid: PaidSyn,
    faults: &PathFaults,
    given_up: impl Future<Output = ()>,
) -> Result<(TcpStream, Opened), ConnectFailure> {
    let FourTuple { local, remote } = four_tuple;
    let mut watched = faults.watch();
    let mut given_up = pin!(given_up);
    let mut is_given_up = false;
    let (stream, known) = 'opening: loop {
        let known = *watched.borrow_and_update();
        let socket = host.tcp_socket(local, Sharing::Shared);
        let socket = socket.map_err(|error| tcp::classify_unsent(&error))?;
        prepare(&socket, known).map_err(|error| tcp::classify(&error))?;
        let mut connecting = socket.connect(remote);
        loop {
            tokio::select! {
                connected = &mut connecting => {
                    break 'opening (connected.map_err(|error| tcp::classify(&error))?, known);
                }
                // Where ports are guessed, the peer's next attempts come by other ones: a hole that
                // is open already must be of use to these.
                () = watched.wait_for(|now| now.scale_lost != known.scale_lost) => break,
                () = &mut given_up, if !is_given_up => {
                    if !connecting.is_met() {
                        return Err(ConnectFailure::Withheld);
                    }
                    is_given_up = true;
                }
            }
        }
        paid.repeat();
    };
    if !known.scale_lost && stream.info().has_lost_its_scale {
        faults.note_scale_lost();
        return Err(ConnectFailure::Reset);
    }
    let opened = tcp::opened(&stream);
    Ok((stream, opened))
}

/// Makes the SYN of a socket say what suits the path.
fn prepare(socket: &TcpSocket, known: Known) -> io::Result<()> {
    if known.scale_lost {
        socket.limit_window(UNSCALED_WINDOW)?;
    }
    if known.large_lost {
        // It limits what this side sends, and tells the other side to do the same.
        socket.limit_segment(tcp::SMALL_SEGMENT)?;
    }
    Ok(())
}
