//! What is said on a stream: each side says who it is, and which dial the stream is of.

use std::{io, time::Duration};

use p2pconnect::Connection;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::sleep,
};

use crate::checks::{Broken, Checks};

/// The longest that anybody says.
const LONGEST: u64 = 16 * 1024;

/// What a side says: its own number, the dial that it made if it did, and how much follows.
const HEAD: usize = 12;

/// Stands for a side that has accepted the stream.
const NONE: u32 = u32::MAX;

/// Who talks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Talk {
    pub(crate) own: usize,
    /// The number of the dial, if it is this side's.
    pub(crate) dial: Option<usize>,
}

/// Talks to whoever is at the other end, and checks that it is who it should be. Returns once the
/// other one has said everything, and has heard everything.
pub(crate) async fn talk(
    mut connection: Connection,
    said: Talk,
    checks: &Checks,
) -> io::Result<()> {
    let number = said.dial.unwrap_or_default();
    let follow = number * 1031 % 5_000;
    let dial = said.dial.map_or(NONE, |dial| dial as u32);
    let mut message = Vec::with_capacity(HEAD + follow);
    for part in [said.own as u32, dial, follow as u32] {
        message.extend(part.to_be_bytes());
    }
    message.extend((0..follow).map(|at| byte(dial, at)));
    // Half of it later, so that faults meet streams that are in use.
    let (first, rest) = message.split_at(HEAD + follow / 2);
    connection.write_all(first).await?;
    sleep(Duration::from_millis(number as u64 % 4 * 400)).await;
    connection.write_all(rest).await?;
    connection.shutdown().await?;
    let mut heard = Vec::new();
    (&mut connection)
        .take(LONGEST)
        .read_to_end(&mut heard)
        .await?;
    check(&connection, said, &heard, checks);
    match number % 3 {
        0 => drop(connection),
        _ => connection.finish().await?,
    }
    Ok(())
}

/// Returns the byte at a place of what is said on a stream of a dial.
const fn byte(dial: u32, at: usize) -> u8 {
    (dial as usize + at) as u8
}

/// Checks what was said by the other side.
fn check(connection: &Connection, said: Talk, heard: &[u8], checks: &Checks) {
    let id = connection.peer_id();
    let Some((head, rest)) = heard.split_at_checked(HEAD) else {
        let text = format!("{said:?} hears {} bytes of {id}", heard.len());
        return checks.breaks(Broken::Nomination, text);
    };
    let part = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (peer, dial, follow) = (part(0) as usize, part(4), part(8) as usize);
    if checks.number(id) != Some(peer) {
        let text = format!("{said:?} is with {id}, who calls itself {peer}");
        checks.breaks(Broken::Peer, text);
    }
    if rest.len() != follow || (0..).zip(rest).any(|(at, it)| *it != byte(dial, at)) {
        let text = format!("{said:?} hears of {peer} what it has not said");
        checks.breaks(Broken::Nomination, text);
    }
    if dial != NONE {
        if !checks.is_dialled(dial as usize, peer, said.own) {
            let text =
                format!("{said:?} has a stream of dial {dial} of {peer}, which is another's");
            checks.breaks(Broken::Peer, text);
        }
        checks.is_heard(dial as usize);
    } else if said.dial.is_none() {
        let text = format!("{said:?} has a stream with {peer} that nobody has dialled");
        checks.breaks(Broken::Peer, text);
    }
}
