//! Line plots as SVG, written by hand: few lines of text, no dependency, the same bytes every time.

use std::fmt::Write as _;

use super::schemes::Scheme;

const PANEL_WIDTH: f64 = 520.0;
const PANEL_HEIGHT: f64 = 330.0;
/// Around the area of the lines, within a panel.
const LEFT: f64 = 62.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 48.0;
/// Above the panels, for the title and the legend.
const HEAD: f64 = 64.0;
/// The numbers of members that are written below the lines.
const TICKS: [u32; 9] = [2, 8, 16, 24, 32, 40, 48, 56, 64];

/// A plot over the number of members.
pub(super) struct Panel<'a> {
    /// What stands above it.
    pub(super) title: &'a str,
    /// What the height means.
    pub(super) what: &'a str,
    /// The least and the greatest height.
    pub(super) ends: (f64, f64),
    /// A line per scheme.
    pub(super) lines: Vec<(&'a Scheme, Vec<(f64, f64)>)>,
}

/// A whole drawing: a title, one legend, and panels side by side.
pub(super) fn figure(title: &str, panels: &[Panel<'_>]) -> String {
    let (width, height) = (PANEL_WIDTH * panels.len() as f64, HEAD + PANEL_HEIGHT);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <title>{title}</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    text(&mut out, (14.0, 22.0), "font-size=\"16\" font-weight=\"bold\"", title);
    if let Some(panel) = panels.first() {
        legend(&mut out, panel, width);
    }
    for (place, panel) in panels.iter().enumerate() {
        let _ = writeln!(out, "<g transform=\"translate({} {HEAD})\">", PANEL_WIDTH * place as f64);
        panel.draw(&mut out);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

/// A sample of each line with its name, in as many rows as the width needs.
fn legend(out: &mut String, panel: &Panel<'_>, width: f64) {
    const ENTRY: f64 = 165.0;
    let per_row = ((width - 14.0) / ENTRY) as usize;
    for (place, (scheme, _)) in panel.lines.iter().enumerate() {
        let x = 14.0 + ENTRY * (place % per_row) as f64;
        let y = 42.0 + 19.0 * (place / per_row) as f64;
        let _ = writeln!(
            out,
            "<line x1=\"{x}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" {}/>",
            x + 26.0,
            stroke(scheme)
        );
        text(out, (x + 32.0, y + 4.0), "", scheme.name);
    }
}

fn stroke(scheme: &Scheme) -> String {
    let Scheme { colour, dashes, .. } = scheme;
    // Ours is the first, and drawn thicker.
    let width = if *colour == "#000000" { 3.0 } else { 1.8 };
    format!(
        "stroke=\"{colour}\" stroke-width=\"{width}\" stroke-dasharray=\"{dashes}\" fill=\"none\""
    )
}

impl Panel<'_> {
    fn draw(&self, out: &mut String) {
        text(out, (LEFT, TOP - 10.0), "font-weight=\"bold\"", self.title);
        self.grid(out);
        // Ours is thick, so that the others show where they lie on it.
        for (scheme, points) in &self.lines {
            let at = |&(x, y): &(f64, f64)| format!("{:.1},{:.1}", across(x), self.y(y));
            let points: Vec<String> = points.iter().map(at).collect();
            let _ = writeln!(out, "<polyline points=\"{}\" {}/>", points.join(" "), stroke(scheme));
        }
        let below = (f64::midpoint(LEFT, PANEL_WIDTH - RIGHT), PANEL_HEIGHT - 10.0);
        text(out, below, "text-anchor=\"middle\"", "members");
        let (x, y) = (16.0, f64::midpoint(TOP, PANEL_HEIGHT - BOTTOM));
        let turned = format!("text-anchor=\"middle\" transform=\"rotate(-90 {x} {y})\"");
        text(out, (x, y), &turned, self.what);
    }

    fn grid(&self, out: &mut String) {
        let right = PANEL_WIDTH - RIGHT;
        let (low, high) = self.ends;
        let step = if high - low > 2.0 { 0.5 } else { 0.2 };
        for number in 0..=((high - low) / step).round() as u32 {
            let value = low + step * f64::from(number);
            let y = self.y(value);
            let _ = writeln!(
                out,
                "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" \
                 stroke=\"#dddddd\"/>"
            );
            let at = (LEFT - 8.0, y + 4.0);
            text(out, at, "text-anchor=\"end\"", &format!("{value:.1}"));
        }
        for members in TICKS {
            let at = (across(f64::from(members)), PANEL_HEIGHT - BOTTOM + 18.0);
            text(out, at, "text-anchor=\"middle\"", &members.to_string());
        }
    }

    fn y(&self, value: f64) -> f64 {
        let (low, high) = self.ends;
        let bottom = PANEL_HEIGHT - BOTTOM;
        bottom - (value - low) / (high - low) * (bottom - TOP)
    }
}

/// Where so many members stand, from left to right.
fn across(members: f64) -> f64 {
    LEFT + (members - 2.0) / 62.0 * (PANEL_WIDTH - LEFT - RIGHT)
}

fn text(out: &mut String, (x, y): (f64, f64), style: &str, words: &str) {
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{words}</text>");
}
