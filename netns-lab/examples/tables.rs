//! Writes the table of presets into the README.
//!
//! `cargo run -p netns-lab --example tables`

use std::{fs, path::Path};

use netns_lab::{oracle, preset};

const BEGIN: &str = "<!-- presets -->\n";
const END: &str = "<!-- /presets -->";

fn main() -> anyhow::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(&path)?;
    let parts = readme.split_once(BEGIN).and_then(|(before, rest)| {
        let (_old, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let Some((before, after)) = parts else {
        anyhow::bail!("README.md has no lines {BEGIN:?} and {END:?}");
    };
    let table = oracle::table(preset::all());
    fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}"))?;
    Ok(())
}
