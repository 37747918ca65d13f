//! The results as pictures, on a ground of their own that follows the reader's colour scheme.

use std::fmt::Write as _;

use crate::{
    projects::Project,
    punching::{Cells, Plan},
    table::{median, rate, successes},
    throughput::{self, Course, Measured},
};

const WIDTH: f64 = 880.0;

/// Where the bars begin; names of pairs are left of it.
const LEFT: f64 = 320.0;

/// Where the longest bar ends; its number is right of it.
const RIGHT: f64 = 760.0;

/// Above the first group: title, subtitle and legend.
const TOP: f64 = 92.0;

const BAR: f64 = 9.0;

/// From bar to bar.
const STEP: f64 = 12.0;

/// Between groups.
const GAP: f64 = 10.0;

/// What is said of a project that made no stream.
const NONE: &str = "none";

/// A group of bars, one for each project.
struct Group {
    title: String,
    bars: Vec<Bar>,
}

struct Bar {
    colour: &'static str,
    /// The solid part.
    value: f64,
    /// To where the pale part goes.
    beyond: f64,
    label: String,
}

/// Draws the times between each pair of NATs.
pub(crate) fn punching(plan: &Plan, cells: &Cells) -> String {
    let bar = |project: &&Project, outcomes: &Vec<_>| {
        let (good, all) = (successes(outcomes), outcomes.len());
        let value = median(outcomes, "warm_ms").unwrap_or_default();
        let beyond = median(outcomes, "cold_ms").unwrap_or_default();
        let times = format!("{value:.0} / {beyond:.0}");
        Bar {
            colour: project.colour,
            value,
            beyond,
            label: match good {
                0 => NONE.to_owned(),
                _ if good == all => times,
                _ => format!("{times}, {good} of {all}"),
            },
        }
    };
    let groups = plan.rows.iter().zip(cells).map(|(row, cells)| Group {
        title: row.name(),
        bars: plan
            .projects
            .iter()
            .zip(cells)
            .map(|(it, cell)| bar(it, cell))
            .collect(),
    });
    let subtitle = format!(
        "Median ms of {} attempts, 80 ms between the peers, 42 ms to the server. \
         Solid: warm; pale: cold, from the start of the process.",
        plan.runs * 2
    );
    let title = "Until a TCP stream between two NATs can be used";
    draw(
        [title, &subtitle],
        &plan.projects,
        &groups.collect::<Vec<_>>(),
    )
}

/// Draws the throughput of each course.
pub(crate) fn throughput(plan: &throughput::Plan, measured: &Measured) -> String {
    let groups = Course::ALL.iter().zip(measured).map(|(course, measured)| {
        let bars = plan.projects.iter().zip(measured);
        let bars = bars
            .filter(|(_, turns)| !turns.is_empty())
            .map(|(project, turns)| {
                let rate = rate(turns, "time_ms");
                let value = rate.unwrap_or_default();
                Bar {
                    colour: project.colour,
                    value,
                    beyond: value,
                    label: rate.map_or_else(|| NONE.to_owned(), |rate| format!("{rate:.0}")),
                }
            });
        Group {
            title: course.title().into(),
            bars: bars.collect(),
        }
    });
    let subtitle = "Megabytes a second, one way; rndz does not encrypt.";
    draw(
        ["Throughput of the stream", subtitle],
        &plan.projects,
        &groups.collect::<Vec<_>>(),
    )
}

fn draw([title, subtitle]: [&str; 2], projects: &[&Project], groups: &[Group]) -> String {
    let bars = groups.iter().flat_map(|group| &group.bars);
    let longest = bars
        .map(|bar| bar.beyond.max(bar.value))
        .fold(1.0, f64::max);
    let scale = (RIGHT - LEFT) / longest;
    let mut body = String::new();
    let mut y = TOP;
    for group in groups {
        if group.bars.iter().all(|bar| bar.label == NONE) {
            text(&mut body, [LEFT - 12.0, y + BAR], "end", &group.title);
            text(&mut body, [LEFT, y + BAR], "start", "none of them");
            y += STEP + GAP;
            continue;
        }
        let height = group.bars.len() as f64 * STEP;
        let middle = y + height / 2.0 + 3.0;
        text(&mut body, [LEFT - 12.0, middle], "end", &group.title);
        for bar in &group.bars {
            draw_bar(&mut body, y, bar, scale);
            y += STEP;
        }
        y += GAP;
    }
    let height = y + 6.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\" aria-label=\"{}\">\n{STYLE}\
         <rect class=\"ground\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"8\"/>\n\
         <text class=\"title\" x=\"24\" y=\"32\">{}</text>\n\
         <text class=\"pale\" x=\"24\" y=\"52\">{}</text>\n",
        escape(title),
        WIDTH - 1.0,
        height - 1.0,
        escape(title),
        escape(subtitle),
    );
    svg += &legend(projects);
    svg += &body;
    svg += "</svg>\n";
    svg
}

fn draw_bar(body: &mut String, y: f64, bar: &Bar, scale: f64) {
    let Bar {
        colour,
        value,
        beyond,
        label,
    } = bar;
    let mut part = |to: f64, opacity: &str| {
        writeln!(
            body,
            "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"1.5\" \
             fill=\"{colour}\"{opacity}/>",
            to * scale
        )
        .ok();
    };
    if beyond > value {
        part(*beyond, " fill-opacity=\"0.35\"");
    }
    if *value > 0.0 {
        part(*value, "");
    }
    // Where there is no bar, the words begin where it would.
    let end = LEFT
        + if *value > 0.0 {
            beyond.max(*value) * scale + 6.0
        } else {
            0.0
        };
    text(body, [end, y + BAR - 0.5], "start", label);
}

fn legend(projects: &[&Project]) -> String {
    let mut svg = String::new();
    let mut x = 24.0;
    for project in projects {
        let colour = project.colour;
        writeln!(
            svg,
            "<rect x=\"{x}\" y=\"65\" width=\"12\" height=\"12\" rx=\"2\" fill=\"{colour}\"/>"
        )
        .ok();
        text(&mut svg, [x + 18.0, 75.0], "start", project.title);
        // Room for the longest of the letters.
        x += 36.0 + 6.6 * project.title.len() as f64;
    }
    svg
}

fn text(svg: &mut String, [x, y]: [f64; 2], anchor: &str, text: &str) {
    let text = escape(text);
    writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
    )
    .ok();
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}

const STYLE: &str = "<style>\n\
    text { font: 12px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: #1f2328 }\n\
    .title { font-size: 16px; font-weight: 600 }\n\
    .pale { fill: #59636e }\n\
    .ground { fill: #ffffff; stroke: #d1d9e0 }\n\
    @media (prefers-color-scheme: dark) {\n\
      text { fill: #e6edf3 }\n\
      .pale { fill: #9198a1 }\n\
      .ground { fill: #0d1117; stroke: #3d444d }\n\
    }\n\
    </style>\n";
