//! What failed, what must not be, and how series compare.

use std::collections::BTreeMap;

use super::markup::{Markup, escape};
use crate::report::{Cell, Report, Series, Standing, text::millis};

impl Report {
    /// Writes the cells in which the oracle is wrong, if there are any.
    pub(super) fn alarm_list(&self, page: &mut Markup) {
        let alarms = self.alarms();
        if alarms.is_empty() {
            return;
        }
        page.add(format_args!(
            "<section class=\"alarms\" aria-labelledby=\"alarms\">\n\
             <h2 id=\"alarms\">Alarm</h2>\n\
             <p>These pairs connected although the oracle says that they cannot, and until that \
             is explained, nothing else that it says can be relied on; or they cannot connect, \
             and it took over a second to say so.</p>\n"
        ));
        self.cell_list(page, &alarms);
        page.add(format_args!("</section>\n"));
    }

    /// Writes every cell that the oracle allows and that failed.
    pub(super) fn work_section(&self, page: &mut Markup) {
        let work = self.work_list();
        page.add(format_args!(
            "<section aria-labelledby=\"work\">\n<h2 id=\"work\">Work list</h2>\n"
        ));
        if work.is_empty() {
            page.add(format_args!(
                "<p>Empty: every pair that the oracle allows has connected.</p>\n"
            ));
        } else {
            page.add(format_args!(
                "<p>Every pair that the oracle allows and that failed or was slow, those first that \
                 never connected. Pairs that connect by chance are here if they never did, or so \
                 seldom that chance does not explain it.</p>\n"
            ));
            self.cell_list(page, &work);
        }
        page.add(format_args!("</section>\n"));
    }

    fn cell_list(&self, page: &mut Markup, cells: &[(&Series, &Cell)]) {
        page.add(format_args!("<ol class=\"cells\">\n"));
        for (series, cell) in cells {
            let index = self
                .series
                .iter()
                .position(|one| std::ptr::eq(one, *series));
            let (dialler, listener) = (self.kind(cell.dialler), self.kind(cell.listener));
            page.add(format_args!(
                "<li><p><a href=\"#cell-{}-{}-{}\"><b>{}</b> dials <b>{}</b></a> \
                 {}, <span class=\"count\">{} of {}</span> \
                 <span class=\"muted\">{}</span>",
                index.unwrap_or(0),
                cell.dialler,
                cell.listener,
                escape(&dialler),
                escape(&listener),
                cell.standing().name(),
                cell.successes,
                cell.runs,
                escape(&series.name),
            ));
            if let Some(ladder) = cell.ladder.filter(|ladder| *ladder < self.ladders.len()) {
                page.add(format_args!(
                    " <a href=\"#ladder-{ladder}\">packet by packet</a>"
                ));
            }
            page.add(format_args!(
                "</p>\n<p>Oracle: {}: {}</p>\n",
                cell.expected,
                escape(&cell.reason)
            ));
            let times = [cell.times_in_words(), cell.giving_up_in_words()];
            for words in times.into_iter().flatten() {
                page.add(format_args!("<p>Times: {words}</p>\n"));
            }
            if let Some(failure) = &cell.failure {
                page.add(format_args!(
                    "<p class=\"failure\">{}</p>\n",
                    escape(failure)
                ));
            }
            page.add(format_args!("</li>\n"));
        }
        page.add(format_args!("</ol>\n"));
    }

