//! The page in a real browser, which needs Chromium.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::{sample, world};

/// Says in the page's title what a reader would stumble over.
const CHECK: &str = include_str!("check.js");

const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Headless Chromium with a profile of its own.
struct Browser {
    program: &'static str,
    folder: PathBuf,
}

impl Browser {
    fn new(name: &str) -> Self {
        let starts = |program: &&&str| Command::new(program).arg("--version").output().is_ok();
        let program = PROGRAMS.iter().find(starts);
        let program = program.expect("Chromium is not installed; tests/run installs it");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        // Left over from the run before, for whoever wanted to look at it.
        let _missing = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Self { program, folder }
    }

    fn run(&self, page: &Path, dark: bool, width: u32, arguments: &[&str]) -> Output {
        let scheme = if dark { 0 } else { 1 };
        Command::new(self.program)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
            ])
            .args([
                "--no-first-run",
                "--disable-background-networking",
                "--disable-sync",
            ])
            .args(["--disable-dev-shm-usage", "--enable-logging=stderr"])
            .arg(format!(
                "--user-data-dir={}",
                self.folder.join("profile").display()
            ))
            .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
            .arg(format!("--window-size={width},2400"))
            .args(arguments)
            .arg(format!("file://{}", page.display()))
            .output()
            .unwrap()
    }

    /// Shows a page and returns what the check finds.
    fn check(&self, html: &str, dark: bool, width: u32) {
        let scheme = if dark { "dark" } else { "light" };
        let name = format!("{scheme}-{width}");
        let page = self.folder.join(format!("{name}.html"));
        let script = format!("<script>{CHECK}</script></head>");
        std::fs::write(&page, html.replacen("</head>", &script, 1)).unwrap();
        let output = self.run(&page, dark, width, &["--dump-dom"]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        let said = errors.lines().find(|line| line.contains("CONSOLE"));
        assert!(said.is_none(), "{name}: {said:?}");
        let dom = String::from_utf8_lossy(&output.stdout);
        let title = dom
            .split_once("<title>")
            .and_then(|(_, rest)| rest.split_once("</title>"));
        let found = title.map_or("no title", |(title, _)| title);
        assert_eq!(found, format!("fine: {scheme}"), "{name}");
        let picture = self.folder.join(format!("{name}.png"));
        let shot = format!("--screenshot={}", picture.display());
        let output = self.run(&page, dark, width, &[&shot]);
        let size = std::fs::metadata(&picture).map_or(0, |picture| picture.len());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(size > 20_000, "{name}: a picture of {size} bytes: {errors}");
    }
}

#[test]
fn a_browser_shows_the_page_without_trouble() {
    let browser = Browser::new("report");
    let html = world::report().html();
    for (dark, width) in [(false, 1280), (true, 1280), (false, 400), (true, 400)] {
        browser.check(&html, dark, width);
    }
}

#[test]
fn a_page_with_hostile_names_and_nothing_in_it_is_shown_without_trouble() {
    let browser = Browser::new("hostile");
    let mut report = sample::small();
    let hostile = "</script><script>throw 1</script><img src=x onerror=alert(1)>\"'&";
    report.title = hostile.repeat(3);
    report.kinds[0].name = hostile.into();
    report.series[0].name = hostile.into();
    report.series[0].cells[2].failure = Some("x".repeat(3_000));
    report.ladders[0].columns[0].name = hostile.into();
    report.ladders[0].steps.push(sample::note(
        2_000,
        0,
        hostile,
        netns_lab::report::Tone::Bad,
    ));
    browser.check(&report.html(), false, 400);
    browser.check(&netns_lab::report::Report::default().html(), true, 400);
}
