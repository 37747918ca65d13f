//! Puts TCP hole punchers through the same NATs and over the same wires; see README.md.

mod chart;
mod projects;
mod punching;
mod rows;
mod run;
mod table;
mod throughput;
mod wire;

use std::{
    num::NonZero,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::Parser;

use projects::{PROJECTS, Project};
use rows::{ROWS, Row};

/// Compares p2pconnect with other TCP hole punchers: success, time and processor time
/// behind pairs of NATs, and throughput.
///
/// Every attempt has a lab of its own and fresh processes: a server in public, a listener and a
/// dialler. 80 ms pass between the peers there and back, 42 ms to the server. Writes results.md,
/// punching.svg, throughput.svg and attempts.tsv.
#[derive(Debug, Parser)]
#[command(name = "compare", max_term_width = 90)]
struct Options {
    /// Attempts of each pair of NATs, each way round, with each project
    #[arg(long, default_value = "5", value_name = "N")]
    runs: NonZero<u32>,
    /// Labs at the same time
    #[arg(long, default_value = "4", value_name = "N")]
    labs: NonZero<usize>,
    /// Rounds of throughput; each project is measured once in each
    #[arg(long, default_value = "5", value_name = "N")]
    rounds: NonZero<u32>,
    /// How long to fill a stream in each of them, in seconds
    #[arg(long, default_value = "3", value_name = "SECONDS")]
    seconds: NonZero<u32>,
    /// Only pairs of NATs whose name contains this; repeat it for more
    #[arg(long, value_name = "TEXT")]
    pair: Vec<String>,
    /// Only this project; repeat it for more
    #[arg(long, value_name = "NAME")]
    project: Vec<String>,
    /// Leave out the pairs of NATs
    #[arg(long, conflicts_with = "no_throughput")]
    no_punching: bool,
    /// Leave out the throughput
    #[arg(long)]
    no_throughput: bool,
    /// Where to write the results
    #[arg(long, default_value = "results", value_name = "DIRECTORY")]
    out: PathBuf,
    /// What p2pconnect's version is called in the results
    #[arg(long, default_value = "this tree", value_name = "TEXT")]
    version_name: String,
}

fn main() -> ExitCode {
    // Before the isolated program starts, so that mistakes are told once.
    let options = Options::parse();
    let outcome = options.check().and_then(|()| {
        if let Some(code) = netns_lab::isolate()? {
            return Ok(code);
        }
        compare(&options).map(|()| ExitCode::SUCCESS)
    });
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

impl Options {
    fn check(&self) -> Result<()> {
        if self.rows().is_empty() {
            let names: Vec<_> = ROWS.iter().map(Row::name).collect();
            bail!(
                "no pair contains that; the pairs are\n  {}",
                names.join("\n  ")
            );
        }
        let unknown = |name: &&String| PROJECTS.iter().all(|it| it.name != **name);
        if let Some(name) = self.project.iter().find(unknown) {
            let names: Vec<_> = PROJECTS.iter().map(|it| it.name).collect();
            bail!(
                "no project is called {name:?}; there are {}",
                names.join(", ")
            );
        }
        Ok(())
    }

    fn rows(&self) -> Vec<&'static Row> {
        let wanted = |row: &&Row| {
            let name = row.name();
            self.pair.is_empty() || self.pair.iter().any(|text| name.contains(text))
        };
        ROWS.iter().filter(wanted).collect()
    }

    fn projects(&self) -> Vec<&'static Project> {
        let wanted = |it: &&Project| {
            self.project.is_empty() || self.project.iter().any(|name| name == it.name)
        };
        PROJECTS.iter().filter(wanted).collect()
    }
}

fn compare(options: &Options) -> Result<()> {
    let keys = tempfile::tempdir().context("no directory for keys")?;
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("cannot make {}", options.out.display()))?;
    let projects = options.projects();
    let punchers: Vec<_> = projects
        .iter()
        .copied()
        .filter(|it| it.passes_nats)
        .collect();
    let mut results = table::heading(&options.version_name)?;
    if !options.no_punching {
        let plan = punching::Plan {
            rows: options.rows(),
            projects: punchers.clone(),
            runs: options.runs.get(),
            labs: options.labs.get(),
        };
        let cells = punching::run(&plan, keys.path())?;
        results += &table::punching(&plan, &cells);
        // Not to be lost if the rest is cut short.
        write(&options.out, "results.md", &results)?;
        write(
            &options.out,
            "attempts.tsv",
            &table::attempts(&plan, &cells),
        )?;
        write(
            &options.out,
            "punching.svg",
            &chart::punching(&plan, &cells),
        )?;
    }
    if !options.no_throughput {
        let plan = throughput::Plan {
            projects,
            rounds: options.rounds.get(),
            seconds: options.seconds.get(),
        };
        let measured = throughput::run(&plan, keys.path())?;
        results += &table::throughput(&plan, &measured);
        write(
            &options.out,
            "throughput.svg",
            &chart::throughput(&plan, &measured),
        )?;
    }
    println!("{results}");
    write(&options.out, "results.md", &results)
}

fn write(directory: &Path, name: &str, text: &str) -> Result<()> {
    let path = directory.join(name);
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}
