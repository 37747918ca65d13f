//! A series as a table of colours.

use super::{
    bands::{Bands, look},
    markup::{Markup, escape},
};
use crate::report::{Cell, Report, Series, Standing};

impl Report {
    /// Writes a series as a heat map.
    pub(super) fn heat_map(&self, page: &mut Markup, index: usize, bands: &Bands) {
        let series = &self.series[index];
        let name = escape(&series.name);
        page.add(format_args!(
            "<section aria-labelledby=\"series-{index}\">\n<h2 id=\"series-{index}\">{name}</h2>\n\
             <p>{}.</p>\n",
            escape(&series.headline())
        ));
        for line in self.pace(series) {
            page.add(format_args!("<p class=\"muted\">{}.</p>\n", escape(&line)));
        }
        legend(page, bands);
        page.add(format_args!(
            "<div class=\"map-and-detail\">\n<div class=\"scroll\">\n\
             <table class=\"map\" role=\"grid\" aria-label=\"{name}: rows dial, columns listen\">\n\
             <thead>\n<tr><td class=\"corner\">dials &#8595; &nbsp; listens &#8594;</td>"
        ));
        for kind in &self.kinds {
            page.add(format_args!(
                "<th scope=\"col\" title=\"{}\"><span>{}</span></th>",
                escape(&kind.title),
                escape(&kind.name)
            ));
        }
        page.add(format_args!("</tr>\n</thead>\n<tbody>\n"));
        for (dialler, kind) in self.kinds.iter().enumerate() {
            page.add(format_args!(
                "<tr><th scope=\"row\" title=\"{}\">{}</th>",
                escape(&kind.title),
                escape(&kind.name)
            ));
            for listener in 0..self.kinds.len() {
                let id = format!("cell-{index}-{dialler}-{listener}");
                let pair = format!("{} dials {}", self.kind(dialler), self.kind(listener));
                self.heat_cell(page, &id, pair, series.cell(dialler, listener), bands);
            }
            page.add(format_args!("</tr>\n"));
        }
        page.add(format_args!(
            "</tbody>\n</table>\n</div>\n<div class=\"detail\" aria-live=\"polite\">\
             <p class=\"muted\">Point at a cell, tap it, or move over the cells with the arrow \
             keys, to see what happened there and why.</p></div>\n</div>\n</section>\n"
        ));
    }

    fn heat_cell(
        &self,
        page: &mut Markup,
        id: &str,
        pair: String,
        cell: Option<&Cell>,
        bands: &Bands,
    ) {
        let Some(cell) = cell else {
            return page.add(format_args!(
                "<td id=\"{id}\" class=\"unrun\" data-detail=\"{}&#10;not run\">&middot;</td>",
                escape(&pair)
            ));
        };
        let (class, text) = look(cell, bands);
        let detail: Vec<_> = std::iter::once(pair)
            .chain(details(cell))
            .map(|line| escape(&line))
            .collect();
        let detail = detail.join("&#10;");
        let text = escape(&text);
        page.add(format_args!(
            "<td id=\"{id}\" class=\"{class}\" data-detail=\"{detail}\" title=\"{detail}\">"
        ));
        match cell.ladder.filter(|ladder| *ladder < self.ladders.len()) {
            Some(ladder) => page.add(format_args!("<a href=\"#ladder-{ladder}\">{text}</a></td>")),
            None => page.add(format_args!("{text}</td>")),
        }
    }

    /// Writes what the kinds are.
    pub(super) fn kinds_list(&self, page: &mut Markup) {
        page.add(format_args!(
            "<section>\n<details class=\"kinds\"><summary>What the {} kinds are</summary>\n<dl>\n",
            self.kinds.len()
        ));
        for kind in &self.kinds {
            page.add(format_args!(
                "<div><dt>{}</dt><dd>{}</dd></div>\n",
                escape(&kind.name),
                escape(&kind.title)
            ));
        }
        page.add(format_args!("</dl>\n</details>\n</section>\n"));
    }
}

fn legend(page: &mut Markup, bands: &Bands) {
    page.add(format_args!("<ul class=\"legend\">\n"));
    for (shade, times) in bands.legend() {
        page.add(format_args!(
            "<li><span class=\"swatch shade{shade}\"></span>{times}</li>\n"
        ));
    }
    let others = [
        ("seldom", "7/10", "connected too seldom, or too slowly"),
        ("failed", "\u{2715}", "failed, but should connect"),
        ("impossible", "\u{2013}", "impossible, as the oracle says"),
        ("alarm", "!!", "connected, but the oracle says it cannot"),
        ("alarm", "late", "impossible, but given up late"),
    ];
    for (class, sign, meaning) in others {
        page.add(format_args!(
            "<li><span class=\"swatch {class}\">{sign}</span>{meaning}</li>\n"
        ));
    }
    page.add(format_args!(
        "<li><span class=\"swatch linked\"></span>has a diagram of its packets</li>\n</ul>\n"
    ));
}

/// Returns what there is to say about a cell, in lines.
fn details(cell: &Cell) -> Vec<String> {
    let mut lines = Vec::new();
    if cell.standing() == Standing::NotRun {
        lines.push("not run".into());
    } else {
        lines.push(format!("Connected {} of {}", cell.successes, cell.runs));
    }
    let times = [cell.times_in_words(), cell.giving_up_in_words()];
    lines.extend(
        times
            .into_iter()
            .flatten()
            .map(|words| format!("Times: {words}")),
    );
    if !cell.how.is_empty() {
        let ways: Vec<_> = cell
            .how
            .iter()
            .map(|(how, n)| format!("{how} ({n})"))
            .collect();
        lines.push(format!("How: {}", ways.join(", ")));
    }
    lines.push(format!("Oracle: {}: {}", cell.expected, cell.reason));
    if let Some(failure) = &cell.failure {
        lines.push(format!("Failure: {failure}"));
    }
    lines
}

impl Series {
    /// Returns the median over the cells' medians, and the worst time of all.
    pub(super) fn times(&self) -> (Option<std::time::Duration>, Option<std::time::Duration>) {
        let mut medians: Vec<_> = self.cells.iter().filter_map(|cell| cell.median).collect();
        medians.sort_unstable();
        let median = medians.get(medians.len().saturating_sub(1) / 2).copied();
        let worst = self.cells.iter().filter_map(|cell| cell.worst).max();
        (median, worst)
    }
}
