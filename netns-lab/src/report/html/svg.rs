//! A ladder as a picture in a page.

use super::{
    layout::{Arrow, End, LINE, Layout, PADDING, Style, Text},
    markup::{Markup, escape},
};
use crate::report::{ColumnKind, Ladder, Tone};

impl Ladder {
    /// Returns the ladder as SVG for a page that has the report's style; `id` tells it from others
    /// in the page.
    pub(super) fn svg(&self, id: &str) -> String {
        let ladder = self.bounded();
        let layout = Layout::of(&ladder);
        let (width, height) = (layout.width, layout.height);
        let mut svg = Markup::default();
        svg.add(format_args!(
            "<svg class=\"ladder\" role=\"img\" aria-labelledby=\"{id}-title {id}-desc\" \
             width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
             <title id=\"{id}-title\">{}</title>\n\
             <desc id=\"{id}-desc\">Ladder diagram with {} steps between {}. \
             The same stands as text below.</desc>\n",
            escape(&ladder.title),
            ladder.steps.len(),
            escape(&names(&ladder)),
        ));
        rails(&mut svg, &ladder, &layout);
        // Texts come after the lines, so that none runs through them.
        for arrow in &layout.arrows {
            draw_line(&mut svg, arrow);
        }
        for text in &layout.texts {
            draw_text(&mut svg, text);
        }
        for arrow in &layout.arrows {
            draw_end(&mut svg, arrow);
        }
        svg.add(format_args!("</svg>\n"));
        svg.into_text()
    }
}

fn names(ladder: &Ladder) -> String {
    let names: Vec<_> = ladder.columns.iter().map(|one| one.name.as_str()).collect();
    names.join(", ")
}

/// Draws the columns with their names, and the times.
fn rails(svg: &mut Markup, ladder: &Ladder, layout: &Layout) {
    for ((x, name), column) in layout.columns.iter().zip(&ladder.columns) {
        let mut from = layout.top;
        for (start, end, _) in &layout.gaps {
            svg.add(format_args!(
                "<path class=\"rail\" d=\"M{x} {from}V{start}\"/>\
                 <path class=\"rail gap\" d=\"M{x} {start}V{end}\"/>"
            ));
            from = *end;
        }
        svg.add(format_args!(
            "<path class=\"rail\" d=\"M{x} {from}V{}\"/>\n",
            layout.height
        ));
        let kind = match column.kind {
            ColumnKind::Host => "host",
            ColumnKind::Nat => "nat",
            ColumnKind::Core => "core",
        };
        let (left, width) = (x - 56, 112);
        let height = layout.top - 1;
        svg.add(format_args!(
            "<rect class=\"head {kind}\" x=\"{left}\" y=\"1\" width=\"{width}\" \
             height=\"{height}\" rx=\"4\"/>"
        ));
        lines(svg, name, "name", *x, PADDING + 1);
    }
    for (y, time) in &layout.times {
        let (base, end) = (y + LINE - 3, layout.width);
        svg.add(format_args!(
            "<path class=\"tick\" d=\"M72 {y}H{end}\"/>\
             <text class=\"time\" x=\"64\" y=\"{base}\">{time}</text>\n"
        ));
    }
    for (start, end, quiet) in &layout.gaps {
        // Above the next time, as far as it can be.
        let middle = i32::midpoint(*start, *end) + 9;
        svg.add(format_args!(
            "<text class=\"time quiet\" x=\"64\" y=\"{middle}\">&#8942; {quiet}</text>\n"
        ));
    }
}

fn draw_line(svg: &mut Markup, arrow: &Arrow) {
    let ((x, y), (end_x, end_y)) = (arrow.from, arrow.to);
    let class = match arrow.end {
        End::Head if arrow.is_error => "arrow error",
        End::Head => "arrow",
        End::Cross => "arrow lost",
        End::Open => "arrow open",
    };
    svg.add(format_args!(
        "<path class=\"{class}\" d=\"M{x} {y}L{end_x} {end_y}\"/>\n"
    ));
}

fn draw_end(svg: &mut Markup, arrow: &Arrow) {
    let ((x, y), (end_x, end_y)) = (arrow.from, arrow.to);
    match arrow.end {
        End::Head => {
            let (across, down) = (f64::from(end_x - x), f64::from(end_y - y));
            let long = across.hypot(down).max(1.0);
            let (ux, uy) = (across / long, down / long);
            let class = if arrow.is_error { "tip error" } else { "tip" };
            let (tip_x, tip_y) = (f64::from(end_x), f64::from(end_y));
            let (back_x, back_y) = (tip_x - 9.0 * ux, tip_y - 9.0 * uy);
            svg.add(format_args!(
                "<path class=\"{class}\" d=\"M{tip_x} {tip_y}L{:.1} {:.1}L{:.1} {:.1}Z\"/>\n",
                back_x - 4.0 * uy,
                back_y + 4.0 * ux,
                back_x + 4.0 * uy,
                back_y - 4.0 * ux,
            ));
        }
        End::Cross => svg.add(format_args!(
            "<path class=\"cross\" d=\"M{} {}l10 10m0 -10l-10 10\"/>\n",
            end_x - 5,
            end_y - 5
        )),
        End::Open => {}
    }
}

fn draw_text(svg: &mut Markup, text: &Text) {
    let Text {
        left, right, top, ..
    } = *text;
    match text.style {
        Style::Label { leftwards, lost } => {
            let class = match (leftwards, lost) {
                (false, false) => "label",
                (true, false) => "label leftwards",
                (false, true) => "label lost",
                (true, true) => "label lost leftwards",
            };
            let x = if leftwards { right } else { left };
            lines(svg, &text.lines, class, x, top);
        }
        Style::Note(tone) => {
            let class = match tone {
                Tone::Neutral => "note",
                Tone::Good => "note good",
                Tone::Bad => "note bad",
            };
            svg.add(format_args!(
                "<rect class=\"{class}\" x=\"{left}\" y=\"{top}\" width=\"{}\" height=\"{}\" \
                 rx=\"3\"/>",
                right - left,
                text.bottom - top,
            ));
            let middle = i32::midpoint(left, right);
            lines(svg, &text.lines, class, middle, top + PADDING / 2);
        }
    }
}

fn lines(svg: &mut Markup, lines: &[String], class: &str, x: i32, top: i32) {
    svg.add(format_args!("<text class=\"{class}\">"));
    let mut base = top + LINE - 3;
    for line in lines {
        let line = escape(line);
        svg.add(format_args!("<tspan x=\"{x}\" y=\"{base}\">{line}</tspan>"));
        base += LINE;
    }
    svg.add(format_args!("</text>\n"));
}
