//! What `demo` is told.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// How much to send in each direction, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = size)]
    pub(crate) size: u32,
    /// Write the headers of all that crosses the lab's network to this file, for Wireshark; about 2
    /// MB for each MiB of --size
    #[arg(long, value_name = "FILE")]
    pub(crate) pcap: Option<PathBuf>,
}

/// Reads how much is sent. What takes longer than some minutes is no demonstration.
fn size(text: &str) -> Result<u32, String> {
    let size = text.trim().parse().ok();
    size.filter(|size| (1..=4096).contains(size))
        .ok_or_else(|| "write a whole number of MiB, from 1 to 4096".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_that_is_none_is_told_what_there_may_be() {
        assert_eq!(size("64"), Ok(64));
        for wrong in ["", "x", "0", "4097", "1.5", "64MiB"] {
            let error = size(wrong).expect_err(wrong);
            assert!(error.contains("from 1 to 4096"), "{error}");
        }
    }
}
