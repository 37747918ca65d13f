//! What can be asked for on the command line.

use std::{ffi::OsString, fmt::Display, num::NonZero, path::PathBuf, str::FromStr};

use clap::{Args, Parser, ValueEnum};

use crate::chain;

const EXAMPLES: &str = "\
Examples:
  netns-lab demo                                 watch two NATs being punched
  netns-lab list                                 what there is to be behind
  netns-lab explain openwrt aws-nat-gateway      can these two connect, and why
  netns-lab matrix --report matrix.html          every kind against every other
  netns-lab run rst-in-between                   a scenario, packet by packet
  netns-lab shell openwrt,mobile-carrier a       look around behind a router

No root is needed where the system allows user namespaces, nothing touches the
network of the machine, and nothing is left behind.";

/// A NAT lab: hosts behind the NATs of real devices, in virtual time or between real kernels in
/// network namespaces.
#[derive(Debug, Parser)]
#[command(name = "netns-lab", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) subcommand: Subcommand,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Subcommand {
    /// Shows how two peers behind different NATs punch a connection through
    Demo(DemoArguments),
    /// Lists the presets and the scenarios, or the hosts of a scenario
    List(ListArguments),
    /// Runs a scenario, or programs on its hosts
    Run(RunArguments),
    /// Opens a shell on a host
    Shell(ShellArguments),
    /// Lets every kind of access dial every other, and draws what comes of it
    Matrix(MatrixArguments),
    /// Says whether two kinds of access can connect, and why
    Explain(ExplainArguments),
}

/// Where packets are carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ground {
    /// Virtual time in this process; needs nothing, and a seed decides all
    Sim,
    /// Real kernels in network namespaces
    Netns,
}

/// On which grounds the matrix is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Grounds {
    /// Virtual time in this process; needs nothing, and a seed decides all
    Sim,
    /// Real kernels in network namespaces
    Netns,
    /// One after the other
    Both,
}

/// Who is the NATs between real kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// The model of this lab: every behaviour, and it says what it does
    Model,
    /// The Linux kernel's netfilter, with all its quirks
    Netfilter,
}

impl From<Engine> for netns_lab::Engine {
    fn from(engine: Engine) -> Self {
        match engine {
            Engine::Model => Self::Model,
            Engine::Netfilter => Self::Netfilter,
        }
    }
}

/// Returns what reads a whole number, and says what there may be.
fn whole<T>(least: T, most: T) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: FromStr + PartialOrd + Display + Copy,
{
    move |text| {
        let number = text.parse().ok();
        number
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| format!("write a whole number from {least} to {most}"))
    }
}

/// Puts what netfilter can be in front of the examples.
fn with_engines(help: &str) -> String {
    let presets = chain::of_netfilter();
    format!("{presets}; the model can be all of them.\n\n{help}")
}

