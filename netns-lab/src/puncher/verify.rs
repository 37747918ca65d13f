//! What the two ends of an open connection say to each other.

use p2pconnect_proto::Role;
use p2pconnect_punch::VerifyFailure;

use super::sockets::{Received, Sockets};

const TOKEN: usize = 16;

/// Stands for the client's part of the TLS handshake, which opens it.
const HELLO: u8 = b'H';

/// Stands for the server's flight; with it the client knows the peer.
const REPLY: u8 = b'R';

/// The controlling side's word that this connection is the one.
pub(super) const NOMINATION: u8 = b'N';

/// The verification of one connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verification {
    role: Role,
    token: [u8; TOKEN],
    /// Bytes of the other side's that came so far.
    received: usize,
}

impl Verification {
    /// Begins, where the other side's token may have been read already.
    pub(super) fn begin<T: Sockets>(
        role: Role,
        token: [u8; TOKEN],
        token_read: bool,
        sockets: &mut T,
        socket: T::Socket,
    ) -> Result<Self, VerifyFailure> {
        let mut opening = token.to_vec();
        if role == Role::Controlling {
            opening.push(HELLO);
        }
        if !sockets.send(socket, &opening) {
            return Err(VerifyFailure::Closed);
        }
        Ok(Self {
            role,
            token,
            received: if token_read { TOKEN } else { 0 },
        })
    }

    /// Takes in what has come; true once the other end is the peer and, on the
    /// controlled side, has nominated the connection.
    pub(super) fn poll<T: Sockets>(
        &mut self,
        sockets: &mut T,
        socket: T::Socket,
    ) -> Result<bool, VerifyFailure> {
        loop {
            let mut buffer = [0; TOKEN];
            // No further than this side's last byte, so that what follows the
            // handshake stays for whoever uses the connection.
            let wanted = (self.length() - self.received).min(TOKEN);
            if wanted == 0 {
                return Ok(true);
            }
            match sockets.receive(socket, &mut buffer[..wanted]) {
                Received::Nothing => return Ok(false),
                Received::Closed => return Err(VerifyFailure::Closed),
                Received::Bytes(count) => {
                    for &byte in &buffer[..count] {
                        self.take(byte, sockets, socket)?;
                    }
                }
            }
        }
    }

    /// How many bytes the other side sends in all.
    const fn length(&self) -> usize {
        match self.role {
            Role::Controlling => TOKEN + 1,
            Role::Controlled => TOKEN + 2,
        }
    }

    fn take<T: Sockets>(
        &mut self,
        byte: u8,
        sockets: &mut T,
        socket: T::Socket,
    ) -> Result<(), VerifyFailure> {
        let expected = match (self.token.get(self.received), self.role, self.received) {
            (Some(&token), _, _) => token,
            (None, Role::Controlling, _) => REPLY,
            (None, Role::Controlled, TOKEN) => HELLO,
            (None, Role::Controlled, _) => NOMINATION,
        };
        if byte != expected {
            return Err(VerifyFailure::Stranger);
        }
        self.received += 1;
        let says_hello = self.role == Role::Controlled && self.received == TOKEN + 1;
        if says_hello && !sockets.send(socket, &[REPLY]) {
            return Err(VerifyFailure::Closed);
        }
        Ok(())
    }
}
