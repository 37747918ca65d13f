//! The core of a lab: one thread that carries packets between access links.
//!
//! It reads frames off every link that ends at a host or a box of the kernel's, hands their packets
//! to the fabric, and writes what comes out of it. Delays count from the kernel's time stamp of a
//! frame, so that a late wake-up of this thread does not add to them.
#![expect(unsafe_code, reason = "waiting with nanoseconds needs ppoll")]

mod priority;
mod trains;
mod wires;

use std::{
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    os::fd::AsRawFd as _,
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    time::{Duration, Instant, SystemTime},
};

use crate::{
    error::Error,
    fabric::NodeId,
    packet_socket::{PacketSocket, SEND_BATCH},
};
use trains::Train;

pub(crate) use wires::{Records, Wires};

/// Frames read before due packets are sent: reading is much faster than what fills the ring, so
/// this is only reached when something is wrong.
const RECEIVE_BATCH: usize = 4096;

/// Packets due this soon are sent at once: a wake-up costs about as much time.
const EARLY: Duration = Duration::from_micros(30);

/// Longest wait without anything to do; only a bound for the arithmetic.
const IDLE: Duration = Duration::from_secs(3600);

/// The running engine; dropping it stops the thread.
#[derive(Debug)]
pub(crate) struct Engine {
    /// The thread ends when this end of the pipe closes.
    stop: Option<PipeWriter>,
    switches: Sender<Switch>,
    /// Behind a lock so that threads can share a lab.
    ended: Mutex<Receiver<io::Result<()>>>,
}

/// The link above a node goes up or down.
#[derive(Debug, Clone, Copy)]
struct Switch {
    node: NodeId,
    up: bool,
}

impl Engine {
    /// Starts the thread; `socket` is on all access links.
    pub(crate) fn start(socket: PacketSocket, wires: Wires) -> Result<Self, Error> {
        let action = "start the engine";
        let system = |source| Error::System {
            action: action.into(),
            source,
        };
        let (wait, stop) = io::pipe().map_err(system)?;
        let (report, ended) = mpsc::channel();
        let (switches, switched) = mpsc::channel();
        std::thread::Builder::new()
            .name("netns-lab-core".into())
            .spawn(move || {
                let mut running = Running {
                    socket,
                    wires,
                    wait,
                    switched,
                };
                let result = running.run();
                if let Err(error) = &result {
                    tracing::error!(%error, "the engine of the lab failed");
                }
                // Nobody listens if the lab could not be built to its end.
                let _listened = report.send(result);
                // Only now does the socket close: the kernel takes 20 ms for that, and nobody needs
                // to wait for it.
            })
            .map_err(system)?;
        Ok(Self {
            stop: Some(stop),
            switches,
            ended: Mutex::new(ended),
        })
    }

    /// Takes the link above a node up or down, with the next packet at the latest.
    pub(crate) fn set_link_up(&self, node: NodeId, up: bool) -> io::Result<()> {
        let died = |_gone| io::Error::other("the engine's thread has ended");
        self.switches.send(Switch { node, up }).map_err(died)?;
        match &self.stop {
            // Only to wake it.
            Some(pipe) => {
                let mut pipe: &PipeWriter = pipe;
                pipe.write_all(&[0])
            }
            None => Ok(()),
        }
    }

    /// Stops the thread, waits until its work is complete, and returns what went wrong in it.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        if self.stop.take().is_none() {
            return Ok(());
        }
        let died = |_gone| io::Error::other("the engine's thread panicked");
        let ended = self.ended.get_mut();
        ended
            .unwrap_or_else(PoisonError::into_inner)
            .recv()
            .map_err(died)?
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The thread has logged its failure.
        let _logged = self.stop();
    }
}

struct Running {
    socket: PacketSocket,
    wires: Wires,
    wait: PipeReader,
    switched: Receiver<Switch>,
}

impl Running {
    fn run(&mut self) -> io::Result<()> {
        priority::raise()?;
        let start = Instant::now();
        loop {
            let timeout = self
                .wires
                .next_due()
                .map_or(IDLE, |due| due.saturating_sub(start.elapsed()));
            if self.wait(timeout)? {
                self.warn_of_overflow();
                return self.wires.finish();
            }
            for Switch { node, up } in self.switched.try_iter() {
                self.wires.set_link_up(node, up);
            }
            self.receive(start);
            self.send_due(start)?;
        }
    }

    /// A lab promises that only its links lose packets.
    fn warn_of_overflow(&self) {
        let packets = self.socket.overflows();
        if packets > 0 {
            tracing::warn!(
                packets,
                "the machine was too busy for the lab: packets were lost"
            );
        }
    }

    /// Takes what waits in the ring, within bounds.
    fn receive(&mut self, start: Instant) {
        let clock = Clock::read(start);
        let wires = &mut self.wires;
        self.socket.receive(RECEIVE_BATCH, |frame| {
            wires.receive(clock.monotonic(frame.at), &frame);
        });
    }

    fn send_due(&mut self, start: Instant) -> io::Result<()> {
        let clock = Clock::read(start);
        self.wires.advance(clock.now + EARLY, clock)?;
        let due = self.wires.take_due();
        let mut rest = &due[..];
        while !rest.is_empty() {
            let trains: Vec<_> = Train::all(rest).take(SEND_BATCH).collect();
            let outgoing: Vec<_> = trains.iter().map(Train::outgoing).collect();
            let packets = |first: usize| trains.iter().take(first).map(Train::len).sum::<usize>();
            match self.socket.send(&outgoing) {
                Ok(sent) => rest = &rest[packets(sent)..],
                Err(error) => {
                    // The box has gone down; the others go on.
                    tracing::warn!(device = rest[0].device, %error, "a packet could not be delivered");
                    rest = &rest[packets(1)..];
                }
            }
            // The kernel runs the boxes' answers before it returns, and an
            // acknowledgement may set thousands of packets free at once.
            self.receive(start);
        }
        Ok(())
    }

    /// Waits for a frame or until the timeout; returns whether to stop.
    fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
        let watch = |fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        let mut polled = [
            watch(self.socket.descriptor()),
            watch(self.wait.as_raw_fd()),
        ];
        let timeout = libc::timespec {
            tv_sec: timeout.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(timeout.subsec_nanos()),
        };
        // SAFETY: both pointers describe locals that outlive the call.
        let ready =
            unsafe { libc::ppoll(polled.as_mut_ptr(), 2, &raw const timeout, std::ptr::null()) };
        if ready < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted {
                Ok(false)
            } else {
                Err(error)
            };
        }
        if polled[1].revents & libc::POLLIN != 0 {
            // Somebody woke us; how often does not matter.
            return Ok(self.wait.read(&mut [0; 64])? == 0);
        }
        Ok(polled[1].revents != 0)
    }
}

/// The two clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// Time since the start of the engine.
    pub(crate) now: Duration,
    /// Wall-clock time since 1970.
    wall: Duration,
}

impl Clock {
    fn read(start: Instant) -> Self {
        let wall = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            now: start.elapsed(),
            wall,
        }
    }

    /// Converts a recent wall-clock time to time since the start.
    fn monotonic(self, wall: Duration) -> Duration {
        self.now.saturating_sub(self.wall.saturating_sub(wall))
    }

    /// Converts time since the start to wall-clock time.
    pub(crate) fn wall(self, at: Duration) -> Duration {
        (self.wall + at).saturating_sub(self.now)
    }
}
