//! The page in a real browser, which needs Chromium.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

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

    /// Shows a page, in which the check must find nothing.
    fn check(&self, html: &str, dark: bool, width: u32) {
        let scheme = if dark { "dark" } else { "light" };
        let name = format!("{scheme}-{width}");
        let found = self.title(html, &name, dark, width);
        assert_eq!(found, format!("fine: {scheme}"), "{name}");
    }

    /// Shows a page and returns what the check finds.
    fn title(&self, html: &str, name: &str, dark: bool, width: u32) -> String {
        let page = self.folder.join(format!("{name}.html"));
        let script = format!("<script>{CHECK}</script></head>");
        let html = html.replacen("</head>", &script, 1);
        std::fs::write(&page, framed(html, width)).unwrap();
        let picture = self.folder.join(format!("{name}.png"));
        let shot = format!("--screenshot={}", picture.display());
        let output = self.run(&page, dark, width, &["--dump-dom", &shot]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        let dom = String::from_utf8_lossy(&output.stdout);
        let title = dom
            .split_once("<title>")
            .and_then(|(_, rest)| rest.split_once("</title>"));
        let mut found = title.map_or("no title", |(title, _)| title).to_owned();
        let size = std::fs::metadata(&picture).map_or(0, |picture| picture.len());
        assert!(size > 20_000, "{name}: a picture of {size} bytes: {errors}");
        for line in errors.lines().filter(|line| line.contains("CONSOLE")) {
            found.push_str(line);
        }
        found
    }
}

/// Returns a page of a width that windows cannot have inside one that they can.
fn framed(html: String, width: u32) -> String {
    if width >= 500 {
        return html;
    }
    let html = html.replace('&', "&amp;").replace('"', "&quot;");
    format!(
        "<!doctype html><meta charset=\"utf-8\"><meta name=\"color-scheme\" \
         content=\"light dark\"><title></title><body style=\"margin:0\"><iframe \
         style=\"border:0;width:{width}px;height:2400px\" srcdoc=\"{html}\"></iframe>"
    )
}

#[test]
fn a_browser_shows_the_page_without_trouble() {
    let browser = Browser::new("report");
    let html = world::report().html();
    for (dark, width) in [(false, 1280), (true, 1280), (false, 400), (true, 400)] {
        browser.check(&html, dark, width);
    }
    let html = sample::of_presets().html();
    for (dark, width) in [(false, 1400), (true, 1400), (false, 1100)] {
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

#[test]
fn the_check_sees_what_a_reader_would() {
    let browser = Browser::new("trouble");
    let html = sample::small().html();
    let troubles = [
        ("error", "</main>", "</main><script>nothing()</script>"),
        (
            "is 912 of 400 wide",
            "<main>",
            "<main><div style=\"width:900px\">wide</div>",
        ),
        (
            "contrast",
            "<main>",
            "<main><p style=\"color:#999;background:#bbb\">pale</p>",
        ),
        (
            "covers",
            "</desc>",
            "</desc><text x=\"130\" y=\"40\">SYN SYN SYN</text>",
        ),
        ("too large", ">7/10</td>", ">a name of many words<br></td>"),
        ("no #gone", "<main>", "<main><a href=\"#gone\">gone</a>"),
    ];
    let mut page = html;
    for (_, from, to) in troubles {
        page = page.replacen(from, to, 1);
    }
    let found = browser.title(&page, "trouble", false, 400);
    for (trouble, ..) in troubles {
        assert!(found.contains(trouble), "{trouble} in {found}");
    }
}
