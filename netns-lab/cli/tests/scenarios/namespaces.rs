//! The corpus between real kernels, as far as these can show it.

use std::time::Duration;

use netns_lab::{
    Engine,
    scenario::{self, Ground, RunError, Scenario},
};
use netns_lab_cli::P2pconnect;

use super::corpus::corpus;

/// What comes too close to a timer that only virtual time can be sure of.
const TIMED: [&str; 1] = ["lost-first-syn.toml"];

fn runs_on(engine: Engine) {
    netns_lab::test(|| {
        let mut shown = 0;
        let mut unmet = Vec::new();
        for (name, text) in corpus() {
            // The times of real kernels are the machine's.
            let untimed: Vec<_> = text
                .lines()
                .filter(|line| !line.starts_with("within") && !line.starts_with("limit"))
                .collect();
            let text = format!("limit = \"5s\"\n{}", untimed.join("\n"));
            let scenario = Scenario::parse(&text).unwrap();
            if TIMED.contains(&name.as_str()) {
                continue;
            }
            assert_eq!(scenario.limit(), Duration::from_secs(5));
            match scenario::run(
                &scenario,
                Ground::Namespaces(engine),
                scenario.seed(),
                Some(&P2pconnect),
            ) {
                Ok(run) => {
                    shown += 1;
                    if !run.unmet.is_empty() {
                        unmet.push(format!(
                            "{name}: {:?}\n{:?}\n{}",
                            run.unmet, run.dials, run.log
                        ));
                    }
                }
                Err(RunError::Lab(netns_lab::Error::Inexpressible { .. })) => {}
                Err(error) => panic!("{name}: {error}"),
            }
        }
        assert!(unmet.is_empty(), "{engine:?}: {}", unmet.join("\n\n"));
        assert!(shown >= 7, "{engine:?} showed only {shown}");
    });
}

#[test]
fn kernels_and_the_model_agree_with_the_corpus() {
    runs_on(Engine::Model);
}

#[test]
fn netfilter_agrees_with_the_corpus() {
    runs_on(Engine::Netfilter);
}