    /// Writes a table of the series, and where they differ, if there are several.
    pub(super) fn comparison(&self, page: &mut Markup) {
        if self.series.len() < 2 {
            return;
        }
        page.add(format_args!(
            "<section aria-labelledby=\"comparison\">\n<h2 id=\"comparison\">The series \
             compared</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" \
             aria-labelledby=\"comparison\">\n<table class=\"plain\">\n<thead><tr>\
             <th scope=\"col\">Series</th><th scope=\"col\" class=\"words\">Ground</th>\
             <th scope=\"col\">Pairs run</th><th scope=\"col\">Allowed</th>\
             <th scope=\"col\">Connected</th><th scope=\"col\">Work list</th>\
             <th scope=\"col\">Alarms</th><th scope=\"col\">Median, ms</th>\
             <th scope=\"col\">Worst, ms</th><th scope=\"col\" class=\"words\">How</th>\
             <th scope=\"col\">Took, s</th></tr></thead>\n<tbody>\n"
        ));
        for (index, series) in self.series.iter().enumerate() {
            compared(page, index, series);
        }
        page.add(format_args!("</tbody>\n</table>\n</div>\n"));
        self.differences(page);
        page.add(format_args!("</section>\n"));
    }

    fn differences(&self, page: &mut Markup) {
        let pairs = (0..self.kinds.len())
            .flat_map(|dialler| (0..self.kinds.len()).map(move |listener| (dialler, listener)));
        let different = pairs.filter(|&(dialler, listener)| self.differs(dialler, listener));
        let different: Vec<_> = different.collect();
        if different.is_empty() {
            return page.add(format_args!(
                "<p>All series agree on which pairs connect.</p>\n"
            ));
        }
        page.add(format_args!(
            "<details><summary>{} pairs in which the series differ</summary>\n\
             <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Pairs in which \
             the series differ\">\n<table class=\"plain\">\n<thead><tr><th scope=\"col\">Dials\
             </th><th scope=\"col\">Listens</th>",
            different.len()
        ));
        for series in &self.series {
            page.add(format_args!(
                "<th scope=\"col\">{}</th>",
                escape(&series.name)
            ));
        }
        page.add(format_args!("</tr></thead>\n<tbody>\n"));
        for (dialler, listener) in different {
            page.add(format_args!(
                "<tr><th scope=\"row\">{}</th><th scope=\"row\">{}</th>",
                escape(&self.kind(dialler)),
                escape(&self.kind(listener))
            ));
            for (index, series) in self.series.iter().enumerate() {
                let outcome = series.cell(dialler, listener).map_or_else(
                    || "not run".to_owned(),
                    |cell| format!("{} of {}", cell.successes, cell.runs),
                );
                page.add(format_args!(
                    "<td><a href=\"#cell-{index}-{dialler}-{listener}\">{outcome}</a></td>"
                ));
            }
            page.add(format_args!("</tr>\n"));
        }
        page.add(format_args!("</tbody>\n</table>\n</div></details>\n"));
    }

    fn differs(&self, dialler: usize, listener: usize) -> bool {
        let mut standings = self
            .series
            .iter()
            .filter_map(|series| series.cell(dialler, listener))
            .map(Cell::standing)
            .filter(|standing| *standing != Standing::NotRun);
        let first = standings.next();
        standings.any(|standing| Some(standing) != first)
    }
}

fn compared(page: &mut Markup, index: usize, series: &Series) {
    let tally = series.tally();
    let (median, worst) = series.times();
    let time = |time: Option<_>| time.map_or_else(|| "\u{2013}".to_owned(), millis);
    let mut ways: BTreeMap<&str, u64> = BTreeMap::new();
    for (how, count) in series.cells.iter().flat_map(|cell| &cell.how) {
        *ways.entry(how).or_default() += u64::from(*count);
    }
    let ways: Vec<_> = ways
        .into_iter()
        .map(|(how, count)| format!("{} ({count})", escape(how)))
        .collect();
    page.add(format_args!(
        "<tr><th scope=\"row\"><a href=\"#series-{index}\">{}</a></th><td class=\"words\">{}</td>\
         <td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
         <td class=\"words\">{}</td><td>{:.1}</td></tr>\n",
        escape(&series.name),
        escape(&series.ground),
        tally.run,
        tally.allowed,
        tally.connected,
        tally.work,
        tally.alarms,
        time(median),
        time(worst),
        ways.join(", "),
        series.took.as_secs_f64(),
    ));
}
