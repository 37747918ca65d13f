//! Lets a listener of the operating system ignore SYNs from some addresses.

use std::io;

use socket2::SockRef;

pub(super) use program::attach;

/// Frees a socket of its filter, if it has one.
pub(super) fn detach(socket: SockRef<'_>) -> io::Result<()> {
    match socket.detach_filter() {
        // There is none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// The filter as a program for the system (`linux/filter.h`, "Linux Socket Filtering").
#[cfg(any(target_os = "linux", target_os = "android"))]
mod program {
    use std::{
        collections::{BTreeMap, BTreeSet},
        io,
        net::{Ipv4Addr, SocketAddr},
        ops::RangeInclusive,
    };

    use libc::{
        BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_H, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_K,
        BPF_LD, BPF_RET, BPF_W, SKF_NET_OFF,
    };
    use socket2::{SockFilter, SockRef};
    use tokio::net::TcpListener;

    /// The most instructions that Linux takes (`BPF_MAXINSNS`).
    const MAX_LEN: usize = 4096;

    /// How many there may be where the options of a socket have no more than 20 KiB
    /// (`net.core.optmem_max`), as before Linux 6.3: each takes 8 bytes once it is translated.
    const MAX_LEN_OF_OLD: usize = 2400;

    /// The most ports in one section, of two instructions each: a jump leads at most 255 ahead.
    const MAX_PORTS: usize = 120;

    /// Where the source address is in an IPv4 header.
    const SOURCE: u32 = SKF_NET_OFF.cast_unsigned() + 12;

    /// Where the source port and the flags are in a TCP header, which a filter of TCP is given.
    const PORT: u32 = 0;
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;

    /// How much of a segment is let through.
    const NOTHING: u32 = 0;
    const ALL: u32 = u32::MAX;

    /// Has a listener answer no SYN from these addresses, in place of those of the last call. If
    /// there are too many for the system, some are answered. Addresses of IPv6 are.
    pub(crate) fn attach(listener: &TcpListener, from: &BTreeSet<SocketAddr>) -> io::Result<()> {
        let listener = SockRef::from(listener);
        let attach = |most| {
            let program = without(from, most).into_iter().map(SockFilter::from);
            listener.attach_filter(&program.collect::<Vec<_>>())
        };
        attach(MAX_LEN).or_else(|_| attach(MAX_LEN_OF_OLD))
    }

    /// One instruction. A comparison that holds skips so many others; after one that does not, the
    /// next one follows.
    #[derive(Debug, Clone, Copy)]
    struct Instruction {
        code: u16,
        skipped: u8,
        operand: u32,
    }

    impl From<Instruction> for SockFilter {
        fn from(it: Instruction) -> Self {
            Self::new(it.code, it.skipped, 0, it.operand)
        }
    }

    /// Returns a program, of so many instructions at most, that lets no SYN through from these
    /// addresses.
    fn without(from: &BTreeSet<SocketAddr>, most: usize) -> Vec<Instruction> {
        let mut program = vec![
            load(BPF_B, FLAGS),
            step(BPF_ALU | BPF_AND | BPF_K, SYN | ACK),
            skip_if(BPF_JEQ, SYN, 1),
            step(BPF_RET | BPF_K, ALL),
        ];
        for (ip, ports) in runs(from) {
            for ports in ports.chunks(MAX_PORTS) {
                let section = section(ip, ports);
                if program.len() + section.len() < most {
                    program.extend(section);
                }
            }
        }
        program.push(step(BPF_RET | BPF_K, ALL));
        program
    }

    /// Ends the program with nothing if a SYN comes from one of these ports; goes on behind its end
    /// otherwise.
    fn section(ip: Ipv4Addr, ports: &[RangeInclusive<u16>]) -> Vec<Instruction> {
        let mut tests = Vec::new();
        for range in ports.iter().rev() {
            // The last instruction of all is to let nothing through, the one before that jumps over
            // it.
            let to_end = u8::try_from(tests.len() + 1).unwrap_or(u8::MAX);
            let [first, last] = [*range.start(), *range.end()].map(u32::from);
            if first == last {
                tests.push(skip_if(BPF_JEQ, first, to_end));
            } else {
                tests.push(skip_if(BPF_JGE, first, to_end));
                tests.push(skip_if(BPF_JGT, last, 1));
            }
        }
        tests.reverse();
        let len = u32::try_from(tests.len()).unwrap_or(u32::MAX);
        let mut section = vec![
            load(BPF_W, SOURCE),
            skip_if(BPF_JEQ, ip.to_bits(), 1),
            step(BPF_JMP | BPF_JA, len.saturating_add(3)),
            load(BPF_H, PORT),
        ];
        section.extend(tests);
        section.push(step(BPF_JMP | BPF_JA, 1));
        section.push(step(BPF_RET | BPF_K, NOTHING));
        section
    }

    /// Returns the ports of each address in runs without a gap.
    fn runs(from: &BTreeSet<SocketAddr>) -> BTreeMap<Ipv4Addr, Vec<RangeInclusive<u16>>> {
        let mut runs: BTreeMap<_, Vec<RangeInclusive<u16>>> = BTreeMap::new();
        for address in from {
            let SocketAddr::V4(address) = address else {
                continue;
            };
            let port = address.port();
            let ports = runs.entry(*address.ip()).or_default();
            match ports.last_mut() {
                Some(run) if run.end().checked_add(1) == Some(port) => *run = *run.start()..=port,
                Some(_) | None => ports.push(port..=port),
            }
        }
        runs
    }

    fn load(size: u32, from: u32) -> Instruction {
        step(BPF_LD | BPF_ABS | size, from)
    }

    fn step(code: u32, operand: u32) -> Instruction {
        instruction(code, operand, 0)
    }

    fn skip_if(comparison: u32, operand: u32, skipped: u8) -> Instruction {
        instruction(BPF_JMP | BPF_K | comparison, operand, skipped)
    }

    fn instruction(code: u32, operand: u32, skipped: u8) -> Instruction {
        // The header's codes are all below 256.
        let code = u16::try_from(code).unwrap_or_default();
        Instruction {
            code,
            skipped,
            operand,
        }
    }

    #[cfg(test)]
    mod tests {
        use std::net::SocketAddrV4;

        use super::*;

        /// Runs a program as the system does; tells whether a segment is let through.
        fn lets_through(program: &[Instruction], from: SocketAddrV4, flags: u32) -> bool {
            let (mut at, mut value) = (0, 0);
            loop {
                let Instruction {
                    code,
                    skipped,
                    operand,
                } = program[at];
                let code = u32::from(code);
                let mut ahead = 0;
                if code == BPF_RET | BPF_K {
                    return operand == ALL;
                } else if code == BPF_JMP | BPF_JA {
                    ahead = operand;
                } else if code == BPF_ALU | BPF_AND | BPF_K {
                    value &= operand;
                } else if code & 7 == BPF_LD {
                    value = match operand {
                        SOURCE => from.ip().to_bits(),
                        PORT => from.port().into(),
                        _ => flags,
                    };
                } else {
                    let is_so = match code & 0xf0 {
                        BPF_JEQ => value == operand,
                        BPF_JGT => value > operand,
                        _ => value >= operand,
                    };
                    ahead = if is_so { skipped.into() } else { 0 };
                }
                at += 1 + usize::try_from(ahead).unwrap_or(usize::MAX);
            }
        }

        #[test]
        fn no_syn_gets_through_from_where_holes_have_led() {
            let [one, two, three] = [1, 2, 3].map(|it| Ipv4Addr::new(203, 0, 113, it));
            // Single ports, runs, and the last one.
            let is_left_out = |ip: Ipv4Addr, port: u16| match ip {
                _ if ip == one => port.is_multiple_of(97) || (5000..5400).contains(&port),
                _ if ip == two => port >= 65_000,
                _ => false,
            };
            let all = [one, two]
                .into_iter()
                .flat_map(|ip| (0..=u16::MAX).map(move |port| (ip, port)));
            let from = all.filter(|(ip, port)| is_left_out(*ip, *port));
            let program = without(&from.map(SocketAddr::from).collect(), MAX_LEN);
            for ip in [one, two, three] {
                for port in 0..=u16::MAX {
                    let is_through = lets_through(&program, SocketAddrV4::new(ip, port), SYN);
                    assert_eq!(is_through, !is_left_out(ip, port), "{ip}:{port}");
                }
            }
            // The answer to a SYN, and what comes on a connection.
            for flags in [SYN | ACK, ACK, 0x04] {
                assert!(lets_through(&program, SocketAddrV4::new(one, 97), flags));
            }
        }

        #[test]
        fn what_there_is_no_room_for_is_answered() {
            let one = Ipv4Addr::new(203, 0, 113, 1);
            let from = (0..5000).map(|port| SocketAddr::from((one, port * 2)));
            let program = without(&from.collect(), MAX_LEN_OF_OLD);
            assert!(program.len() <= MAX_LEN_OF_OLD);
            assert!(!lets_through(&program, SocketAddrV4::new(one, 0), SYN));
            assert!(lets_through(&program, SocketAddrV4::new(one, 9998), SYN));
        }
    }
}

/// Other systems have no such filters.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod program {
    use std::{collections::BTreeSet, io, net::SocketAddr};

    use tokio::net::TcpListener;

    /// Has a listener answer no SYN from these addresses, in place of those of the last call. If
    /// there are too many for the system, some are answered. Addresses of IPv6 are.
    pub(crate) fn attach(_: &TcpListener, _: &BTreeSet<SocketAddr>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use std::{
        collections::BTreeSet,
        net::{Ipv4Addr, SocketAddr},
        time::Duration,
    };

    use tokio::time::timeout;

    use crate::{Host, Sharing, TcpListener, TcpSocket};

    /// Connects, if the other end of the loopback answers: it does so at once.
    async fn connects(socket: TcpSocket, listener: &TcpListener) -> bool {
        let connecting = socket.connect(listener.local_addr().unwrap());
        let connected = timeout(Duration::from_millis(100), connecting).await;
        connected.is_ok_and(|it| it.is_ok())
    }

    #[tokio::test]
    async fn an_ignored_syn_is_not_answered() {
        let host = Host::default();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = host.shared_listener(any, 8).unwrap();
        let sockets = [(); 3].map(|()| host.tcp_socket(any, Sharing::Shared).unwrap());
        let [ignored, other, again] = sockets;
        let from = [&ignored, &again].map(|it| it.local_addr().unwrap());
        listener.ignore(&from.into());
        assert!(!connects(ignored, &listener).await);
        assert!(connects(other, &listener).await);
        // It has inherited no filter that would last.
        let (_accepted, _) = listener.accept().await.unwrap();
        listener.ignore(&BTreeSet::new());
        assert!(connects(again, &listener).await);
    }
}
