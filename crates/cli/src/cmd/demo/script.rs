//! Plays the demo: a coordinator and two peers behind NATs, in a lab of network namespaces.

use std::{
    fmt,
    fs::DirBuilder,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::SocketAddr,
    os::unix::fs::DirBuilderExt as _,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use netns_lab::{HostSpec, Lab, LinkSpec, NatSpec, UnsolicitedSyn};
use p2pconnect::SecretKey;
use serde_json::Value;

use super::{
    process::{Process, command},
    traffic::{Sum, Transfer},
};
use crate::{args, stdio};

/// One way over the access link of a peer, and of the server: 80 ms round trip between the peers,
/// 42 ms to the server.
const PEER_DELAY: Duration = Duration::from_millis(20);
const SERVER_DELAY: Duration = Duration::from_millis(1);

/// The round-trip times that follow, in milliseconds.
const RTT_PEERS: f64 = 80.0;
const RTT_SERVER: f64 = 42.0;

/// The part of each packet that the capture keeps: all headers, and no gigabytes of noise.
const HEADERS: usize = 128;

const SCENE: &str = "\
Two machines that cannot reach each other, in network namespaces on this one:

  anna --- NAT: keeps the port, drops strangers' SYNs ------+
                                                            +--- server (coordinator, STUN)
  bert --- NAT: random ports, answers strangers with RST ---+

Round trip: 80 ms between anna and bert, 42 ms to the server. No packet leaves this machine.
";

/// Plays the whole dial.
pub(super) fn play(options: &args::Demo) -> anyhow::Result<()> {
    tell(SCENE);
    let stage = Stage::build(options)?;
    let coordinator = stage.serve()?;
    let (bert, bert_id, bert_transfer) = stage.listen(&coordinator, options.size)?;
    let (anna, anna_transfer) = stage.dial(&coordinator, &bert_id, options.size)?;
    bert.wait_for("established")?;

    let narrator = stage.narrator;
    narrator.say(
        "",
        &format!("each sends the other {} MiB of random bytes", options.size),
    );
    let (sent_by_anna, received_by_anna) = anna_transfer.finish()?;
    let (sent_by_bert, received_by_bert) = bert_transfer.finish()?;
    anna.finish()?;
    bert.finish()?;
    tell("");
    compare("anna to bert", &sent_by_anna, &received_by_bert)?;
    compare("bert to anna", &sent_by_bert, &received_by_anna)?;
    let Stage { lab, .. } = stage;
    lab.close()
        .context("the lab's packets could not all be written")?;
    if let Some(file) = &options.pcap {
        tell(format_args!(
            "\nEvery packet is in {}; open it with Wireshark.",
            file.display()
        ));
    }
    Ok(())
}

/// The lab, and the voice that tells what happens in it.
struct Stage {
    lab: Lab,
    narrator: Narrator,
    keys: Keys,
}

/// Puts what happens into words, with the time since the demo began.
#[derive(Clone, Copy)]
struct Narrator(Instant);

/// The directory of the peers' keys, which goes with the demo.
struct Keys(std::path::PathBuf);

impl Keys {
    fn make(name: &str) -> anyhow::Result<Self> {
        let directory = std::env::temp_dir().join(name);
        let made = DirBuilder::new().mode(0o700).create(&directory);
        made.with_context(|| format!("the directory {} cannot be made", directory.display()))?;
        Ok(Self(directory))
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // What cannot be removed are keys that nobody uses.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

impl Stage {
    fn build(options: &args::Demo) -> anyhow::Result<Self> {
        let narrator = Narrator(Instant::now());
        let anna = NatSpec::port_preserving();
        let bert = NatSpec::random_port().answering(UnsolicitedSyn::Rst);
        let mut lab = Lab::builder()
            .host(HostSpec::new("server").link(LinkSpec::delay(SERVER_DELAY)))
            .host(
                HostSpec::new("anna")
                    .behind(anna)
                    .link(LinkSpec::delay(PEER_DELAY)),
            )
            .host(
                HostSpec::new("bert")
                    .behind(bert)
                    .link(LinkSpec::delay(PEER_DELAY)),
            )
            .record(false);
        if let Some(file) = &options.pcap {
            lab = lab.capture(file).snap_length(HEADERS);
        }
        let lab = lab.build().context("the lab cannot be built")?;
        let unique = SecretKey::generate()?.peer_id().short();
        let keys = Keys::make(&format!("p2pconnect-demo-{unique}"))?;
        narrator.say("lab", "three hosts, two NATs and their links are up");
        Ok(Self {
            lab,
            narrator,
            keys,
        })
    }

    fn serve(&self) -> anyhow::Result<String> {
        let server = self.lab.host("server");
        let listen = SocketAddr::from((server.ipv4(), 4433)).to_string();
        // The lab's root is whoever watches the demo.
        let arguments = ["serve", "--user", "root", "--listen", &listen];
        let mut serve = command(server, &arguments)?;
        serve
            .arg("--key")
            .arg(self.keys.0.join("server.pem"))
            .stdout(Stdio::piped());
        if std::env::var_os("RUST_LOG").is_none() {
            // The play is told by the peers. What is noted here, of a new key say, is no part of
            // it.
            serve.env("RUST_LOG", "off").stderr(Stdio::piped());
        }
        let mut child = serve.spawn().context("the server cannot be started")?;
        let lines = BufReader::new(child.stdout.take().context("the server has no output")?);
        for line in lines.lines() {
            let line = line.context("the server's output cannot be read")?;
            if let Some(coordinator) = line.strip_prefix("coordinator: ") {
                self.narrator.say(
                    "server",
                    &format!("coordinator and STUN server are ready at {listen}"),
                );
                return Ok(coordinator.to_owned());
            }
        }
        let mut said = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            stderr.read_to_string(&mut said)?;
        }
        anyhow::bail!("the server did not start; {}", said.trim_end())
    }

    fn listen(&self, coordinator: &str, mib: u32) -> anyhow::Result<(Process, String, Transfer)> {
        let key = self.keys.0.join("bert.pem");
        let id = p2pconnect::load_or_create(&key)?.peer_id().to_string();
        let arguments = [
            "listen",
            "--json",
            "--once",
            "--allow-any",
            "--coordinator",
            coordinator,
        ];
        let mut listen = command(self.lab.host("bert"), &arguments)?;
        listen.arg("--key").arg(key);
        let narrator = self.narrator;
        let (bert, input, output) =
            Process::spawn(listen, move |event| narrator.narrate("bert", event))?;
        bert.wait_for("registered")?;
        Ok((bert, id, Transfer::start(input, output, mib)))
    }

    fn dial(&self, coordinator: &str, peer: &str, mib: u32) -> anyhow::Result<(Process, Transfer)> {
        let narrator = self.narrator;
        narrator.say("anna", &format!("runs: p2pconnect dial {peer}"));
        let arguments = ["dial", "--json", peer, "--coordinator", coordinator];
        let mut dial = command(self.lab.host("anna"), &arguments)?;
        dial.arg("--key").arg(self.keys.0.join("anna.pem"));
        let (anna, input, output) =
            Process::spawn(dial, move |event| narrator.narrate("anna", event))?;
        let met = anna.wait_for("established")?;
        let took = met["since_start_ms"].as_f64().unwrap_or_default();
        // To the server for the mapping and the introduction, and between the peers for TCP.
        let limit = 2.0f64.mul_add(RTT_SERVER, RTT_PEERS);
        narrator.say(
            "",
            &format!(
                "from the start of the command to a usable stream: {took:.0} ms; the round trips \
                 that it needs take {limit:.0} ms"
            ),
        );
        Ok((anna, Transfer::start(input, output, mib)))
    }
}

impl Narrator {
    fn narrate(self, who: &str, event: &Value) {
        let text = |field: &str| event[field].as_str().unwrap_or("?").to_owned();
        let sentence = match event["event"].as_str() {
            Some("mapped") => format!(
                "asks STUN over TCP, from {}: the outside sees {}; the connection stays open",
                text("local"),
                text("mapped")
            ),
            Some("registered") => "is known to the coordinator and can be dialled".to_owned(),
            Some("introduced") => {
                format!(
                    "is introduced to {}..., at the same moment as the other",
                    short(&text("peer"))
                )
            }
            Some("punching") => "connects to the other's addresses, out through its own NAT".into(),
            Some("established") => format!(
                "has a direct, authenticated stream: {} from {} to {}; TCP was open after {:.0} ms, \
                 both keys were proved after {:.0} ms",
                explain(&text("how")),
                text("local"),
                text("remote"),
                event["tcp_ms"].as_f64().unwrap_or_default(),
                event["established_ms"].as_f64().unwrap_or_default(),
            ),
            _ => return,
        };
        self.say(who, &sentence);
    }

    fn say(self, who: &str, sentence: &str) {
        tell(format_args!(
            "[{:6.3} s] {who:7}{sentence}",
            self.0.elapsed().as_secs_f64()
        ));
    }
}

fn short(id: &str) -> &str {
    id.get(..10).unwrap_or(id)
}

fn explain(how: &str) -> &str {
    match how {
        "simultaneous-open" => "simultaneous open (the SYNs crossed)",
        "accepted" => "accepted (the other's SYN came to the listener)",
        "connected" => "connected (the other's listener answered)",
        other => other,
    }
}

/// Shows that what was sent is what was received.
fn compare(direction: &str, sent: &Sum, received: &Sum) -> anyhow::Result<()> {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    tell(format_args!(
        "{direction}: {:.0} MiB in {:.1} s",
        mib(received.bytes),
        received.took.as_secs_f64()
    ));
    tell(format_args!("  sent      SHA-256 {}", sent.sha256));
    tell(format_args!("  received  SHA-256 {}", received.sha256));
    anyhow::ensure!(
        sent.sha256 == received.sha256,
        "the sums differ: bytes were lost or changed"
    );
    Ok(())
}

/// Writes a line for a person to stdout. Somebody who closed it does not want to know.
fn tell(line: impl fmt::Display) {
    drop(stdio::stdout().write_all(format!("{line}\n").as_bytes()));
}
