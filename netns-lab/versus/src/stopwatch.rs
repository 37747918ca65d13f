//! Measures when a stream comes to be, and how many bytes it carries.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Dial, Received, answer, fill};

/// How long the listener's answer may take once everything is sent: what is in the
/// buffers of a slow path, and several repetitions of the kernel's.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// What a dialler measures.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch {
    start: Instant,
    ready: Option<Instant>,
    ready_processor: Duration,
}

/// When and at what cost a stream came to be.
#[derive(Debug, Clone)]
pub struct Arrival {
    line: String,
}

impl Stopwatch {
    /// Starts to measure; the first thing that a program does.
    #[must_use]
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
            ready: None,
            ready_processor: Duration::ZERO,
        }
    }

    /// Marks where a dial begins that a running program makes ("warm").
    pub fn ready(&mut self) {
        self.ready = Some(Instant::now());
        self.ready_processor = processor_time();
    }

    /// Marks that the stream can be used.
    #[must_use]
    pub fn arrived(&self) -> Arrival {
        let (now, processor) = (Instant::now(), processor_time());
        let warm = self.ready.unwrap_or(self.start);
        Arrival {
            line: format!(
                "direct cold_ms={:.1} warm_ms={:.1} cold_cpu_ms={:.2} warm_cpu_ms={:.2}",
                milliseconds(now - self.start),
                milliseconds(now - warm),
                milliseconds(processor),
                milliseconds(processor.saturating_sub(self.ready_processor)),
            ),
        }
    }

    /// Dials within the limit, tries the stream, and prints what came of it.
    #[expect(clippy::print_stdout, reason = "this is how it is said")]
    pub async fn report<S>(
        dial: &Dial,
        dialled: impl Future<Output = Result<(Arrival, S)>>,
    ) -> ExitCode
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let outcome = async {
            let limit = dial.limit;
            let (arrival, stream) = tokio::time::timeout(limit, dialled)
                .await
                .with_context(|| format!("nothing within {limit:?}"))??;
            arrival.try_out(stream, dial.bulk).await
        };
        match outcome.await {
            Ok(line) => {
                println!("{line}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                println!("failed {}", format!("{error:#}").replace('\n', " "));
                ExitCode::FAILURE
            }
        }
    }

    /// Tells a dialler what arrived of its bytes, and what it cost to accept them.
    ///
    /// # Errors
    ///
    /// Those of the stream.
    pub async fn serve<S>(&self, stream: S) -> Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let accepting = processor_time().saturating_sub(self.ready_processor);
        Ok(on_worker(answer(stream, accepting)).await??)
    }
}

impl Arrival {
    /// Adds another measurement.
    pub fn add(&mut self, name: &str, time: Duration) {
        self.line += &format!(" {name}={:.1}", milliseconds(time));
    }

    async fn try_out<S>(self, stream: S, bulk: Duration) -> Result<String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let before = processor_time();
        let filled = on_worker(tokio::time::timeout(
            bulk + ANSWER_LIMIT,
            fill(stream, bulk),
        ))
        .await?;
        let (sent, received) = filled
            .context("no answer over the stream")?
            .context("the stream broke")?;
        anyhow::ensure!(
            sent == received.bytes,
            "sent {sent} bytes, but {} arrived",
            received.bytes
        );
        let Received {
            bytes,
            time,
            processor,
            accepting,
        } = received;
        Ok(format!(
            "{} accept_cpu_ms={:.2} bytes={bytes} time_ms={:.3} send_cpu_ms={:.2} \
             receive_cpu_ms={:.2}",
            self.line,
            milliseconds(accepting),
            milliseconds(time),
            milliseconds(processor_time() - before),
            milliseconds(processor),
        ))
    }
}

/// Runs the same work on the same kind of thread for everybody: one that also waits for
/// the sockets. The main thread would have to be woken by another one.
async fn on_worker<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T> {
    Ok(tokio::spawn(work).await?)
}

/// Returns what this process has used of processors so far.
#[must_use]
#[expect(unsafe_code, reason = "there is no safe getrusage")]
pub fn processor_time() -> Duration {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is valid, and zeroed memory is a valid `rusage`.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec.unsigned_abs())
            + Duration::from_micros(time.tv_usec.unsigned_abs())
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