#[derive(Debug, Args)]
#[command(after_help = "Example: netns-lab demo openwrt docker+openwrt")]
pub(crate) struct DemoArguments {
    /// What the peer that dials is behind: a preset, or several joined by +
    #[arg(value_name = "KIND_A", default_value = "openwrt")]
    pub(crate) dialler: String,
    /// What the peer that listens is behind
    #[arg(value_name = "KIND_B", default_value = "linux-router")]
    pub(crate) listener: String,
    /// Where packets are carried
    #[arg(long, value_enum, default_value = "netns")]
    pub(crate) ground: Ground,
    /// What all randomness comes from
    #[arg(long, default_value_t = 0, value_parser = whole(0, u64::MAX))]
    pub(crate) seed: u64,
    /// Writes all packets to demo.pcapng in this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) pcap: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  netns-lab list\n  netns-lab list openwrt,docker+openwrt")]
pub(crate) struct ListArguments {
    /// A scenario, to list its hosts: a file, a name from the list, or KIND_A,KIND_B
    pub(crate) scenario: Option<String>,
}

const RUN_HELP: &str = "\
Without a program, the scenario's own script runs, and the exit status is 0 if all that
it expects comes true, else 1. For a pair, p2pconnect dials from a to b, and the status
is 0 if that connects.

In the words of a command, {NAME} is the address of a host or box as its own side
sees it, {NAME.external} the one that the core sees the host under, and {NAME.ipv6}
its IPv6 address. Programs find the same in their environment, as NETNS_LAB_<NAME>,
NETNS_LAB_<NAME>_EXTERNAL and NETNS_LAB_<NAME>_IPV6.

Commands of --on run in a shell in the background, one after the other: the next
begins when the one before listens on a port, or after three seconds. The command after
-- runs in the foreground; without one, the last --on does. Its exit status and its
signals are those of netns-lab; when it ends, the others are killed.

Examples:
  netns-lab run crossing-syns                    a scenario with a script of its own
  netns-lab run openwrt,cgnat-rfc6888 --ground netns     p2pconnect dials
  netns-lab run openwrt,public --on b 'python3 -m http.server 8000' \\
      --on a 'curl -s http://{b}:8000/'
  netns-lab run openwrt,cgnat-rfc6888 \\
      --on server 'iperf3 -s -1' --on a 'iperf3 -c {server}' \\
      --pcap . --snap 128 --pcap-at a
  netns-lab run my-lab.toml --seed 7";

#[derive(Debug, Args)]
#[command(after_help = with_engines(RUN_HELP))]
pub(crate) struct RunArguments {
    /// A file, a name from `netns-lab list`, or KIND_A,KIND_B: hosts a and b behind these presets,
    /// and a public server
    pub(crate) scenario: String,
    /// The host that the command after -- runs on
    #[arg(long, value_name = "NAME", requires = "command")]
    pub(crate) host: Option<String>,
    /// Runs a shell command on a host; several times for several programs
    #[arg(long, num_args = 2, value_names = ["NAME", "CMD"], action = clap::ArgAction::Append)]
    pub(crate) on: Vec<String>,
    #[command(flatten)]
    pub(crate) lab: LabArguments,
    /// Where a scenario's own script runs
    #[arg(long, value_enum, default_value = "sim")]
    pub(crate) ground: Ground,
    /// Shows what happened to the packets at the end, as text
    #[arg(long)]
    pub(crate) ladder: bool,
    /// The command
    #[arg(last = true, value_name = "CMD", requires = "host")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
#[command(after_help = with_engines("Example: netns-lab shell openwrt,mobile-carrier a"))]
pub(crate) struct ShellArguments {
    /// A file, a name from `netns-lab list`, or KIND_A,KIND_B
    pub(crate) scenario: String,
    /// The host
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) lab: LabArguments,
}

#[derive(Debug, Args)]
pub(crate) struct LabArguments {
    /// Who is the NATs
    #[arg(long, value_enum, default_value = "model")]
    pub(crate) engine: Engine,
    /// What all randomness of the lab comes from, instead of the scenario's own
    #[arg(long, value_parser = whole(0, u64::MAX))]
    pub(crate) seed: Option<u64>,
    /// Writes all packets to a pcapng file in this directory, for Wireshark
    #[arg(long, value_name = "DIR")]
    pub(crate) pcap: Option<PathBuf>,
    /// Writes no more of a packet than this; 128 bytes keep all headers
    #[arg(long, value_name = "BYTES", requires = "pcap", value_parser = whole(1, u16::MAX))]
    pub(crate) snap: Option<u16>,
    /// Writes only what is seen at these hosts, boxes or the core
    #[arg(long, value_name = "NAME,…", requires = "pcap", value_delimiter = ',')]
    pub(crate) pcap_at: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = with_engines("\
The exit status is 0 if every pair did what the oracle is certain of, else 1.

Examples:
  netns-lab matrix
  netns-lab matrix --kinds openwrt,docker --ground both --report matrix.html --ladders
  netns-lab matrix --kinds openwrt,docker,docker+openwrt --pcap pcap"))]
pub(crate) struct MatrixArguments {
    /// Where it is run
    #[arg(long, value_enum, default_value = "sim")]
    pub(crate) ground: Grounds,
    /// Who is the NATs between real kernels
    #[arg(long, value_enum, default_value = "model")]
    pub(crate) engine: Engine,
    /// How often each pair is tried
    #[arg(long, default_value_t = 1, value_parser = whole(1, u32::MAX))]
    pub(crate) runs: u32,
    /// What all randomness comes from
    #[arg(long, default_value_t = 0, value_parser = whole(0, u64::MAX))]
    pub(crate) seed: u64,
    /// The rows and columns; all presets if not given
    #[arg(long, value_delimiter = ',', value_name = "A,B,…")]
    pub(crate) kinds: Vec<String>,
    /// How many labs run at a time; between real kernels one for each two processors if not
    /// given, so that times are those of the path
    #[arg(long, value_name = "N", value_parser = whole(NonZero::<usize>::MIN, NonZero::<usize>::MAX))]
    pub(crate) labs: Option<NonZero<usize>>,
    /// Writes a page with the matrix as a heat map
    #[arg(long, value_name = "FILE.html")]
    pub(crate) report: Option<PathBuf>,
    /// Writes the cells as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Writes a pcapng file for each run
    #[arg(long, value_name = "DIR")]
    pub(crate) pcap: Option<PathBuf>,
    /// Shows up to 50 runs packet by packet in the report
    #[arg(long, requires = "report")]
    pub(crate) ladders: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: netns-lab explain openwrt aws-nat-gateway")]
pub(crate) struct ExplainArguments {
    /// What host a is behind: a preset, or several joined by +, the innermost first
    pub(crate) kind_a: String,
    /// What host b is behind
    pub(crate) kind_b: String,
    /// What the randomness of the run comes from
    #[arg(long, default_value_t = 0, value_parser = whole(0, u64::MAX))]
    pub(crate) seed: u64,
    /// Shows what happened to the packets of that run
    #[arg(long)]
    pub(crate) ladder: bool,
    /// Writes the packets of that run to explain.pcapng in this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) pcap: Option<PathBuf>,
}
