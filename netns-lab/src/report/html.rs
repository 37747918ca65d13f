//! The report as a page.

mod bands;
mod heat_map;
mod layout;
mod lists;
mod markup;
mod svg;

use super::Report;
use bands::Bands;
use markup::{Markup, escape};

const STYLE: &str = include_str!("html/style.css");
const SCRIPT: &str = include_str!("html/script.js");

impl Report {
    /// Returns the report as one page that needs nothing besides itself.
    ///
    /// It has the numbers, a heat map for each series, every pair that failed or about which the
    /// oracle is wrong, and the ladders. It follows the reader's choice of light or dark, can be
    /// used by keyboard alone and without scripts, and prints.
    pub fn html(&self) -> String {
        let title = escape(&self.title);
        let mut page = Markup::default();
        page.add(format_args!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{title}</title>\n<link rel=\"icon\" href=\"data:,\">\n\
             <style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n"
        ));
        let path = escape(&self.path);
        page.add(format_args!(
            "<p class=\"path\">{path}{}Seed <code>{}</code>.</p>\n",
            if path.is_empty() { "" } else { " &middot; " },
            self.seed
        ));
        self.tiles(&mut page);
        self.contents(&mut page);
        page.add(format_args!("</header>\n<main>\n"));
        self.alarm_list(&mut page);
        self.comparison(&mut page);
        let bands = Bands::of(self);
        for index in 0..self.series.len() {
            self.heat_map(&mut page, index, &bands);
        }
        self.kinds_list(&mut page);
        self.work_section(&mut page);
        self.ladder_sections(&mut page);
        self.notes_section(&mut page);
        page.add(format_args!(
            "</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n"
        ));
        page.into_text()
    }

    /// Writes the numbers that matter most.
    fn tiles(&self, page: &mut Markup) {
        page.add(format_args!("<ul class=\"tiles\">\n"));
        for series in &self.series {
            let tally = series.tally();
            page.add(format_args!(
                "<li><b>{} <small>of {}</small></b> allowed pairs connected<br>\
                 <span class=\"muted\">{}</span></li>\n",
                tally.connected,
                tally.allowed,
                escape(&series.name)
            ));
        }
        let (work, alarms) = (self.work_list().len(), self.alarms().len());
        let class = |count, bad| if count == 0 { "" } else { bad };
        page.add(format_args!(
            "<li class=\"{}\"><b>{work}</b> on the <a href=\"#work\">work list</a><br>\
             <span class=\"muted\">allowed by the oracle, and failed or slow</span></li>\n\
             <li class=\"{}\"><b>{alarms}</b> {}<br>\
             <span class=\"muted\">connected against the oracle, or given up late</span></li>\n</ul>\n",
            class(work, "work"),
            class(alarms, "alarm"),
            if alarms == 1 { "alarm" } else { "alarms" },
        ));
    }

    fn contents(&self, page: &mut Markup) {
        page.add(format_args!("<nav aria-label=\"Contents\"><ul>\n"));
        for (index, series) in self.series.iter().enumerate() {
            let name = escape(&series.name);
            page.add(format_args!(
                "<li><a href=\"#series-{index}\">{name}</a></li>\n"
            ));
        }
        page.add(format_args!("<li><a href=\"#work\">Work list</a></li>\n"));
        if !self.ladders.is_empty() {
            page.add(format_args!("<li><a href=\"#ladders\">Ladders</a></li>\n"));
        }
        page.add(format_args!("</ul></nav>\n"));
    }

    fn ladder_sections(&self, page: &mut Markup) {
        if self.ladders.is_empty() {
            return;
        }
        page.add(format_args!(
            "<section aria-labelledby=\"ladders\">\n<h2 id=\"ladders\">Packet by packet</h2>\n\
             <p>Time runs down, though not evenly. An arrow is a packet; it slants as long as \
             the packet travels, and a packet that is lost ends in a cross. A box is what a \
             host or NAT made of the packet that arrived there: \
             <span class=\"key good\">one step closer</span>, \
             <span class=\"key bad\">no further</span>, \
             <span class=\"key neutral\">passed on</span>.</p>\n"
        ));
        for (index, ladder) in self.ladders.iter().enumerate() {
            page.add(format_args!(
                "<article>\n<h3 id=\"ladder-{index}\">{}</h3>\n",
                escape(&ladder.title)
            ));
            self.cells_with(page, index);
            page.add(format_args!(
                "<div class=\"scroll\" tabindex=\"0\" role=\"region\" \
                 aria-label=\"Ladder diagram\">\n{}</div>\n\
                 <details><summary>The same as text</summary>\n<div class=\"scroll\" \
                 tabindex=\"0\" role=\"region\" aria-label=\"Ladder as text\"><pre>",
                ladder.svg(&format!("picture-{index}"))
            ));
            for line in ladder.to_text(120).lines() {
                page.add(format_args!("{}\n", escape(line)));
            }
            page.add(format_args!("</pre></div></details>\n</article>\n"));
        }
        page.add(format_args!("</section>\n"));
    }

    /// Writes from which cells a ladder is.
    fn cells_with(&self, page: &mut Markup, ladder: usize) {
        let mut separator = "<p class=\"muted\">A run of ";
        let mut any = false;
        for (index, series) in self.series.iter().enumerate() {
            let cells = series.cells.iter();
            for cell in cells.filter(|cell| cell.ladder == Some(ladder)).take(20) {
                let (dialler, listener) = (self.kind(cell.dialler), self.kind(cell.listener));
                page.add(format_args!(
                    "{separator}<a href=\"#cell-{index}-{}-{}\">{} dials {}</a>, {}",
                    cell.dialler,
                    cell.listener,
                    escape(&dialler),
                    escape(&listener),
                    escape(&series.name),
                ));
                separator = "; ";
                any = true;
            }
        }
        if any {
            page.add(format_args!(".</p>\n"));
        }
    }

    fn notes_section(&self, page: &mut Markup) {
        if self.notes.is_empty() {
            return;
        }
        page.add(format_args!("<section>\n<h2>Notes</h2>\n<ul>\n"));
        for note in &self.notes {
            page.add(format_args!("<li>{}</li>\n", escape(note)));
        }
        page.add(format_args!("</ul>\n</section>\n"));
    }
}
